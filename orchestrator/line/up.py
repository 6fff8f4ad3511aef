"""``up``: detect, plan, lock, render, apply, verify; what is skipped, rolled back, and how it ended for each host."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from orchestrator.calibration import warnings
from orchestrator.errors import AgentrigError, UsageError
from orchestrator.line.accept import accept, chat, endpoint_of, not_accepted, notes_of
from orchestrator.line.attest import with_attestation
from orchestrator.line.doctoring import again, explained
from orchestrator.line.draft import draft, question
from orchestrator.line.locking import tell_another_agentrig
from orchestrator.line.rebooting import apply_or_reboot, rebooted, refuse_stale
from orchestrator.line.refused import refusal, whole_trees
from orchestrator.line.sizes import LARGE_FETCH, expected, readable, sizes
from orchestrator.line.sweeping import sweep
from orchestrator.line.values import Draft, HostOutcome, Outcome, Proposal, Result, Wish
from orchestrator.lock import Request
from orchestrator.manifest import compare
from orchestrator.progress import Event, Phase
from orchestrator.releases import brought_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.apply import Applied
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Way
    from orchestrator.lockfile import Lock
    from orchestrator.profile import Profile

#: Hosts that are changed at once.
SIDE_BY_SIDE = 8


@dataclass
class Clock:
    """Seconds by phase for one host, the shared phases counted for each."""

    began: float = field(default_factory=time.monotonic)
    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the seconds of a phase, also of one that fails."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - start

    @property
    def seconds(self) -> float:
        """Give the seconds since the clock was made."""
        return time.monotonic() - self.began


def up(hosts: Mapping[str, tuple[Host, Profile]], wish: Wish, way: Way) -> Outcome:
    """Bring every host to what its profile asks for, or say for each why not."""
    clock = Clock()
    previous = way.ports.read_lock(wish.lock_file)
    tell_another_agentrig(previous, way)
    with clock.phase("detect"):
        way.progress(Event("detect", f"reading {_these(hosts)}"))
        answers = way.ports.ask([question(host, way.ports) for host, _ in hosts.values()])
        unbooted: dict[str, AgentrigError] = {}
        if wish.reboot and not wish.check:
            answers, unbooted = rebooted(hosts, answers, way)
    drafts: list[Draft] = []
    failed: dict[str, HostOutcome] = {}
    with clock.phase("plan"):
        for name, (host, profile) in hosts.items():
            try:
                refuse_stale(host, profile, answers[name], unbooted.get(name))
                drafts.append(draft(host, profile, answers[name], previous, wish, way.ports))
                way.progress(Event("plan", drafts[-1].deployment.reasons[0], host=name, state="ok"))
            except Exception as error:  # noqa: BLE001 - one host's fault, foreseen or not, is its own outcome
                failed[name] = _failed(name, foreseen(error, name), clock)
                tell_end(failed[name], way)
    if not drafts:
        return _in_order(hosts, failed)
    if not wish.check and any(not one.host.lab and not (previous and _holds(one, previous)) for one in drafts):
        way.ports.ready_to_ask()
    _ask_to_fetch(drafts, previous, wish, way)
    lock, refused = _lock(drafts, previous, wish, way, clock)
    for name, why in refused.items():
        failed[name] = _failed(name, why, clock)
        tell_end(failed[name], way)
    drafts = [one for one in drafts if one.host.name not in refused]
    _ask_first(drafts, lock, wish, way)
    if lock != previous and lock.hosts and not wish.check:
        way.ports.write_lock(wish.lock_file, lock)
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        done = {one.name: one for one in pool.map(lambda one: _whole(one, lock, wish, way, clock), drafts)}
    done |= again(
        drafts, done, lock, wish, way,
        lambda tries: _lock(tries, lock, wish, way, clock),
        lambda one, changed: _whole(one, changed, wish, way, clock),
    )  # fmt: skip
    return _in_order(hosts, failed | done)


def _whole(one: Draft, lock: Lock, wish: Wish, way: Way, clock: Clock) -> HostOutcome:
    """Take one host to its end, and tell how it ended."""
    outcome = _one(one, lock, wish, way, replace(clock, phases=dict(clock.phases)))
    outcome = with_attestation(one, outcome, lock, way.ports)
    tell_end(outcome, way)
    return outcome


def tell_end(outcome: HostOutcome, way: Way) -> None:
    """Tell how it ended for one host."""
    said = outcome.error.what if outcome.error else f"{outcome.result} in {outcome.seconds:.1f} s"
    state: Literal["ok", "failed"] = "failed" if outcome.error else "ok"
    way.progress(Event("done", said, host=outcome.name, state=state))


def _these(hosts: Mapping[str, object]) -> str:
    names = list(hosts)
    return names[0] if len(names) == 1 else f"{len(names)} hosts"


def _in_order(hosts: Mapping[str, object], outcomes: Mapping[str, HostOutcome]) -> Outcome:
    return Outcome(tuple(outcomes[name] for name in hosts))


def _failed(name: str, error: AgentrigError, clock: Clock) -> HostOutcome:
    return HostOutcome(name, "failed", seconds=clock.seconds, phases=dict(clock.phases), error=error)


def _lock(
    drafts: Sequence[Draft], previous: Lock | None, wish: Wish, way: Way, clock: Clock
) -> tuple[Lock, dict[str, AgentrigError]]:
    """Fill the lock for the hosts that need it, and say whom it refuses; moves nothing else.

    It is not asked for a host whose manifest holds.
    """
    if previous and not wish.full:
        drafts = [one for one in drafts if not (one.kept and _holds(one, previous))]
        if not drafts:
            return previous, {}
    requests = {
        one.host.name: Request(
            snapshot=one.snapshot,
            profile_digest=one.profile.fingerprint(),
            deployment=one.deployment,
            rehearsal=one.rehearsal,
            stand_ins=one.stand_ins,
            packages=one.rendered.packages,
        )
        for one in drafts
    }
    refused: dict[str, AgentrigError] = {}
    with clock.phase("lock"):
        lock = way.ports.resolve(requests, previous, way.progress, failures=refused)
        if wish.locked and lock != previous:
            raise UsageError(
                "the lock would change", where=str(wish.lock_file), do="run it without --locked, or deploy lock first"
            )
    for one in drafts:
        begun = bool(way.ports.state_of(one.host).manifests())
        if one.host.name not in refused and (why := refusal(one, lock, begun=begun)):
            refused[one.host.name] = why
    return lock, refused


def _holds(one: Draft, lock: Lock) -> bool:
    """Tell whether the host still has all that its manifest declares, and the manifest is that of today's rendering."""
    if one.former is None or one.reading is None or one.host.name not in lock.hosts:
        return False
    return one.former.release == release_of(one, lock) and not compare(one.former, one.reading)


