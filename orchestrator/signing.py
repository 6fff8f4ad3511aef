"""The owner's signature: OpenSSH's own, made and checked by ``ssh-keygen -Y``, so that anyone can check it by hand.

A signature stands beside what it signs and names one kind of thing (the namespace of ``ssh-keygen(1)``), so that a
bundle's is none of a lock. Whose signatures count is told beforehand; a key that travels with what it signs proves
nothing and is never looked at.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import SignatureError, SigningError
from orchestrator.state import give_to_caller

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.errors import SignatureFault

#: Seconds that a signature may take: a key in a security token waits for a finger.
PATIENCE_S = 120
#: Where the owner of a host says whose locks it takes. Never written by us.
HOST_SIGNERS = Path("/etc/agentrig/allowed_signers")
#: Who the key of this control machine is, in the allowed signers of this control machine.
OWNER = "owner"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_BLOCK = re.compile(f"{_BEGIN}\n.*?\n{_END}\n?", re.DOTALL)
#: A principal that is one name, not a list of patterns (ssh_config(5), PATTERNS).
_NAME = re.compile(r"[^\s*?!,\"]+")
#: What a signature begins with (OpenSSH's PROTOCOL.sshsig): these six letters and a version of four bytes.
_MAGIC, _VERSION = b"SSHSIG", struct.pack(">I", 1)


class Kind(StrEnum):
    """What a signature is of: the namespace that ``ssh-keygen -Y`` is given."""

    LOCK = "agentrig-lock"
    BUNDLE = "agentrig-bundle"
    ATTESTATION = "agentrig-attestation"


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures count here: lines of OpenSSH's ``allowed_signers``, all of them given beforehand.

    ``file`` is where another's key would be added.
    """

    lines: str
    file: Path

    @classmethod
    def here(cls, root: Path, extra: Path | None = None) -> Signers:
        """Give the own key's line, and what ``extra``, ``AGENTRIG_SIGNERS`` and the user's configuration hold.

        ``root`` is the state's folder. Raises SigningError where a file that was named is not there.
        """
        base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        usual = Path(base).expanduser() / "agentrig/allowed_signers"
        environment = os.environ.get("AGENTRIG_SIGNERS")
        named = [path for path in (extra, Path(environment).expanduser() if environment else None) if path]
        texts = [f"{OWNER} {public}\n" for public in dict.fromkeys(_own_public(root))]
        texts += [_signers_file(path) for path in named]
        if usual.is_file() and usual not in named:
            texts.append(_signers_file(usual))
        return cls("".join(texts), named[-1] if named else usual)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a signature says of itself, before anybody trusts it: the public key, its fingerprint, the namespace."""

    public: str
    fingerprint: str
    namespace: str


def owner_key(root: Path) -> Path:
    """Give the owner's key: the one that ``AGENTRIG_SIGNING_KEY`` names, else the state's, made at first need."""
    if named := os.environ.get("AGENTRIG_SIGNING_KEY"):
        key = Path(named).expanduser()
        if not key.is_file():
            raise SigningError(
                "the key to sign with is not there", where=str(key), do="set AGENTRIG_SIGNING_KEY to a file that is"
            )
        return key
    key = root / "keys/owner"
    if not key.is_file():
        _make(key)
    return key


def public_of(key: Path) -> str:
    """Give the public half of a key as ``type base64``; raises SigningError."""
    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        text = beside.read_text(encoding="utf-8") if beside.is_file() else _ran(["-y", "-P", "", "-f", str(key)])
    except (OSError, UnicodeDecodeError) as error:
        raise SigningError(f"the public key cannot be read: {error}", where=str(beside)) from error
    except _Refused as error:
        raise SigningError(
            f"the public half of this key is not known: {error}",
            where=str(key),
            do=f"write it: ssh-keygen -y -f {key} > {beside}",
        ) from error
    words = text.split()
    if len(words) < 2:  # noqa: PLR2004 - type and key
        raise SigningError("this is no public key", where=str(beside))
    return " ".join(words[:2])


def sign(content: bytes, kind: Kind, key: Path) -> str:
    """Give the armoured signature of ``content``; raises SigningError that says what to do."""
    try:
        return _ran(["-Y", "sign", "-n", kind, "-f", str(key)], content)
    except _Refused as error:
        said = str(error)
        do = "give ssh-keygen a key that it can read, by AGENTRIG_SIGNING_KEY"
        if "incorrect passphrase" in said:
            do = f"let an agent hold it: ssh-add {key.with_suffix('') if key.suffix == '.pub' else key}"
            said = "it has a passphrase, and no agent holds it"
        elif "No private key found" in said:
            do = f"add it to the agent that SSH_AUTH_SOCK names: ssh-add {key.with_suffix('')}"
        raise SigningError(f"the key did not sign: {said}", where=str(key), do=do) from error


def signatures(text: str) -> tuple[str, ...]:
    """Give the signatures of a file that holds one or more, in their order. Pure."""
    return tuple(_BLOCK.findall(text.replace("\r\n", "\n")))


def seen(signature: str) -> Seen | None:
    """Read what a signature says of itself, or None where it is none. Pure."""
    lines = signature.strip().splitlines()
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
        if not blob.startswith(_MAGIC + _VERSION):
            return None
        public, rest = _counted(blob[len(_MAGIC + _VERSION) :])
        namespace, _ = _counted(rest)
        name, _ = _counted(public)
        fingerprint = base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")
        return Seen(
            f"{name.decode('ascii')} {base64.b64encode(public).decode()}",
            f"SHA256:{fingerprint}",
            namespace.decode(),
        )
    except (binascii.Error, ValueError, struct.error):
        return None


def check(  # noqa: PLR0913 - what is signed, by whom, and how it is spoken of
    content: bytes, signature: str, kind: Kind, signers: Signers, *, title: str, where: str
) -> str:
    """Give who signed ``content``, as the signers' file names him.

    ``signature`` may hold several, newest first: one of them must be of this content and by a known key. Raises
    SignatureError, whose ``reason`` tells what is wrong, and SigningError where ssh-keygen is not there.
    """
    found = signatures(signature)
    if not found:
        said = "is not one that ssh-keygen made" if signature.strip() else "is missing"
        reason: SignatureFault = "garbled" if signature.strip() else "unsigned"
        raise SignatureError(f"the signature of {title} {said}", reason=reason, where=where)
    refusals = []
    for one in found:
        try:
            return _signed_by(content, one, kind, signers, title=title, where=where)
        except SignatureError as error:
            refusals.append(error)
    # What is of this content but by an unknown key says more than what is of another content.
    raise next((one for one in refusals if one.reason in {"unknown", "not_allowed"}), refusals[0])


def _signed_by(  # noqa: PLR0913 - as above
    content: bytes, signature: str, kind: Kind, signers: Signers, *, title: str, where: str
) -> str:
    key = seen(signature)
    refused = ""
    with tempfile.TemporaryDirectory(prefix="agentrig-signed-") as room:
        known, file = Path(room, "allowed_signers"), Path(room, "signature")
        file.write_text(signature, encoding="utf-8")
        beside = ["-s", str(file), "-n", kind]
        for line in signers.lines.splitlines():
            if key and not line.startswith("#") and (key.public in line or "cert-authority" in line):
                known.write_text(f"{line}\n", encoding="utf-8")
                try:
                    name = _principal(line, known, file, content)
                    _ran(["-Y", "verify", *beside, "-f", str(known), "-I", name], content)
                except _Refused as error:
                    refused = refused or str(error)
                else:
                    return name
        try:
            _ran(["-Y", "check-novalidate", *beside], content)
        except _Refused as error:
            raise _not_of_this(key, kind, title, where) from error
    raise _by_nobody(key, kind, signers, refused, title, where)


def _principal(line: str, known: Path, file: Path, content: bytes) -> str:
    """Give whom a line of signers names: its beginning, or where that is a pattern what ssh-keygen makes of it."""
    first = line.split(maxsplit=1)[0]
    if _NAME.fullmatch(first) and "cert-authority" not in line:
        return first
    return _ran(["-Y", "find-principals", "-s", str(file), "-f", str(known)], content).split("\n")[0]


def _not_of_this(said: Seen | None, kind: Kind, title: str, where: str) -> SignatureError:
    if said is None:
        return SignatureError(
            f"the signature of {title} is not one that ssh-keygen made", reason="garbled", where=where
        )
    if said.namespace != kind:
        what = f"what stands beside {title} as its signature is one of another kind ({said.namespace})"
        return SignatureError(what, reason="another_kind", where=where)
    return SignatureError(
        f"{title} is not what was signed: it was changed since, or the signature is another's",
        reason="edited",
        where=where,
    )


def _by_nobody(  # noqa: PLR0913, PLR0917 - the facts of one sentence
    key: Seen | None, kind: Kind, signers: Signers, said: str, title: str, where: str
) -> SignatureError:
    if complaint := re.search(r"key (?:is not permitted|has expired|is not yet)[^;]*", said):
        return SignatureError(
            f"{title} is signed by a known key that may not sign it: {complaint.group()}",
            reason="not_allowed",
            where=where,
            do=f"look at the key's line in {signers.file}: its namespaces and its times",
        )
    public, fingerprint = (key.public, key.fingerprint) if key else ("", "")
    return SignatureError(
        f"{title} is signed by a key that nobody gave beforehand: {fingerprint}",
        reason="unknown",
        where=where,
        do="where its owner has told you this fingerprint himself, add the line "
        f"'NAME namespaces=\"{kind}\" {public}' to {signers.file}",
    )


def _own_public(root: Path) -> Iterator[str]:
    """Give the public halves of the owner's keys; none is made for a look.

    The named one, the state's, and those that this user's other states made.
    """
    if os.environ.get("AGENTRIG_SIGNING_KEY"):
        yield public_of(owner_key(root))
    if (key := root / "keys/owner").is_file():
        yield public_of(key)
    for line in _signers_file(_own_keys()).splitlines() if _own_keys().is_file() else ():
        yield " ".join(line.split()[-2:])


def _own_keys() -> Path:
    """Give the file of the keys that were made for this user: a lock of one of his states counts in all of them."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "agentrig/own_keys"


