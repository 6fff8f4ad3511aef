"""``deploy.lock`` as a file, its signature beside it: read with care, written whole or not at all.

The signature is of the file's bytes, so that ``ssh-keygen -Y verify`` checks it alone. It is put there before the lock
that it is of, and until that lock is there it stands before the former one's in the same file: whenever the writing is
cut off, the lock has its signature.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.errors import LockError, SignatureError, UsageError
from orchestrator.lockfile import Lock
from orchestrator.signing import Kind, check, signatures
from orchestrator.state import give_to_caller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.lockfile import HostLock
    from orchestrator.signing import Signers

    Sign = Callable[[bytes, Kind], str]

_DO = "put back what version control has, or remove the file and run deploy lock"


@dataclass(frozen=True, slots=True)
class SignedLock:
    """A lock, the bytes of its file, their signature, and who signed them."""

    lock: Lock
    content: bytes
    signature: str
    signer: str = ""


def signature_file(path: Path) -> Path:
    """Give where the signature of a lock lies. Pure."""
    return path.with_name(f"{path.name}.sig")


def read(path: Path) -> Lock | None:
    """Read a lock whoever wrote it; None where there is no file. Raises UsageError that says where it is not one."""
    found = _parsed(path)
    return found[0] if found else None


def read_signed(path: Path, signers: Callable[[], Signers]) -> SignedLock | None:
    """Read a lock that one of the signers signed as it stands; None where there is no file.

    Raises UsageError for what is no lock, SignatureError for one that was edited by hand or that nobody known signed.
    """
    found = _parsed(path)
    if found is None:
        return None
    lock, content = found
    beside = signature_file(path)
    try:
        signature = beside.read_text(encoding="utf-8")
    except FileNotFoundError:
        signature = ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the lock's signature cannot be read: {error}", where=str(beside), do=_DO) from error
    try:
        signer = check(content, signature, Kind.LOCK, signers(), title="the lock", where=str(path))
    except SignatureError as error:
        raise _told(error, path, lock) from error
    return SignedLock(lock, content, signature, signer)


def write(path: Path, lock: Lock, sign: Sign) -> SignedLock:
    """Write a lock and the signature that ``sign`` makes of it, each beside its file first, then renamed.

    Raises LockError where that cannot be done, SigningError where it was not signed; then all is as it was.
    """
    content = lock.to_json().encode()
    signed = SignedLock(lock, content, sign(content, Kind.LOCK))
    beside = signature_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        former = signatures(beside.read_text(encoding="utf-8", errors="replace")) if beside.is_file() else ()
        _put(beside, (signed.signature + "".join(former)).encode())
        _put(path, content)
        _put(beside, signed.signature.encode())
    except OSError as error:
        raise LockError(f"the lock cannot be written: {error.strerror or error}", where=str(path)) from error
    return signed


def sign_as_it_stands(path: Path, sign: Sign) -> SignedLock:
    """Sign a lock as it lies there; raises UsageError where there is none, LockError, SigningError."""
    found = _parsed(path)
    if found is None:
        raise UsageError("there is no lock to sign", where=str(path), do="write one: deploy lock --profile P")
    lock, content = found
    signed = SignedLock(lock, content, sign(content, Kind.LOCK))
    try:
        _put(signature_file(path), signed.signature.encode())
    except OSError as error:
        raise LockError(f"the signature cannot be written: {error.strerror or error}", where=str(path)) from error
    return signed


def _told(error: SignatureError, path: Path, lock: Lock) -> SignatureError:
    """Give a refusal of a lock's signature in the words of its owner, with what he can do."""
    by_hand = f"look at it, then sign it as it stands: deploy lock --sign {shlex.quote(str(path))}"
    words = {
        "unsigned": (
            f"the lock {lock.lock_digest} is not signed: there is no {signature_file(path).name}",
            by_hand,
        ),
        "edited": (
            "the lock is not what was signed: it was edited by hand, or the signature is of another",
            f"put back what version control has of both; or {by_hand}",
        ),
    }
    what, do = words.get(error.reason, (error.what, error.do or by_hand))
    return SignatureError(what, reason=error.reason, where=str(path), do=do)


def _put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it first, then renamed; raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        give_to_caller(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _parsed(path: Path) -> tuple[Lock, bytes] | None:
    try:
        content = path.read_bytes()
        text = content.decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the lock cannot be read: {error}", where=str(path), do=_DO) from error
    try:
        lock = Lock.from_json(text)
    except ValidationError as error:
        raise UsageError(_what(text, error), where=_where(path, text), do=_DO) from error
    _refers_to_itself(lock, path)
    return lock, content


def _what(text: str, error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    known = _document(text)
    number = first["loc"][1] if len(first["loc"]) > 1 and first["loc"][0] == "artefacts" else None
    if isinstance(number, int) and isinstance(known, dict):
        one = known["artefacts"][number]
        place = f"{place} ({one.get('kind')} {one.get('name')})" if isinstance(one, dict) else place
    said = first["msg"][:1].lower() + first["msg"][1:]
    return f"the lock is not one: {place}: {said}" if place else f"the lock is not one: {said}"


def _document(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _where(path: Path, text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{path}, line {error.lineno}"
    return str(path)


def _refers_to_itself(lock: Lock, path: Path) -> None:
    """Raise UsageError where a host or a built tree names an artefact that is not in the lock."""
    known = lock.by_id()
    named = [(f"hosts.{name}", ref) for name, host in lock.hosts.items() for ref in _references(host)]
    named += [(f"{one.kind} {one.name}", ref) for one in lock.artefacts for ref in one.parts]
    for place, ref in named:
        if ref not in known:
            raise UsageError(f"the lock is not one: {place} names {ref}, which is not in it", where=str(path), do=_DO)


def _references(host: HostLock) -> tuple[str, ...]:
    return (*host.links.values(), *host.debs, *host.asked)
