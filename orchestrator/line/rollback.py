"""``rollback``: back to a release that was accepted before, or the host as it was and the reason in words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.detect import Question
from orchestrator.errors import AgentrigError, ApplyError, UsageError, VerifyError
from orchestrator.line.accept import endpoint
from orchestrator.line.draft import unread
from orchestrator.line.up import SIDE_BY_SIDE, Clock, both, foreseen, tell_end
from orchestrator.line.values import HostOutcome, Outcome
from orchestrator.manifest import restore
from orchestrator.progress import Event
from orchestrator.releases import brought_back, lacking_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.apply import Activated
    from orchestrator.evidence import Check
    from orchestrator.inventory import Host
    from orchestrator.kept import Accepted, HostState
    from orchestrator.line.ports import Way
    from orchestrator.lockfile import HostLock
    from orchestrator.manifest import Manifest

#: Reasons that are shown where a release cannot come back; the rest is counted.
_SHOWN = 3


def rollback(hosts: Sequence[Host], to: str | None, way: Way) -> Outcome:
    """Bring hosts back to the release accepted before the present one, or to the one that is named."""
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        return Outcome(tuple(pool.map(lambda host: _whole(host, to, way), hosts)))


def _whole(host: Host, to: str | None, way: Way) -> HostOutcome:
    """Take one host to its end, and tell how it ended."""
    clock = Clock()
    try:
        outcome = _one(host, to, way, clock)
    except Exception as error:  # noqa: BLE001 - one host's fault, foreseen or not, is its own outcome
        known = foreseen(error, host.name)
        outcome = HostOutcome(host.name, "failed", seconds=clock.seconds, phases=clock.phases, error=known)
    tell_end(outcome, way)
    return outcome


def _one(host: Host, to: str | None, way: Way, clock: Clock) -> HostOutcome:
    """Look whether the release is whole there, point the host at it, have a short chat; else leave it as it was."""
    state = way.ports.state_of(host)
    present, target = _present(host, state), _target(host, state, to)
    locked = state.locked_of(target.manifest.release)
    if locked is None:
        raise ApplyError(
            f"nobody kept what release {target.manifest.release} was decided from", where=host.name, do="deploy up"
        )
    manifest = brought_back(target.manifest, present)
    with clock.phase("detect"):
        way.progress(Event("detect", f"looking whether release {manifest.release} is whole", host=host.name))
        _refuse_what_is_not_whole(host, state, manifest, way)
    with clock.phase("apply"):
        way.progress(Event("apply", f"bringing release {manifest.release} back", host=host.name))
        done = _activated(host, present, manifest, way)
    with clock.phase("verify"):
        check = _chat(host, locked, state, way)
    if check.result != "passed":
        failure = VerifyError(
            f"{check.name}: {check.detail or 'failed'}", where=host.name, do="deploy verify tells more"
        )
        raise _undone(host, present, failure, way)
    if present.release != manifest.release:
        state.return_to(manifest, left=present.release, why="a roll-back was asked for")
    return HostOutcome(
        host.name, "changed" if done.changed else "unchanged", done.changed, manifest.release, clock.seconds,
        clock.phases, endpoint(host, locked.applied, way.ports), state.evidence_file, target.evidence,
        locked.stand_ins, log=done.log, changes=done.changes, notes=_notes(target, present, manifest),
    )  # fmt: skip


def _present(host: Host, state: HostState) -> Manifest:
    present = state.manifest()
    if present is None:
        raise UsageError("nothing of ours is known to run there", where=host.name, do="bring it up: deploy up")
    return present


def _target(host: Host, state: HostState, to: str | None) -> Accepted:
    """Give the release to go back to; raises UsageError with those that are there."""
    kept, present = state.accepted_releases(), state.manifest()
    serving = present.release if present else ""
    there = ", ".join(f"{one.manifest.release} ({one.evidence.began[:16]})" for one in kept) or "none"
    if to is not None:
        found = [one for one in kept if one.manifest.release == to]
        what = f"{host.name} has no accepted release {to}"
    else:
        order = [one.manifest.release for one in kept]
        found = list(kept[: order.index(serving)] if serving in order else kept)
        what = f"no release was accepted before {serving}"
    if not found:
        raise UsageError(what, where=host.name, do=f"accepted releases there: {there}; go to one with --to ID")
    return found[-1]


def _refuse_what_is_not_whole(host: Host, state: HostState, manifest: Manifest, way: Way) -> None:
    """Refuse a release of which something is gone or was changed on the host, and packages that had to go back."""
    answer = way.ports.ask([Question(host=host, snapshot=False, manifest=manifest)])[host.name]
    if answer.reading is None:
        raise unread(answer, host)
    lacking = lacking_of(manifest, restore(answer.reading, state.filled_digests(manifest.release)))
    if lacking:
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        said = "; ".join(lacking[:_SHOWN]) + more
        raise ApplyError(
            f"release {manifest.release} cannot come back: {said}",
            where=host.name,
            do="it was left as it was; ask for what that release had in the profile, then deploy up",
        )


def _activated(host: Host, present: Manifest, manifest: Manifest, way: Way) -> Activated:
    try:
        return way.ports.activate(host, manifest, way.progress)
    except AgentrigError as error:
        raise _undone(host, present, error, way) from error


def _undone(host: Host, present: Manifest, error: AgentrigError, way: Way) -> AgentrigError:
    """Bring the present release back after a roll-back that failed; give the failure, and what then failed too."""
    way.progress(Event("apply", f"bringing release {present.release} back", host=host.name))
    try:
        way.ports.activate(host, present, way.progress)
    except Exception as second:  # noqa: BLE001 - both are told
        return both(error, foreseen(second, host.name))
    return type(error)(f"{error.what}; release {present.release} serves again", where=error.where, do=error.do)


def _chat(host: Host, locked: HostLock, state: HostState, way: Way) -> Check:
    with way.ports.reach(host, locked.applied.gateway_port) as base_url:
        check = way.ports.chat(base_url, state.secrets()["gateway_token"], locked.applied.served_name)
    way.progress(Event("verify", f"{check.name}: {check.result}", host=host.name, state="ok"))
    return check


def _notes(target: Accepted, present: Manifest, manifest: Manifest) -> tuple[str, ...]:
    """Give what the owner should know: how old the acceptance is, what did not go back, what up will do."""
    age = datetime.now(tz=UTC) - datetime.fromisoformat(target.evidence.began)
    hours, minutes = divmod(int(age.total_seconds()) // 60, 60)
    notes = [f"accepted {hours} h {minutes} min ago; one short chat was had now, deploy verify asks everything again"]
    had = {one.name for one in target.manifest.packages}
    if added := [f"{one.name} {one.version}" for one in manifest.packages if one.name not in had]:
        notes.append(f"packages that came later stay: {', '.join(added)}")
    if present.release != manifest.release:
        notes.append(
            f"the lock still asks for what was left: the next deploy up goes forward to it ({present.release})"
        )
    return tuple(notes)
