"""``status`` and ``verify``: what runs, whether it is still what was put there, and acceptance again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.detect import Question
from orchestrator.errors import AgentrigError, UsageError
from orchestrator.evidence import AREAS
from orchestrator.line.accept import endpoint, examine, not_accepted
from orchestrator.line.draft import unread
from orchestrator.line.values import HostStatus
from orchestrator.manifest import compare, restore
from orchestrator.releases import differences

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orchestrator.detect import Answer
    from orchestrator.evidence import Area, Evidence
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports, Way
    from orchestrator.lockfile import HostLock, Lock
    from orchestrator.manifest import Manifest, Reading


def status(
    hosts: Sequence[Host], lock: Lock | None, ports: Ports, against: Host | None = None
) -> tuple[HostStatus, ...]:
    """Read all hosts at once and hold each against its manifest, and against another host where one is named.

    Raises UsageError or DetectError where that other one has nothing of ours, or cannot be read.
    """
    asked = {host.name: host for host in (*hosts, *([against] if against else []))}
    answers = ports.ask(
        [
            Question(host=host, snapshot=True, manifest=ports.state_of(host).manifest(), disk=True)
            for host in asked.values()
        ]
    )
    other = _whole(against, answers[against.name], ports) if against else None
    return tuple(_status(host, answers[host.name], lock, ports, against=other) for host in hosts)


def _whole(host: Host, answer: Answer, ports: Ports) -> tuple[Manifest, Reading]:
    state = ports.state_of(host)
    manifest = state.manifest()
    if manifest is None:
        raise UsageError("nothing of ours is known to run there", where=host.name, do="name a host that is up")
    if answer.reading is None:
        raise unread(answer, host)
    return manifest, restore(answer.reading, state.filled_digests())


def _status(
    host: Host, answer: Answer, lock: Lock | None, ports: Ports, *, against: tuple[Manifest, Reading] | None = None
) -> HostStatus:
    state = ports.state_of(host)
    manifest, evidence = state.manifest(), state.evidence()
    error: AgentrigError | None = None
    if answer.error:
        error = unread(answer, host)
    reading = restore(answer.reading, state.filled_digests()) if answer.reading else None
    drift = compare(manifest, reading) if manifest and reading else ()
    serving = bool(manifest and reading and all(unit.active for unit in reading.units) and reading.units)
    locked = served_lock(host, lock, ports)
    return HostStatus(
        name=host.name,
        deployment_id=manifest.release if manifest else None,
        manifest_digest=manifest.fingerprint() if manifest else None,
        drift=drift,
        serving=serving,
        snapshot=answer.snapshot,
        evidence=evidence,
        endpoint=endpoint(host, locked.applied, ports) if locked and manifest and not error else None,
        error=error,
        deployment=locked.applied if locked and manifest else None,
        asks_for_signature=None if error else answer.signers is not None,
        left=state.left(),
        disk=answer.disk,
        against=against[0].host if against else None,
        differences=differences(manifest, reading, *against) if against and manifest and reading else (),
    )


def verify(host: Host, lock: Lock | None, areas: Collection[Area], way: Way) -> Evidence:
    """Accept a host again, changing nothing on it; raises UsageError where there is nothing to accept."""
    locked, manifest = _served(host, lock, way.ports)
    state = way.ports.state_of(host)
    evidence = examine(host, locked.applied, locked.stand_ins, manifest, lock.lock_digest if lock else "", areas, way)
    if set(areas) == set(AREAS):
        state.keep_evidence(evidence)
    return evidence


def refusal(evidence: Evidence, ports: Ports, host: Host) -> AgentrigError | None:
    """Give the failure that evidence stands for, or None where the host was accepted."""
    return None if evidence.accepted else not_accepted(host.name, evidence, ports.state_of(host).evidence_file)


def served_lock(host: Host, lock: Lock | None, ports: Ports) -> HostLock | None:
    """Give the decision of the release that serves a host: a roll-back leaves the lock with a later one."""
    return ports.state_of(host).locked() or (lock.hosts.get(host.name) if lock else None)


def _served(host: Host, lock: Lock | None, ports: Ports) -> tuple[HostLock, Manifest]:
    manifest, locked = ports.state_of(host).manifest(), served_lock(host, lock, ports)
    if manifest is None or locked is None:
        raise UsageError("nothing of ours is known to run there", where=host.name, do="bring it up first: deploy up")
    return locked, manifest