def release_of(one: Draft, lock: Lock) -> str:
    """Give the id of the release that the host should have: its rendering and the artefacts it uses."""
    known, links = lock.by_id(), lock.hosts[one.host.name].links
    return one.rendered.release_id({name: known[links[name]].key for name in one.rendered.artefacts})


def _ask_to_fetch(drafts: Sequence[Draft], previous: Lock | None, wish: Wish, way: Way) -> None:
    """Ask before a large download for real hosts begins, as far as its size is known; with ``check`` refuse it."""
    in_store = way.ports.in_store
    wanted = []
    for one in drafts:
        if one.host.lab or (previous and _holds(one, previous)):
            continue
        known = previous is not None and one.kept
        wanted.append(
            sizes(previous, one.snapshot, in_store=in_store)
            if known and previous
            else expected(one.applied, one.snapshot, way.ports.catalog, in_store=in_store)
        )
    if (fetch := sum(one.fetch for one in wanted)) <= LARGE_FETCH:
        return
    if wish.check:
        what = f"to say what would change, {readable(fetch)} would have to be fetched first"
        raise UsageError(what, do="deploy lock fetches it; then run it again with --check")
    if not way.ports.confirm_fetch(wanted):
        raise UsageError("you said no, so nothing was fetched", do="run it again when you want it")


def _ask_first(drafts: Sequence[Draft], lock: Lock, wish: Wish, way: Way) -> None:
    """Ask before real hosts are changed: what will be placed, and which of their packages move."""
    real = tuple(one for one in drafts if not one.host.lab and not _holds(one, lock))
    if not real or wish.check:
        return
    names = [one.host.name for one in real]
    artefacts = {artefact.id: artefact for name in names for artefact in lock.artefacts_of(name)}
    size = sum(artefact.bytes or 0 for artefact in artefacts.values())
    upgrades = tuple(change for name in names for change in lock.hosts[name].upgrades)
    taken = tuple(sizes(lock, one.snapshot, in_store=way.ports.in_store, trees=whole_trees(one)) for one in real)
    if not way.ports.confirm(Proposal(real, lock, size, upgrades, taken)):
        raise UsageError("you said no, so nothing was changed", do="run it again when you want it")


