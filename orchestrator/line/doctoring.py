"""A runtime that did not come up: its log is read, its cause told, and the change that is proven tried once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.catalog.loader import causes
from orchestrator.detect import Answer, Question
from orchestrator.doctor import GATEWAY_UNIT, RUNTIME_UNIT, UNKNOWN, Finding, cleaned, diagnose, proposed
from orchestrator.errors import AgentrigError, ApplyError, ProbeGarbled, ProbeMissing
from orchestrator.line.draft import draft, read
from orchestrator.line.status import served_lock
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports, Way
    from orchestrator.line.values import Draft, HostOutcome, Wish
    from orchestrator.lockfile import HostLock, Lock

#: Seconds added to how long an apply took, for a host whose clock runs a little otherwise.
_SLACK_SECONDS = 5
#: MiB of free disk below which a host is told to be full: a log, a release's own files, apt's lists.
LEAST_DISK_MIB = 1024
#: Problems of detection itself, which ``deploy detect`` tells: nothing is known to be wrong with the host.
_OF_PROBES = frozenset({ProbeGarbled.kind, ProbeMissing.kind})


class BootError(ApplyError):
    """A runtime that did not come up, with what its log tells."""

    def __init__(self, what: str, finding: Finding | None = None, *, where: str = "", do: str = "") -> None:
        super().__init__(what, where=where, do=do)
        self.finding = finding


def explained(one: Draft, error: AgentrigError, seconds: float, way: Way) -> AgentrigError:
    """Give the failure of an apply with the cause that the runtime's log tells; as it is where it was none of its.

    ``seconds`` is how long the apply took: older lines do not count. A host that does not answer leaves it as it is.
    """
    if not isinstance(error, ApplyError) or isinstance(error, BootError) or RUNTIME_UNIT not in error.what:
        return error
    question = Question(host=one.host, snapshot=False, journal=True, journal_seconds=int(seconds) + _SLACK_SECONDS)
    try:
        units = way.ports.ask([question])[one.host.name].units
    except AgentrigError:
        return error
    text = "\n".join((*(unit.text for unit in units if unit.unit == RUNTIME_UNIT), error.what))
    found = diagnose(_clean(text, one.host, way.ports), causes(), one.applied.runtime, one.host.name)
    if found.cause == UNKNOWN:
        shown = "; ".join(found.lines[-3:])
        return BootError(error.what, found, where=error.where, do=f"the lines that matter: {shown}. {error.do}")
    what = f"the runtime did not come up: {causes()[found.cause].title}: {found.means} ({found.lines[0][:160]})"
    return BootError(what, found, where=error.where, do=f"{found.change}; {error.do}")


def second_try(outcome: HostOutcome, one: Draft, wish: Wish, way: Way) -> Draft | None:
    """Give the draft with the one change that is proven for what went wrong; None where none is, or it does not fit.

    What the profile fixes is never changed, nor anything with ``locked`` or ``check``, nor a second time.
    """
    error = outcome.error
    if not isinstance(error, BootError) or wish.check or wish.locked or one.tried:
        return None
    finding = error.finding if error.undone else None
    row = causes().get(finding.cause) if finding else None
    change = proposed(finding, row, one.profile, one.applied) if finding and row else None
    if row is None or change is None:
        return None
    profile, words = change
    try:
        new = draft(one.host, profile, Answer(snapshot=one.snapshot), None, wish, way.ports)
    except AgentrigError as refused:
        way.progress(Event("plan", f"{words} would help, but {refused.what}", host=one.host.name))
        return None
    tried = f"{words}, after: {row.title}"
    way.progress(Event("plan", f"{row.title}; trying it once with {words}", host=one.host.name))
    deployment = new.deployment.model_copy(update={"reasons": (*new.deployment.reasons, f"changed by itself: {tried}")})
    return replace(new, profile=one.profile, deployment=deployment, former=one.former, tried=tried)


def again(  # noqa: PLR0913, PLR0917 - one step of the line, each a value of it
    drafts: Sequence[Draft],
    outcomes: Mapping[str, HostOutcome],
    lock: Lock,
    wish: Wish,
    way: Way,
    relock: Callable[[Sequence[Draft]], tuple[Lock, dict[str, AgentrigError]]],
    whole: Callable[[Draft, Lock], HostOutcome],
) -> dict[str, HostOutcome]:
    """Try hosts whose runtime did not come up once more, each with its change; give how that ended for each.

    Where it did not help, the lock says again what it said before.
    """
    tries = [new for one in drafts if (new := second_try(outcomes[one.host.name], one, wish, way))]
    if not tries:
        return {}
    changed, refused = relock(tries)
    tries = [one for one in tries if one.host.name not in refused]
    if not tries:
        return {}
    _write(wish.lock_file, changed, way.ports)
    done = {one.host.name: whole(one, changed) for one in tries}
    failed = {name: lock.hosts[name] for name, outcome in done.items() if outcome.error and name in lock.hosts}
    if failed:
        hosts: dict[str, HostLock] = {**changed.hosts, **failed}
        _write(wish.lock_file, lock if len(failed) == len(done) else _with(changed, hosts), way.ports)
    return done


def _with(lock: Lock, hosts: dict[str, HostLock]) -> Lock:
    return lock.model_copy(update={"hosts": hosts})


def _write(file: Path, lock: Lock, ports: Ports) -> None:
    ports.write_lock(file, lock)


def examine_hosts(
    hosts: Sequence[Host], lock: Lock | None, ports: Ports
) -> tuple[tuple[Finding, ...], tuple[AgentrigError, ...]]:
    """Give what is wrong on hosts, all read at once, and why those could not be read that did not answer."""
    answers = ports.ask([Question(host=host, snapshot=True, journal=True) for host in hosts])
    findings: list[Finding] = []
    errors: list[AgentrigError] = []
    for host in hosts:
        try:
            read(answers[host.name], host)
        except AgentrigError as error:
            errors.append(error)
            continue
        findings += _of_units(host, answers[host.name], lock, ports)
        findings += _of_machine(host, answers[host.name], lock, ports)
    return tuple(findings), tuple(errors)


def of_log(text: str, runtime: str | None) -> Finding:
    """Give what a log tells that somebody brought."""
    return diagnose(cleaned(text), causes(), runtime)


def _of_units(host: Host, answer: Answer, lock: Lock | None, ports: Ports) -> list[Finding]:
    """Give why units of ours that are there do not run."""
    locked = served_lock(host, lock, ports)
    found = []
    for unit in answer.units:
        if unit.active:
            continue
        runtime = locked.applied.runtime if locked and unit.unit == RUNTIME_UNIT else None
        one = diagnose(_clean(unit.text, host, ports), causes(), runtime, host.name)
        if one.cause == UNKNOWN and unit.result == "success":
            means, change = f"{unit.unit} was stopped, and by no fault of its own", "deploy up starts it again"
            one = one.model_copy(update={"cause": "stopped", "means": means, "change": change})
        elif one.cause == UNKNOWN:
            one = one.model_copy(update={"means": f"{unit.unit}: {one.means}"})
        found.append(one)
    return found


def _of_machine(host: Host, answer: Answer, lock: Lock | None, ports: Ports) -> list[Finding]:
    """Give what is wrong with the machine itself: its driver, clock and packages, its disk, its ports."""
    snapshot = answer.snapshot
    if snapshot is None:
        return []
    found = [
        Finding(host=host.name, cause=problem.kind, means=problem.what, change=problem.do)
        for problem in snapshot.problems
        if problem.kind not in _OF_PROBES
    ]
    free = snapshot.disk_free_mib
    if free is not None and free < LEAST_DISK_MIB:
        means = f"its disk has {free} MiB left"
        found.append(Finding(host=host.name, cause="disk_full", means=means, change="make room at /opt there"))
    locked = served_lock(host, lock, ports)
    idle = {unit.unit for unit in answer.units if not unit.active}
    wanted = {}
    if locked and RUNTIME_UNIT in idle:
        wanted[locked.applied.runtime_port] = "runtime.port"
    if locked and GATEWAY_UNIT in idle:
        wanted[locked.applied.gateway_port] = "gateway.port"
    for one in snapshot.listeners:
        if one.protocol == "tcp" and one.port in wanted:
            means = f"port {one.port} is taken by {one.program or 'another program'}"
            change = f"end that program, or set {wanted[one.port]} in the profile to another port"
            found.append(Finding(host=host.name, cause="port_taken", means=means, change=change))
    return found


def _clean(text: str, host: Host, ports: Ports) -> tuple[str, ...]:
    """Give a log's lines without the host's secrets, as far as it has any."""
    state = ports.state_of(host)
    return cleaned(text, state.secrets().values() if state.token_file.exists() else ())
