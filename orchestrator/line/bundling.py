"""``bundle`` and ``up --bundle``: what a lock names, carried to where no registry is in reach."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import AgentrigError, LockError, UsageError
from orchestrator.lock import Store, bundle, bundle_folder, bundle_writing, read_signed
from orchestrator.lock.bundle_fit import misfit
from orchestrator.lock.document import signature_file
from orchestrator.lock.resolve import missing
from orchestrator.signing import OWNER
from orchestrator.state import write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, MutableMapping

    from orchestrator.line.ports import Ports, Way
    from orchestrator.line.values import Wish
    from orchestrator.lock import Request
    from orchestrator.lock.bundle import Index
    from orchestrator.lock.bundle_folder import Opened
    from orchestrator.lockfile import Lock
    from orchestrator.progress import Progress
    from orchestrator.state import State


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle is, once it was written or checked. ``copied`` and ``removed`` count files."""

    root: Path
    index: Index
    signed_by: str
    copied: int = 0
    removed: int = 0
    #: Why the command itself is not in it.
    without_command: str | None = None

    def document(self) -> dict[str, Any]:
        """Give the ``bundle`` key of the contract."""
        command = self.index.command
        return {
            "digest": self.index.digest,
            "files": len(self.index.files),
            "bytes": self.index.bytes,
            "lock": self.index.lock,
            "path": str(self.root),
            "signed_by": self.signed_by,
            "copied": self.copied,
            "removed": self.removed,
            "command": command.document() if command else None,
            "without_command": self.without_command,
        }


def create(root: Path, lock_file: Path, state: State, progress: Progress) -> Bundled:
    """Write what a lock names into a folder, or go on with one that is there. Raises UsageError, LockError."""
    from orchestrator.lock.bundle_command import pack  # noqa: PLC0415 - pip's own words

    signed = read_signed(lock_file, state.signers)
    if signed is None:
        raise UsageError("there is no lock to bundle", where=str(lock_file), do="write one: deploy lock --profile P")
    store, why, packed = Store(state.store), None, None
    with tempfile.TemporaryDirectory(prefix="agentrig-bundle-") as room:
        try:
            packed = pack(root, signed.lock, store, Path(room), progress)
        except LockError as error:
            why = str(error)
        written = bundle_writing.write(root, signed, store, packed, state.sign, progress)
    return Bundled(root, written.index, OWNER, written.copied, written.removed, why)


def check_whole(root: Path, state: State, progress: Progress) -> Bundled:
    """See that a bundle is whole to the byte, and signed by a key that was given beforehand."""
    opened = bundle_folder.opened(root, state.signers())
    bundle_folder.verify(opened, progress)
    return Bundled(root, opened.index, opened.signed_by)


def open_beside(root: Path, wish: Wish, state: State, way: Way) -> Opened:
    """Open a bundle for ``up``; raises UsageError where another lock lies where the bundle's would go."""
    if wish.replan:
        raise UsageError("a bundle holds one decision, and --replan asks for another", do="leave one of both away")
    opened = bundle_folder.opened(root, state.signers())
    beside = way.ports.read_lock(wish.lock_file) if wish.lock_file.exists() else None
    if beside is not None and beside.lock_digest != opened.lock.lock_digest:
        raise UsageError(
            f"the bundle is that of another lock than {wish.lock_file}",
            where=str(root),
            do="move that lock away to take the bundle's, or make a bundle of it: deploy bundle create",
        )
    return opened


def up_from(opened: Opened, hosts: Iterable[str], wish: Wish, state: State, way: Way) -> tuple[Wish, Way]:
    """Take what hosts need into the store and give how ``up`` goes on: locked, and asking no registry."""
    bundle_folder.take(opened, hosts, Store(state.store), way.progress)
    place = wish.lock_file
    if not place.exists() and wish.check:
        place = opened.root / bundle.LOCK
    elif not place.exists():
        write(signature_file(place), opened.signed.signature)
        write(place, opened.signed.content.decode())
    ports = replace(way.ports, resolve=_Sealed(way.ports, Store(state.store)))
    return replace(wish, locked=True, lock_file=place), replace(way, ports=ports)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """``resolve`` without a registry: a host has what the lock names for it, or is refused."""

    ports: Ports
    store: Store

    def __call__(
        self,
        requests: Mapping[str, Request],
        previous: Lock | None,
        progress: Progress,
        *,
        upgrade: Collection[str] = (),
        failures: MutableMapping[str, AgentrigError] | None = None,
    ) -> Lock:
        """Give the lock as it is; what does not fit goes into ``failures``, or is raised where there are none."""
        del progress, upgrade
        assert previous is not None  # noqa: S101 - a bundle has one
        for name, request in requests.items():
            if why := self._refusal(previous, name, request):
                if failures is None:
                    raise why
                failures[name] = why
        return previous

    def _refusal(self, lock: Lock, name: str, request: Request) -> AgentrigError | None:
        if said := misfit(lock, name, request, self.ports.catalog):
            return UsageError(
                f"it cannot be built from this bundle: {said}",
                where=name,
                do="lock it anew where a registry is in reach",
            )
        if lost := missing(lock, name, self.store):
            return LockError(f"the store lacks {lost[0].name} {lost[0].version}", where=name, do="run it again")
        return None
