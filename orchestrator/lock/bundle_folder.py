"""A bundle on a disk, read with suspicion."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.errors import LockError, SignatureError, UsageError
from orchestrator.lock import bundle
from orchestrator.lock.bundle import BundleFile, Index
from orchestrator.lock.bundle_copy import Far, Load, carry, is_whole, sha256_of
from orchestrator.lock.document import read_signed
from orchestrator.signing import Kind, check

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.lock.document import SignedLock
    from orchestrator.lock.store import Store
    from orchestrator.lockfile import Lock
    from orchestrator.progress import Progress
    from orchestrator.signing import Signers

#: An index of a hundred thousand files has some 30 MB; what is larger is none.
_LONGEST_TEXT = 64 << 20
#: What a file system puts into its root by itself.
OF_THE_DISK = "lost+found"
GO_ON = "run deploy bundle create again: it goes on where it was"
_HASH_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose signatures hold and whose files are all there; their bytes are not read yet."""

    root: Path
    index: Index
    signed: SignedLock
    signed_by: str

    @property
    def lock(self) -> Lock:
        """Give its lock."""
        return self.signed.lock


def opened(root: Path, signers: Signers) -> Opened:
    """Open a bundle: the index's signature first, then all that it says, but for the bytes of the artefacts.

    Raises SignatureError, UsageError for an index that is none, LockError for files that are not as they were signed.
    """
    where = str(root)
    raw = _index_text(root)
    signed_by = _signer(root, raw, signers)
    index = _parsed(raw, where)
    bundle.refuse_paths(index, where)
    bundle.differences(index, without_index(files_of(root)), where)
    for name in (bundle.LOCK, bundle.LOCK_SIGNATURE):
        listed = index.by_path().get(name)
        if listed is None or not is_whole(root / name, listed.sha256, listed.bytes):
            raise bundle.not_whole([f"{name} has other bytes than were signed"], where)
    signed = read_signed(root / bundle.LOCK, lambda: signers)
    if signed is None:
        raise bundle.not_whole([f"{bundle.LOCK} is missing"], where)
    bundle.refuse_other_lock(index, signed.lock, where)
    return Opened(root, index, signed, signed_by)


def verify(one: Opened, progress: Progress) -> None:
    """Read every byte and compare; raises LockError that names the first artefact that is not as it was signed."""
    far = Far(progress, f"reading {len(one.index.files)} files", one.index.bytes)

    def fault(file: BundleFile) -> str | None:
        try:
            found = sha256_of(one.root / file.path)
        except OSError as error:
            return f"{file.name} cannot be read: {error.strerror or error}"
        far.add(file.bytes)
        return None if found == file.sha256 else f"{file.name} has other bytes than were signed ({file.path})"

    with far.told(), ThreadPoolExecutor(max_workers=_HASH_AT_ONCE, thread_name_prefix="bundle") as pool:
        faults = [said for said in pool.map(fault, one.index.files) if said]
        bundle.refuse(faults, str(one.root))


def take(one: Opened, hosts: Iterable[str], store: Store, progress: Progress) -> int:
    """Put what hosts need into the store, each file hashed on the way; gives how many the store did not have."""
    listed = one.index.by_path()
    loads = [
        Load(one.root / blob.path, blob.digest, listed[blob.path].bytes, blob.name)
        for blob in bundle.blobs_of(one.lock, tuple(hosts))
    ]
    return carry(loads, store, progress, f"taking from {one.root}", trusted=True)


def files_of(root: Path) -> dict[str, int]:
    """Give every file of a bundle with its bytes; raises LockError for a link or anything else that is no file."""
    found: dict[str, int] = {}
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        if folder == str(root):
            folders[:] = [name for name in folders if name != OF_THE_DISK]
        for name in (*folders, *names):
            path = f"{folder}/{name}".removeprefix(f"{root}/")
            state = os.lstat(f"{folder}/{name}")
            if stat.S_ISREG(state.st_mode):
                found[path] = state.st_size
            elif not stat.S_ISDIR(state.st_mode):
                kind = "a link" if stat.S_ISLNK(state.st_mode) else "no regular file"
                raise LockError(
                    f"the bundle is not whole: {path} is {kind}",
                    where=str(root),
                    do="take it away; " + bundle.CARRY_AGAIN,
                )
    return found


def _unreadable(error: OSError) -> None:
    raise LockError(f"the bundle cannot be read: {error.strerror}", where=str(error.filename)) from error


def without_index(found: dict[str, int]) -> dict[str, int]:
    """Give what an index lists of the files that are there: all but itself and its signature. Pure."""
    return {path: size for path, size in found.items() if path not in {bundle.INDEX, bundle.INDEX_SIGNATURE}}


def _index_text(root: Path) -> bytes:
    if not root.is_dir():
        raise UsageError("there is no such folder", where=str(root), do="give the folder of a bundle")
    partial = root / bundle.STORE / "partial"
    begun = (root / bundle.STORE).is_dir() and not (root / bundle.INDEX).exists()
    if begun or partial.is_dir():
        raise LockError("the bundle is not whole: it was not written to its end", where=str(root), do=GO_ON)
    if not (root / bundle.INDEX).exists():
        raise UsageError(f"this folder is no bundle: it has no {bundle.INDEX}", where=str(root), do="give another")
    return _text(root, bundle.INDEX)


def _text(root: Path, name: str) -> bytes:
    """Read a small file of a bundle, b"" where it is missing; raises LockError for what is none."""
    try:
        descriptor = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LockError(
            f"the bundle is not whole: {name} cannot be read: {error.strerror}", where=str(root), do=bundle.CARRY_AGAIN
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        text = file.read(_LONGEST_TEXT + 1)
    if len(text) > _LONGEST_TEXT:
        bundle.refuse([f"{name} is longer than any that was signed"], str(root))
    return text


def _signer(root: Path, raw: bytes, signers: Signers) -> str:
    """Give who signed the index; raises SignatureError that says what to do."""
    signature = _text(root, bundle.INDEX_SIGNATURE).decode("utf-8", "replace")
    try:
        return check(raw, signature, Kind.BUNDLE, signers, title="the bundle", where=str(root))
    except SignatureError as error:
        do = error.do or bundle.CARRY_AGAIN
        raise SignatureError(error.what, reason=error.reason, where=error.where, do=do) from error


def _parsed(raw: bytes, where: str) -> Index:
    try:
        return Index.from_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"the bundle's index is not one: {place}: {first['msg']}",
            where=where,
            do="use the agentrig that wrote it, or make the bundle anew",
        ) from error