def _one(one: Draft, lock: Lock, wish: Wish, way: Way, clock: Clock) -> HostOutcome:
    """Take one host from its draft to the end."""
    name = one.host.name
    try:
        if _holds(one, lock) and not wish.full and not wish.check:
            outcome = _unchanged(one, way, clock)
            if outcome:
                return outcome
        _tell_forward(one, lock, way)
        if one.rehearsal:
            way.ports.state_of(one.host).keep_asked(way.ports.render(one.deployment))
        with clock.phase("apply"):
            applied = apply_or_reboot(one, lock, wish, way)
        if wish.check:
            result: Result = "changed" if applied.changed else "unchanged"
            return HostOutcome(
                name, result, applied.changed, applied.release, clock.seconds, clock.phases, log=applied.log,
                changes=applied.changes,
            )  # fmt: skip
        way.ports.state_of(one.host).keep_manifest(applied.manifest, one.rendered, lock.hosts[name])
        return _accepted(one, lock, applied, way, clock)
    except Exception as error:  # noqa: BLE001 - one host's fault, foreseen or not, is its own outcome
        known = explained(one, foreseen(error, name), clock.phases.get("apply", 0), way)
        return _failed(name, known, clock) if wish.check else _back(one, lock, known, way, clock)


def foreseen(error: Exception, host: str) -> AgentrigError:
    """Give any failure as one of ours."""
    if isinstance(error, AgentrigError):
        return error
    return AgentrigError(f"{type(error).__name__}: {error}", where=host, do="report it with the log")


def _unchanged(one: Draft, way: Way, clock: Clock) -> HostOutcome | None:
    """One short chat and the kept evidence; None where the host must be accepted anew."""
    state = way.ports.state_of(one.host)
    evidence, former = state.evidence(), one.former
    if former is None or evidence is None or not evidence.accepted or evidence.manifest_digest != former.fingerprint():
        return None
    with clock.phase("verify"):
        check = chat(one, way.ports)
    way.progress(Event("verify", f"{check.name}: {check.result}", host=one.host.name, state="ok"))
    if check.result != "passed":
        return None
    return HostOutcome(
        one.host.name, "unchanged", 0, former.release, clock.seconds, clock.phases, endpoint_of(one, way.ports),
        state.evidence_file, evidence, one.stand_ins, notes=notes_of(one, way.ports),
    )  # fmt: skip


def _accepted(one: Draft, lock: Lock, applied: Applied, way: Way, clock: Clock) -> HostOutcome:
    """Verify what was applied. ``changed=0`` with good evidence needs no more than a chat."""
    state = way.ports.state_of(one.host)
    if not applied.changed and (outcome := _unchanged(replace(one, former=applied.manifest), way, clock)):
        return replace(outcome, log=applied.log)
    with clock.phase("verify"):
        evidence = accept(one, applied.manifest, lock, way)
    state.keep_evidence(evidence)
    outcome = HostOutcome(
        one.host.name, "changed", applied.changed, applied.release, clock.seconds, clock.phases,
        endpoint_of(one, way.ports), state.evidence_file, evidence, one.stand_ins,
        notes=(*notes_of(one, way.ports), *applied.notes), log=applied.log, changes=applied.changes,
    )  # fmt: skip
    if evidence.accepted:
        state.keep_accepted(applied.manifest, evidence)
        return replace(outcome, notes=(*outcome.notes, *warnings(evidence.calibration), *sweep(one.host, way)))
    state.keep_rejected(evidence)
    refused = _back(one, lock, not_accepted(one.host.name, evidence, state.rejected_file), way, clock)
    return replace(refused, evidence=evidence, evidence_file=state.rejected_file, log=applied.log)


def _back(one: Draft, lock: Lock, error: AgentrigError, way: Way, clock: Clock) -> HostOutcome:
    """Bring back what worked; where nothing did, stop our units and keep the release for reading."""
    state = way.ports.state_of(one.host)
    failed = replace(_failed(one.host.name, error, clock), stand_ins=one.stand_ins)
    try:
        former, present, release = state.accepted(), state.manifest(), release_of(one, lock)
        if former is None and present is not None:
            way.ports.stop(one.host, way.progress)
        if former is None or former.release == release:
            return failed
        way.progress(Event("apply", f"bringing release {former.release} back", host=one.host.name))
        way.ports.activate(one.host, former, way.progress)
        state.return_to(brought_back(former, present or former), left=release, why=error.what)
    except Exception as second:  # noqa: BLE001 - one host's fault, foreseen or not, is its own outcome
        return replace(failed, error=both(error, foreseen(second, one.host.name)))
    return replace(failed, result="rolled_back", deployment_id=former.release)


def _tell_forward(one: Draft, lock: Lock, way: Way) -> None:
    """Say that the lock goes forward again to a release that a roll-back left."""
    left = way.ports.state_of(one.host).left()
    if left and left.release == release_of(one, lock):
        text = f"going forward to the lock again: release {left.release}, left on {left.when[:16]} ({left.why})"
        way.progress(Event("apply", text, host=one.host.name))


def both(first: AgentrigError, second: AgentrigError) -> AgentrigError:
    """Give the first failure with what then failed while it was being undone."""
    if second.what == first.what:
        return first
    told = copy(first)
    told.what = f"{first.what}; and it could not be undone: {second.what}"
    told.do = second.do or first.do
    told.undone = False
    return told
