"""``lock``: the decision and the artefacts of hosts, without changing any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.detect import Question
from orchestrator.errors import AgentrigError, LockError, UsageError
from orchestrator.inventory import LOCAL
from orchestrator.line.draft import read
from orchestrator.line.planning import Planned
from orchestrator.lock import Moved, Request, another_agentrig, asked, moved
from orchestrator.lock import read as read_lock
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from pathlib import Path

    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports, Way
    from orchestrator.lockfile import Lock
    from orchestrator.profile import Profile


def request_of(planned: Planned, ports: Ports) -> Request:
    """Give what the lock must hold for a decision."""
    return Request(
        snapshot=planned.snapshot,
        profile_digest=planned.profile.fingerprint(),
        deployment=planned.deployment,
        rehearsal=None,
        stand_ins=(),
        packages=ports.render(planned.deployment).packages,
    )


def lock_machine(planned: Planned, lock_file: Path, upgrade: Sequence[str], way: Way) -> Lock:
    """Lock one machine that is not in an inventory: this one, or the one that is pretended."""
    return _write({LOCAL.name: request_of(planned, way.ports)}, lock_file, upgrade, way)


def lock_inventory(
    hosts: Mapping[str, tuple[Host, Profile]], lock_file: Path, upgrade: Sequence[str], way: Way
) -> Lock:
    """Lock every host of an inventory; the first that cannot be locked is raised once the others are written."""
    answers = way.ports.ask([Question(host=host, snapshot=True, manifest=None) for host, _ in hosts.values()])
    requests: dict[str, Request] = {}
    failures: dict[str, AgentrigError] = {}
    for name, (host, profile) in hosts.items():
        try:
            snapshot = read(answers[name], host)
            deployment = way.ports.plan(snapshot, profile)
            requests[name] = request_of(Planned(profile, snapshot, deployment, name), way.ports)
        except AgentrigError as error:
            failures[name] = error
    lock = _write(requests, lock_file, upgrade, way, failures)
    if failures:
        raise next(failures[name] for name in hosts if name in failures)
    return lock


def _write(
    requests: Mapping[str, Request],
    lock_file: Path,
    upgrade: Sequence[str],
    way: Way,
    failures: MutableMapping[str, AgentrigError] | None = None,
) -> Lock:
    previous = way.ports.read_lock(lock_file)
    lock = way.ports.resolve(requests, previous, way.progress, upgrade=upgrade, failures=failures)
    if lock != previous and lock.hosts:
        way.ports.write_lock(lock_file, lock)
    return lock


def still_resolves(lock_file: Path, way: Way) -> Lock:
    """Give the lock as it is, having seen that every artefact is still to be had; raises UsageError, LockError."""
    lock = way.ports.read_lock(lock_file)
    if lock is None:
        raise UsageError("there is no lock to check", where=str(lock_file), do="write one: deploy lock --profile P")
    tell_another_agentrig(lock, way)
    if lost := way.ports.still_resolves(lock, way.progress):
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise LockError(lost[0] + more, where=str(lock_file), do="move it: deploy lock --upgrade NAME")
    return lock


def asked_by_kind(lock: Lock) -> dict[str, int]:
    """Give how many artefacts of each kind ``still_resolves`` asks the registries for; what hosts share counts once."""
    return asked({one.id: one for name in lock.hosts for one in lock.artefacts_of(name)}.values())


def moves(before: Lock | None, after: Lock, ports: Ports) -> tuple[Moved, ...]:
    """Give what moved from one lock to the next, and what changes with it by the catalog."""
    return moved(before, after, ports.catalog)


def tell_another_agentrig(lock: Lock | None, way: Way) -> str | None:
    """Tell that a lock was made with another agentrig than this one, where it was; it is used all the same."""
    said = another_agentrig(lock) if lock else None
    if said:
        way.progress(Event("lock", said))
    return said


def as_it_stands(lock_file: Path) -> Lock:
    """Give a lock whoever wrote it, to be looked at before it is signed; raises UsageError where there is none."""
    lock = read_lock(lock_file)
    if lock is None:
        raise UsageError("there is no lock to sign", where=str(lock_file), do="write one: deploy lock --profile P")
    return lock
