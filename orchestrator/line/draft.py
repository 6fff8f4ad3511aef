"""The first half of the line for one host: from what it is to what it should have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.deployment import StandIn
from orchestrator.detect import Answer, Question
from orchestrator.errors import AgentrigError, DetectError, PrivilegeError, Unreachable, UsageError
from orchestrator.line.beside import refuse_silent_endpoint, refuse_taken_ports
from orchestrator.line.values import Draft
from orchestrator.manifest import restore

if TYPE_CHECKING:
    from orchestrator.deployment import Deployment
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports
    from orchestrator.line.values import Wish
    from orchestrator.lockfile import HostLock, Lock
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot


def question(host: Host, ports: Ports) -> Question:
    """Give what a host is asked, once and in one connection: what it is, and whether its manifest still holds."""
    return Question(host=host, snapshot=True, manifest=ports.state_of(host).manifest())


def draft(  # noqa: PLR0913, PLR0917 - all that decides about one host
    host: Host, profile: Profile, answer: Answer, previous: Lock | None, wish: Wish, ports: Ports
) -> Draft:
    """Decide for one host, or take the lock's decision over; raises NoFit, UsageError, DetectError, ApplyError."""
    snapshot = read(answer, host)
    state = ports.state_of(host)
    former = state.manifest()
    kept = _kept(host, profile, snapshot, previous, wish)
    if kept:
        deployment, rehearsal, stand_ins = kept.deployment, kept.rehearsal, kept.stand_ins
    else:
        deployment, rehearsal, stand_ins = _decide(host, profile, snapshot, ports)
    _runs_systemd(host, snapshot)
    rendered = ports.render(rehearsal or deployment)
    refuse_silent_endpoint(host, snapshot, rehearsal or deployment)
    if not state.manifests():
        refuse_taken_ports(host, snapshot, rendered, rehearsal or deployment)
    reading = restore(answer.reading, state.filled_digests()) if answer.reading else None
    return Draft(host, profile, snapshot, deployment, rehearsal, stand_ins, rendered, kept is not None, former, reading)


def _runs_systemd(host: Host, snapshot: HostSnapshot) -> None:
    """Refuse a host that could not run our units, before anything is resolved for it."""
    if not snapshot.systemd:
        raise UsageError(
            "systemd does not run here as the first process, so no unit can serve",
            where=host.name,
            do="give a host that systemd started, or rehearse it on one of the lab: --lab",
        )


def read(answer: Answer, host: Host) -> HostSnapshot:
    """Give the answer's snapshot; raises DetectError or PrivilegeError with the reason why there is none."""
    if answer.snapshot is None:
        raise unread(answer, host)
    return answer.snapshot


def unread(answer: Answer, host: Host) -> AgentrigError:
    """Give the failure that an answer with an error stands for."""
    error = answer.error or {}
    kinds: dict[str, type[AgentrigError]] = {one.kind: one for one in (PrivilegeError, Unreachable)}
    kind = kinds.get(error.get("kind", ""), DetectError)
    return kind(error.get("what", "it did not answer"), where=host.name, do=error.get("do", "see whether it is on"))


def _kept(host: Host, profile: Profile, snapshot: HostSnapshot, previous: Lock | None, wish: Wish) -> HostLock | None:
    """Give the lock's decision where profile and hardware are as they were (decision 5)."""
    locked = previous.hosts.get(host.name) if previous else None
    if previous is None:
        changed = f"there is no {wish.lock_file}"
    elif locked is None:
        changed = f"{wish.lock_file.name} does not name {host.name}"
    elif locked.profile_digest != profile.fingerprint():
        changed = f"the profile {profile.name} is not the one that was locked"
    elif locked.hardware_digest != snapshot.hardware_digest():
        changed = "the hardware is not what was locked"
    elif locked.rehearsal and not host.lab:
        changed = "what was locked is a rehearsal"
    elif wish.replan:
        changed = "a new plan was asked for"
    else:
        return locked
    if wish.locked:
        raise UsageError(
            f"{changed}, so the lock would change",
            where=host.name,
            do="run it without --locked, or run deploy lock first",
        )
    return None


def _decide(
    host: Host, profile: Profile, snapshot: HostSnapshot, ports: Ports
) -> tuple[Deployment, Deployment | None, tuple[StandIn, ...]]:
    deployment = ports.plan(snapshot, profile)
    if not host.lab:
        return deployment, None, ()
    rehearsal, stand_ins = ports.rehearse(deployment, snapshot)
    cards = make_believe_cards(snapshot)
    return (deployment, rehearsal, cards + stand_ins) if stand_ins else (deployment, None, cards)


def make_believe_cards(snapshot: HostSnapshot) -> tuple[StandIn, ...]:
    """Name the cards of a lab host for what they are."""
    if not snapshot.gpus:
        return ()
    cards = ", ".join(f"{gpu.name} ({gpu.vram_mib} MiB)" for gpu in snapshot.gpus)
    return (StandIn(what=cards, instead="a make-believe NVML and nvidia-smi", why="a lab host has no card"),)
