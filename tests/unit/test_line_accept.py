"""Acceptance as a phase of ``up``: the restart at its end, what it is skipped for, and what a failure brings back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import ApplyError
from orchestrator.evidence import AREAS, Check
from orchestrator.inventory import Host
from orchestrator.line.ports import Way
from orchestrator.line.status import verify
from orchestrator.line.up import up
from orchestrator.line.values import HostOutcome, Outcome, Wish
from orchestrator.progress import silent
from orchestrator.state import State
from orchestrator.verify import AGAIN_NAMES
from tests.unit.test_line_up import BAD, SNAPSHOT, Rooms, other_port

if TYPE_CHECKING:
    from collections.abc import Iterable

MUTE = Check(area="endpoint", name=AGAIN_NAMES[0], result="failed", detail="no answer after it")


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    return Rooms(State(tmp_path), {"one": SNAPSHOT})


def only(outcome: Outcome) -> HostOutcome:
    (host,) = outcome.hosts
    return host


def changed(rooms: Rooms) -> Outcome:
    """Bring the host to another port, which makes another release."""
    hosts = {"one": (Host(name="one", lab=True), other_port())}
    return up(hosts, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, silent))


def results(checks: Iterable[Check]) -> dict[str, str]:
    return {check.name: check.result for check in checks}


def test_what_is_accepted_was_started_anew_once_and_again_only_when_it_changes(rooms: Rooms) -> None:
    host = only(rooms.up("one"))
    assert rooms.did["restart"] == 1
    assert host.evidence is not None
    assert host.evidence.checks[2:] == (*rooms.checks, *rooms.after)
    rooms.up("one")
    rooms.up("one", full=True)
    assert rooms.did["restart"] == 1
    changed(rooms)
    assert rooms.did["restart"] == 2


def test_verify_starts_nothing_anew(rooms: Rooms) -> None:
    rooms.up("one")
    verify(Host(name="one", lab=True), rooms.lock, AREAS, Way(rooms.ports, silent))
    assert rooms.did["restart"] == 1


def test_what_is_not_accepted_anyway_is_not_started_anew(rooms: Rooms) -> None:
    rooms.checks = (BAD,)
    host = only(rooms.up("one"))
    assert not rooms.did["restart"]
    assert host.evidence is not None
    assert results(host.evidence.checks[2:]) == {"chat": "failed", AGAIN_NAMES[0]: "skipped", AGAIN_NAMES[1]: "skipped"}
    assert host.evidence.checks[-1].detail == "not accepted before it: chat"


def test_a_runtime_that_does_not_answer_after_its_restart_is_rolled_back(rooms: Rooms) -> None:
    good = only(rooms.up("one"))
    rooms.after = (MUTE,)
    outcome = changed(rooms)
    host = only(outcome)
    assert (host.result, outcome.exit_code) == ("rolled_back", 5)
    assert host.error is not None
    assert host.error.what == f"{AGAIN_NAMES[0]}: no answer after it"
    assert rooms.on_host["one"].release == good.deployment_id


def test_a_restart_that_fails_is_a_check_that_failed_and_not_a_fault_of_the_line(rooms: Rooms) -> None:
    good = only(rooms.up("one"))
    rooms.restart_error = ApplyError("agentrig-runtime.service does not stay up: out of memory", where="one", do="look")
    outcome = changed(rooms)
    host = only(outcome)
    assert (host.result, outcome.exit_code) == ("rolled_back", 5)
    assert host.error is not None
    assert host.error.kind == "not_accepted"
    assert host.error.what.startswith(f"{AGAIN_NAMES[0]}: agentrig-runtime.service does not stay up")
    assert host.evidence is not None
    assert results(host.evidence.checks)[AGAIN_NAMES[1]] == "skipped"
    assert rooms.on_host["one"].release == good.deployment_id
