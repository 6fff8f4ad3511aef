"""What the store holds and no lock known here names: told first, and thrown away when somebody says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.lock import read

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.state import State


@dataclass(frozen=True, slots=True)
class Unused:
    """Blobs that no lock names, their bytes, the locks that were asked, and those that are not where they were."""

    blobs: tuple[Path, ...]
    bytes: int
    locks: tuple[Path, ...]
    lost: tuple[Path, ...]

    def document(self, *, removed: bool) -> dict[str, Any]:
        """Give the ``sweep`` key of the contract."""
        return {
            "blobs": len(self.blobs),
            "bytes": self.bytes,
            "removed": removed,
            "locks": [str(path) for path in self.locks],
            "lost": [str(path) for path in self.lost],
        }


def unused(state: State, lock_file: Path) -> Unused:
    """Look for what no lock that was ever read or written with this state names; raises UsageError.

    A lock that cannot be read as one keeps everything; one that is gone keeps nothing, and is told.
    """
    files = tuple(sorted({*state.lock_files(), lock_file.absolute(), state.lock_file(lab=True)}))
    found = {path: lock for path in files if (lock := read(path))}
    if not found:
        raise UsageError("no lock is known here, so nothing says what is used", where=str(state.root), do="deploy lock")
    named = {artefact.key for lock in found.values() for artefact in lock.artefacts if artefact.digest}
    blobs = tuple(path for path in sorted((state.store / "sha256").glob("*/*")) if path.name not in named)
    lost = tuple(path for path in state.lock_files() if path not in found)
    return Unused(blobs, sum(path.stat().st_size for path in blobs), tuple(found), lost)


def discard(found: Unused) -> None:
    """Throw away what was found."""
    for path in found.blobs:
        path.unlink(missing_ok=True)
