#!/usr/bin/python3
"""See that a lock is signed by one whom this host's owner named beforehand, before anything of it is placed."""

from __future__ import annotations

import base64
import binascii
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import zlib

from ansible.module_utils.agentrig import Refused, is_there
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_signed
short_description: A lock's signature, held against those whom the host's owner named
description:
  - Where C(/etc/agentrig/allowed_signers) is on the host, the lock must be signed by a key that stands there, and all
    that is about to be placed must be in the lock. Checked by the host's own C(ssh-keygen), in check mode too.
  - Where there is no such file, the host trusts the control machine. Changes nothing.
options:
  lock: {type: str, default: '', description: The bytes of the lock's file, compressed (zlib), in base64.}
  signature: {type: str, default: '', description: 'Signatures of ssh-keygen, the newest first.'}
  name: {type: str, default: '', description: The host's name in the lock.}
  digests: {type: list, elements: str, default: [], description: All that is about to be placed, by sha256.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: See who signed the lock
  agentrig_signed: {lock: '', signature: '', name: rig, digests: []}
"""
RETURN = r"""
signer: {description: Who signed the lock; empty where the host asks for no signature., returned: always, type: str}
"""
SIGNERS = pathlib.Path("/etc/agentrig/allowed_signers")
NAMESPACE = "agentrig-lock"
#: A lock of a thousand hosts is some 10 MiB; what unpacks to more than this many bytes is none.
LARGEST = 256 << 20
PATIENCE_S = 60
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_BLOCK = re.compile("-----BEGIN SSH SIGNATURE-----\n.*?\n-----END SSH SIGNATURE-----\n?", re.DOTALL)
_REMEDY = f"have the lock signed by one whom {SIGNERS} there names, or ask the host's owner to name its signer"


class Unsigned(Exception):  # noqa: N818 - it says what happened, and no program is at fault
    """The lock does not bear what the host's owner asks for: what is wrong with it, in a word and in a sentence."""

    def __init__(self, reason, what):
        super().__init__(what)
        self.reason = reason


def refuse_what_proves_nothing():
    """Refuse a host that cannot check a signature, and a file of signers that another than root could have written."""
    if shutil.which("ssh-keygen", path=_PATH) is None:
        raise Refused(f"{SIGNERS} is there, but no ssh-keygen to check a signature with: install openssh-client there")
    for path in (SIGNERS, SIGNERS.parent):
        about = path.stat()
        if about.st_uid != 0 or about.st_mode & 0o022:
            raise Refused(
                f"{path} can be written by another than root, so it proves nothing: chmod go-w and chown root"
            )


def ssh_keygen(words, content):
    """Run the host's ssh-keygen; give its exit code and what it said."""
    environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["ssh-keygen", "-Y", *words],
        input=content,
        env=environment,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def signer_of(content, signature, room):
    """Give who signed these bytes, as the host's file names him; raise Unsigned."""
    known, file = room / "allowed_signers", room / "signature"
    beside = ["-s", str(file), "-n", NAMESPACE]
    found = _BLOCK.findall(signature)
    if not found:
        raise Unsigned("unsigned", f"this host takes only a lock that is signed, and this one is not ({SIGNERS})")
    unknown = None
    for one in found:
        file.write_text(one, encoding="ascii")
        code, said, _ = ssh_keygen(["check-novalidate", *beside], content)
        if code != 0:
            continue
        unknown = re.search(r"SHA256:\S+", said)
        for line in SIGNERS.read_text(encoding="utf-8", errors="replace").splitlines():
            known.write_text(f"{line}\n", encoding="utf-8")
            code, names, _ = ssh_keygen(["find-principals", "-s", str(file), "-f", str(known)], content)
            name = names.split("\n")[0]
            if code == 0 and ssh_keygen(["verify", *beside, "-f", str(known), "-I", name], content)[0] == 0:
                return name
    if unknown is None:
        raise Unsigned("edited", "the lock is not what was signed")
    raise Unsigned(
        "unknown", f"the lock is signed by {unknown.group()}, whom {SIGNERS} of this host does not name for it"
    )


def unpacked(text):
    """Give the lock's bytes."""
    packed = zlib.decompressobj()
    try:
        content = packed.decompress(base64.b64decode(text, validate=True), LARGEST)
    except (binascii.Error, ValueError, zlib.error):
        content = b""
    if not packed.eof:
        raise Unsigned("edited", "the lock did not arrive whole")
    return content


def refuse_strange(content, name, digests):
    """Raise Unsigned where something is about to be placed that the lock does not give this host."""
    lock = json.loads(content)
    known = {}
    for one in lock["artefacts"]:
        head = (one["digest"] or "sha256:unresolved").removeprefix("sha256:")[:12]
        known[f"{one['kind']}/{one['name']}/{one['version']}/{head}"] = one
    if name not in lock["hosts"]:
        raise Unsigned("edited", f"the signed lock has no host {name}")
    wanted, there = [*lock["hosts"][name]["links"].values(), *lock["hosts"][name]["debs"]], set()
    while wanted:
        one = known.pop(wanted.pop(), None)
        if one:
            there.add((one["digest"] or "").removeprefix("sha256:"))
            wanted += one["parts"]
    strange = [digest for digest in digests if digest not in there]
    if strange:
        raise Unsigned(
            "edited", f"what was to be placed is not in the signed lock: {strange[0]} and {len(strange) - 1} more"
        )


def main():
    module = AnsibleModule(
        argument_spec={
            "lock": {"type": "str", "default": ""},
            "signature": {"type": "str", "default": "", "no_log": False},
            "name": {"type": "str", "default": ""},
            "digests": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if not is_there(SIGNERS):
        module.exit_json(changed=False, changes=[], signer="")
    try:
        refuse_what_proves_nothing()
        content = unpacked(module.params["lock"]) if module.params["lock"] else b""
        with tempfile.TemporaryDirectory(prefix="agentrig-signed-") as room:
            os.chmod(room, 0o700)  # noqa: PTH101 - as it is made, said for who reads it
            signer = signer_of(content, module.params["signature"], pathlib.Path(room))
        refuse_strange(content, module.params["name"], module.params["digests"])
    except Unsigned as error:
        module.fail_json(msg=str(error), signature=error.reason, remedy=_REMEDY)
    except (Refused, OSError, ValueError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, changes=[], signer=signer)


if __name__ == "__main__":
    main()
