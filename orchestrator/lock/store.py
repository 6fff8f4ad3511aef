"""Every fetched byte once, under its own sha256: ``sha256/<2 hex>/<64 hex>``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_CHUNK = 1 << 20
#: ioctl_ficlonerange(2).
_FICLONE = 0x40049409
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Store:
    """The blobs under one folder. What is in it is whole: a blob is checked first and renamed into place last."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Give where a blob lies or would lie; ``digest`` with or without ``sha256:``. Raises LockError."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise LockError(f"{digest!r} is not a sha256", where=str(self.root))
        return self.root / "sha256" / match[1][:2] / match[1]

    def has(self, digest: str) -> bool:
        """Tell whether the blob is there."""
        return self.path(digest).is_file()

    def add_file(self, path: Path, digest: str | None = None, *, name: str = "", move: bool = False) -> str:
        """Put a file in and give its digest (``sha256:…``).

        Its bytes are copied (or moved, where ``move`` is set) and hashed on the way. Where ``digest`` is given and
        the bytes are others, nothing is left and LockError names the artefact; so it does when the disk is full.
        """
        title = name or path.name
        with self.workroom() as room, self.told(title):
            beside = room / "blob"
            if move:
                shutil.move(path, beside)
                found = _sha256(beside)
            else:
                found = _copy(path, beside)
            expected = found if digest is None else digest.removeprefix("sha256:")
            if found != expected:
                raise LockError(
                    f"{title} has other bytes than it should: sha256 {found}, expected {expected}",
                    where=title,
                    do="nothing was kept; see whether the registry or a proxy on the way gives another file",
                )
            return self._place(beside, found)

    def verify(self, digest: str, *, name: str = "") -> None:
        """Read a blob again and raise LockError where it is missing or its bytes are others; those are removed."""
        path, title = self.path(digest), name or digest
        if not path.is_file():
            raise LockError(f"{title} is not in the store", where=str(path), do="run deploy lock: it is fetched again")
        if _sha256(path) != path.name:
            path.unlink()
            raise LockError(
                f"{title} was damaged in the store and has been removed",
                where=str(path),
                do="run deploy lock: it is fetched again",
            )

    @contextlib.contextmanager
    def workroom(self) -> Iterator[Path]:
        """Give a folder on the store's own disk; it is gone afterwards, and a dead process' is swept away."""
        partial = self.root / "partial"
        with self.told(str(self.root)):
            partial.mkdir(parents=True, exist_ok=True)
            room = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=partial))
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def built(self, key: str) -> str | None:
        """Give the digest of what was built here for a key (``sha256:…``); None where it was not, or is gone."""
        try:
            digest = self._noted(key).read_text(encoding="ascii").strip()
            return digest if self.has(digest) else None
        except (OSError, UnicodeDecodeError, LockError):
            return None

    def note_built(self, key: str, digest: str) -> None:
        """Keep the digest of what was built for a key, so that it is not built again."""
        note = self._noted(key)
        with self.told(note.name):
            note.parent.mkdir(parents=True, exist_ok=True)
            beside = note.with_name(f".{note.name}.{os.getpid()}")
            beside.write_text(f"{digest}\n", encoding="ascii")
            beside.rename(note)

    def _noted(self, key: str) -> Path:
        return self.root / "built" / self.path(key).name

    def tidy(self) -> None:
        """Sweep away what processes that no longer live have left half-fetched."""
        for room in (self.root / "partial").glob("*-*"):
            pid = room.name.split("-")[0]
            if pid.isdecimal() and not Path("/proc", pid).exists():
                shutil.rmtree(room, ignore_errors=True)

    def _place(self, beside: Path, found: str) -> str:
        target = self.path(found)
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):  # FAT has no modes
                beside.chmod(0o644)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.rename(target)
        return f"sha256:{found}"

    @contextlib.contextmanager
    def told(self, title: str) -> Iterator[None]:
        """Turn a failure of the disk while something is written into a LockError that names it."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise LockError(
                    f"the disk is full: {title} does not fit",
                    where=str(self.root),
                    do="make room there, then run it again",
                ) from error
            raise LockError(
                f"{title} could not be put into the store: {error.strerror or error}", where=str(self.root)
            ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cloned(source: Path, target: Path) -> bool:
    """Let the file system share the bytes until one of both is written, where it can (btrfs, XFS): no room is taken."""
    with source.open("rb") as reading, target.open("wb") as writing, contextlib.suppress(OSError):
        fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
        return True
    return False


def _copy(source: Path, target: Path) -> str:
    if _cloned(source, target):
        return _sha256(target)
    found, last = hashlib.sha256(), None
    with source.open("rb") as reading, target.open("wb") as writing, ThreadPoolExecutor(max_workers=1) as hashing:
        while chunk := reading.read(_CHUNK):
            if last:
                last.result()
            last = hashing.submit(found.update, chunk)
            writing.write(chunk)
    return found.hexdigest()
