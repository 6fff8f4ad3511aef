"""Blobs carried from one folder to another: hashed on the way, several small ones at once, and told in bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import LockError
from orchestrator.lock.arriving import size_of
from orchestrator.lock.bundle import CARRY_AGAIN
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orchestrator.lock.store import Store
    from orchestrator.progress import Progress

#: Below this many bytes a file costs more in waiting for the disk than in copying: several go at once.
_SMALL = 32 << 20
_AT_ONCE = 4
_LOOK_SECONDS = 0.25


class Load(NamedTuple):
    """One blob to carry: where it lies, its 64 hex digits, its bytes, and what a person calls it."""

    source: Path
    digest: str
    bytes: int
    name: str


@dataclass
class Far:
    """How far it is: bytes of files that are through, and of the files that are being written just now."""

    progress: Progress
    text: str
    total: int
    partial: Path | None = None
    done: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """Count the bytes of a file that is through."""
        with self._guard:
            self.done += count

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Tell it four times a second for as long as the block lasts, and once at its good end."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_LOOK_SECONDS):
                there = self.done + (size_of(self.partial) if self.partial else 0)
                self.progress(Event("bundle", self.text, done=min(there, self.total), total=self.total))

        watcher = threading.Thread(target=look, name="bundle-far", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        self.progress(Event("bundle", self.text, done=self.total, total=self.total, state="ok"))


def carry(loads: Sequence[Load], store: Store, progress: Progress, text: str, *, trusted: bool) -> int:
    """Put blobs into a store and give how many were not whole there yet.

    Where the store is not ``trusted`` (a bundle that lies about), what is there already is read and hashed; what is
    not whole is written anew. Raises LockError that names the blob: other bytes, one that is missing, a full disk.
    """
    lacking = [load for load in loads if not (trusted and store.has(load.digest))]
    _refuse_small_disk(lacking, store)
    far = Far(progress, text, sum(load.bytes for load in lacking), store.root / "partial")
    small = [load for load in lacking if load.bytes < _SMALL]
    large = [load for load in lacking if load.bytes >= _SMALL]
    with far.told(), ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="bundle") as pool:
        try:
            copied = sum(pool.map(lambda load: _carried(load, store, far), small))
            return copied + sum(_carried(load, store, far) for load in large)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _carried(load: Load, store: Store, far: Far) -> bool:
    """Tell whether the blob had to be written."""
    target = store.path(load.digest)
    if is_whole(target, load.digest, load.bytes):
        far.add(load.bytes)
        return False
    with store.told(load.name):
        target.unlink(missing_ok=True)
    try:
        store.add_file(load.source, load.digest, name=load.name)
    except LockError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise LockError(error.what, where=str(load.source), do=CARRY_AGAIN) from error
    far.add(load.bytes)
    return True


def is_whole(path: Path, digest: str, size: int) -> bool:
    """Tell whether a file is there, no link, with these bytes."""
    try:
        return path.lstat().st_size == size and sha256_of(path) == digest
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """Give the sha256 of a regular file's bytes, 64 hex digits; raises OSError for what is none, a link included."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            message = "not a regular file"
            raise OSError(message)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_small_disk(loads: Sequence[Load], store: Store) -> None:
    """Raise LockError where it cannot fit; on the store's own disk the bytes may be shared, and nothing is said."""
    lacking = [load for load in loads if not store.path(load.digest).exists()]
    root = next(folder for folder in (store.root, *store.root.parents) if folder.exists())
    if not lacking or root.stat().st_dev == _device(lacking[0].source):
        return
    free, wanted = shutil.disk_usage(root).free, sum(load.bytes for load in lacking)
    if wanted > free:
        raise LockError(
            f"{wanted / 2**20:.1f} MiB are to be written, and the disk has {free / 2**20:.1f} MiB left",
            where=str(store.root),
            do="make room there, then run it again",
        )


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None
