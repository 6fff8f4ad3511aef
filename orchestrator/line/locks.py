"""Locks as they are read and written here, each with the signature that its file bears."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from orchestrator.lock import SignedLock, read_signed, sign_as_it_stands, write
from orchestrator.signing import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.lockfile import Lock
    from orchestrator.state import State


class Locks:
    """Reads none that nobody known signed, writes none unsigned, and remembers what it has seen."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._seen: dict[str, SignedLock] = {}

    def read(self, path: Path) -> Lock | None:
        """Read a lock, or give None where there is no file; raises UsageError, SignatureError."""
        found = read_signed(path, self._state.signers)
        if found:
            with contextlib.suppress(OSError):  # who may only read looks on all the same
                self._state.remember_lock(path)
        return self._keep(found) if found else None

    def write(self, path: Path, lock: Lock) -> None:
        """Write a lock and its signature; raises LockError, SigningError."""
        self._keep(write(path, lock, self._state.sign))
        self._state.remember_lock(path)

    def sign(self, path: Path) -> Lock:
        """Sign a lock as it lies there; raises UsageError, LockError, SigningError."""
        return self._keep(sign_as_it_stands(path, self._state.sign))

    def seen(self, lock_digest: str) -> SignedLock | None:
        """Give a lock that was read or written here, by its digest."""
        return self._seen.get(lock_digest)

    def signed(self, lock: Lock) -> tuple[bytes, str]:
        """Give a lock's bytes and their signature; one that is not written, as in check mode, is signed for a look."""
        if found := self.seen(lock.lock_digest):
            return found.content, found.signature
        content = lock.to_json().encode()
        return content, self._state.sign(content, Kind.LOCK)

    def _keep(self, found: SignedLock) -> Lock:
        self._seen[found.lock.lock_digest] = found
        return found.lock
