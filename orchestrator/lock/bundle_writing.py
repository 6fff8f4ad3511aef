"""A bundle written to a disk: whatever bears its final name there is whole, and what is whole is not written again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import BusyError, LockError, UsageError
from orchestrator.lock import bundle
from orchestrator.lock.bundle import BundleFile, Index
from orchestrator.lock.bundle_copy import Load, carry, is_whole
from orchestrator.lock.bundle_folder import GO_ON, OF_THE_DISK, files_of, without_index
from orchestrator.lock.store import Store
from orchestrator.signing import Kind
from orchestrator.state import give_to_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.lock.bundle_command import Packed
    from orchestrator.lock.document import SignedLock
    from orchestrator.progress import Progress

_OURS = {bundle.LOCK, bundle.LOCK_SIGNATURE, bundle.INDEX, bundle.INDEX_SIGNATURE, bundle.STORE, bundle.COMMAND}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the index, how many files were not whole there yet, and how many were taken away."""

    index: Index
    copied: int
    removed: int


def write(  # noqa: PLR0913, PLR0917 - all that a bundle is made of
    root: Path,
    signed: SignedLock,
    store: Store,
    packed: Packed | None,
    sign: Callable[[bytes, Kind], str],
    progress: Progress,
) -> Written:
    """Write a bundle, or go on with one: what is whole there stays, what the lock no longer names goes.

    Index and signature come last: until then the folder is no bundle. Raises LockError, UsageError, BusyError.
    """
    blobs = bundle.blobs_of(signed.lock)
    for blob in blobs:
        if not store.has(blob.digest):
            store.verify(blob.digest, name=blob.name)
    with _alone_in(root):
        there = Store(root / bundle.STORE)
        shutil.rmtree(there.root / "partial", ignore_errors=True)
        files_of(root)
        loads = [Load(path := store.path(one.digest), one.digest, path.stat().st_size, one.name) for one in blobs]
        copied = _carried(loads, store, there, progress, root)
        copied += _put_command(root, packed, there)
        texts = {bundle.LOCK: signed.content, bundle.LOCK_SIGNATURE: signed.signature.encode()}
        files = [BundleFile(path=one[0].path, sha256=one[0].digest, bytes=one[1].bytes, name=one[0].name)
                 for one in zip(blobs, loads, strict=True)]  # fmt: skip
        files += [_listed(name, text) for name, text in texts.items()]
        files += packed.files if packed else ()
        index = Index(
            lock=signed.lock.lock_digest,
            command=packed.command if packed else None,
            files=tuple(sorted(files, key=lambda file: file.path)),
        )
        raw = index.to_json().encode()
        texts |= {bundle.INDEX: raw, bundle.INDEX_SIGNATURE: sign(raw, Kind.BUNDLE).encode()}
        for name, text in texts.items():
            _put_text(root / name, text)
        removed = _tidy(root, index)
        for path in (root, *root.rglob("*")):
            give_to_caller(path)
        return Written(index, copied, removed)


def _carried(loads: list[Load], store: Store, there: Store, progress: Progress, root: Path) -> int:
    try:
        return carry(loads, there, progress, f"writing {root}", trusted=False)
    except LockError as error:
        if not isinstance(error.__cause__, OSError):
            damaged = next((load for load in loads if str(load.source) == error.where), None)
            if damaged:
                store.verify(damaged.digest, name=damaged.name)
        raise


def _put_command(root: Path, packed: Packed | None, there: Store) -> int:
    """Put the command's wheels in; gives how many were not there."""
    if packed is None:
        return 0
    written = 0
    with there.workroom() as room:
        for file in packed.files:
            target = root / file.path
            if is_whole(target, file.sha256, file.bytes):
                continue
            with there.told(file.name):
                target.parent.mkdir(exist_ok=True)
                target.unlink(missing_ok=True)
                beside = room / target.name
                shutil.copyfile(packed.sources[file.path], beside)
                _synced(beside)
                beside.rename(target)
            written += 1
    return written


def _put_text(path: Path, text: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(text)
        _synced(beside)
        beside.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise LockError(
            f"{path.name} cannot be written: {error.strerror or error}", where=str(path), do=GO_ON
        ) from error


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _tidy(root: Path, index: Index) -> int:
    """Take away what this bundle no longer lists, of what bundles hold; gives how many files that were."""
    shutil.rmtree(root / bundle.STORE / "partial", ignore_errors=True)
    stale = [path for path in without_index(files_of(root)) if path not in index.by_path()]
    for path in stale:
        (root / path).unlink()
    return len(stale)


def _listed(name: str, text: bytes) -> BundleFile:
    return BundleFile(path=name, sha256=hashlib.sha256(text).hexdigest(), bytes=len(text), name=name)


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Work alone in a bundle's folder, which is made where it is missing; raises BusyError, UsageError, LockError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in root.iterdir() if not _is_ours(path.name))
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"no bundle can be written here: {error.strerror or error}", where=str(root), do="give another folder"
        ) from error
    try:
        if strangers:
            raise UsageError(
                f"this folder holds {strangers[0]}, which is no part of a bundle",
                where=str(root),
                do="give an empty folder, or that of a bundle",
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("another deploy writes here", where=str(root), do="wait until it has ended") from None
        except OSError:
            pass  # a file system without locks: the state's own lock is left
        yield
    finally:
        os.close(descriptor)


def _is_ours(name: str) -> bool:
    texts = (bundle.LOCK, bundle.LOCK_SIGNATURE, bundle.INDEX, bundle.INDEX_SIGNATURE)
    return name in _OURS or name == OF_THE_DISK or name.startswith(tuple(f".{text}." for text in texts))