def _remember(public: str) -> None:
    """Let this user's other states know a key of his; where his folder of states cannot be written they do not."""
    file = _own_keys()
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{public}\n")
        for made in (file.parent, file):
            give_to_caller(made)


def _signers_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\n") + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise SigningError(
            f"the keys that count here cannot be read: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            do="set AGENTRIG_SIGNERS to a file in the form of ssh-keygen's allowed_signers",
        ) from error


def _make(key: Path) -> None:
    """Make the owner's key, mode 0600, once for all who ask at the same time."""
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=key.parent, prefix=".new-") as room:
        made = Path(room, "owner")
        try:
            _ran(["-q", "-t", "ed25519", "-N", "", "-C", "agentrig", "-f", str(made)])
        except _Refused as error:
            raise SigningError(f"a key to sign with was not made: {error}", where=str(key)) from error
        with contextlib.suppress(FileExistsError):
            os.link(made, key)
            made.with_suffix(".pub").rename(key.with_suffix(".pub"))
            _remember(public_of(key))
            give_to_caller(key)
            give_to_caller(key.with_suffix(".pub"))


class _Refused(Exception):  # noqa: N818 - what ssh-keygen said, told on by the caller
    """What ssh-keygen said when it did not do it."""


def _ran(words: Sequence[str], content: bytes = b"") -> str:
    """Run ssh-keygen and give what it said; raises _Refused with its last words.

    It has no terminal: a passphrase is asked by an agent or by ``SSH_ASKPASS``, never in the middle of a screen.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SigningError(
            "ssh-keygen is not on this machine: signatures are neither made nor checked without it",
            do="install openssh-client",
        )
    try:
        done = subprocess.run(
            [program, *words],
            input=content,
            capture_output=True,
            timeout=PATIENCE_S,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _Refused(f"no answer within {PATIENCE_S} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise _Refused("; ".join(lines) or f"exit code {done.returncode}")
    return done.stdout.decode()


def _counted(blob: bytes) -> tuple[bytes, bytes]:
    """Part a string with its length in front from what follows it (RFC 4251, section 5); raises ValueError."""
    (length,) = struct.unpack_from(">I", blob)
    if len(blob) < 4 + length:
        message = "shorter than it says"
        raise ValueError(message)
    return blob[4 : 4 + length], blob[4 + length :]
