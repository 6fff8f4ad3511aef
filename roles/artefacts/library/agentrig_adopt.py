#!/usr/bin/python3
"""Copy weights that already lie on the host into the staging folder, so that they need not be carried."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import pathlib
import stat

from ansible.module_utils.agentrig import STAGING, Refused, alone
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_adopt
short_description: Weights that others keep on the host
description:
  - Looks for what is missing in the places given, where files bear their sha256 as a name, and copies it into the
    staging folder. The copy is hashed, whatever its name says; the file it was made from is only ever read.
  - The copy shares its bytes with the original where the file system can do that; it is never the same file, since
    its owner may write into his own at any time.
options:
  trees: {type: list, elements: dict, required: true, description: Trees with C(kind) and C(parts).}
  missing: {type: list, elements: str, required: true, description: Digests of the parts that the host lacks.}
  places: {type: list, elements: str, default: [], description: "Shell patterns of paths, C({digest}) in each."}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Adopt what lies on the host
  agentrig_adopt: {trees: [], missing: [], places: ["/usr/share/ollama/.ollama/models/blobs/sha256-{digest}"]}
"""
RETURN = r"""
missing: {description: Digests that must still be carried., returned: always, type: list}
changes: {description: What was done or would be, in words., returned: always, type: list}
"""
#: ioctl_ficlonerange(2).
FICLONE = 0x40049409
CHUNK = 1 << 20
#: Smaller files are carried in no time.
LEAST_BYTES = 1 << 20


def wanted(params):
    """Give digest -> part for the weights that are missing: large files, each whole."""
    parts = [part for tree in params["trees"] if tree["kind"] == "file" for part in tree["parts"]]
    missing = set(params["missing"])
    return {part["digest"]: part for part in parts if part["digest"] in missing and part["bytes"] >= LEAST_BYTES}


@contextlib.contextmanager
def opened(path, size):
    """Give a regular file of a size, open for reading, or None for anything else; no link is followed to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        yield file if stat.S_ISREG(about.st_mode) and about.st_size == size else None


def copied(source, target):
    """Copy an open file to a new one and give the sha256 of what was written."""
    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        with contextlib.suppress(OSError):
            fcntl.ioctl(descriptor, FICLONE, source.fileno())
            while block := file.read(CHUNK):
                digest.update(block)
            return digest.hexdigest()
        while block := source.read(CHUNK):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def adopt(part, places, *, check):
    """Bring one part into the staging folder from the first place that has its bytes; give from where, or None."""
    staged = STAGING / part["digest"]
    beside = staged.with_name(f"{part['digest']}.adopted")
    for place in places:
        for path in sorted(glob.glob(place.replace("{digest}", part["digest"]))):  # noqa: PTH207 - an absolute pattern
            with opened(path, part["bytes"]) as source:
                if source is None:
                    continue
                if check:
                    return path
                try:
                    if copied(source, beside) == part["digest"]:
                        beside.replace(staged)
                        return path
                finally:
                    beside.unlink(missing_ok=True)
    return None


def main():
    module = AnsibleModule(
        argument_spec={
            "trees": {"type": "list", "elements": "dict", "required": True},
            "missing": {"type": "list", "elements": "str", "required": True},
            "places": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    changes, found = [], set()
    try:
        with alone(module):
            for digest, part in wanted(module.params).items():
                if path := adopt(part, module.params["places"], check=module.check_mode):
                    found.add(digest)
                    changes.append(f"adopt {pathlib.Path(part['file']).name}, {part['bytes']} bytes, from {path}")
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    left = [digest for digest in module.params["missing"] if digest not in found]
    module.exit_json(changed=bool(changes), changes=changes, missing=left)


if __name__ == "__main__":
    main()
