"""A driver that was changed under its module: told, rebooted with leave, and the line goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.catalog.loader import profile
from orchestrator.errors import ApplyError, RebootNeeded
from orchestrator.inventory import Host
from orchestrator.line.ports import Way
from orchestrator.line.up import up
from orchestrator.line.values import Outcome, Wish
from orchestrator.progress import silent
from orchestrator.snapshot import Problem
from orchestrator.state import State
from tests.unit.planning import machine_of
from tests.unit.test_line_up import CATALOG, SNAPSHOT, Rooms, only

WHY = "the loaded NVIDIA module is 580.95.05, the installed driver 580.178.04"
MISMATCH = Problem(kind="driver_mismatch", what=WHY, do="reboot, and hold the driver's packages")


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    cards = SNAPSHOT.model_copy(update={"gpus": machine_of("dual-3090").gpus, "ram_mib": 65536})
    stale = cards.model_copy(update={"problems": (MISMATCH,)})
    return Rooms(State(tmp_path), {"one": stale, "two": cards.model_copy(update={"name": "two"})})


def bring_up(rooms: Rooms, *names: str, **wishes: bool) -> Outcome:
    """Bring hosts up for the cards that they have, without an agent."""
    wanted = profile(CATALOG, "auto").model_copy(update={"agents": ()})
    hosts = {name: (Host(name=name, lab=True), wanted) for name in names}
    return up(hosts, replace(Wish(Path("deploy.lock"), lab=True), **wishes), Way(rooms.ports, silent))


def test_without_leave_it_says_reboot_and_changes_nothing(rooms: Rooms) -> None:
    outcome = bring_up(rooms, "one", "two")
    one, two = outcome.hosts
    assert (one.result, two.result, outcome.exit_code) == ("failed", "changed", 2)
    assert isinstance(one.error, RebootNeeded)
    assert one.error.what == f"{WHY}: the host must be rebooted"
    assert "--reboot" in one.error.do
    assert (rooms.did["reboot"], rooms.did["apply"]) == (0, 1)


def test_with_leave_it_is_rebooted_asked_anew_and_goes_all_of_the_way(rooms: Rooms) -> None:
    outcome = bring_up(rooms, "one", "two", reboot=True)
    assert [host.result for host in outcome.hosts] == ["changed", "changed"]
    assert rooms.did["apply"] == 2
    assert rooms.did["reboot"] == 1, "the one whose driver is as it should be is left alone"


def test_in_check_mode_nothing_is_rebooted(rooms: Rooms) -> None:
    assert isinstance(only(bring_up(rooms, "one", reboot=True, check=True)).error, RebootNeeded)
    assert rooms.did["reboot"] == 0


def test_a_host_that_uses_no_card_is_not_asked_to_reboot(rooms: Rooms) -> None:
    assert only(rooms.up("one", wanted="cpu")).result == "changed"


def test_a_host_that_does_not_come_back_fails_alone(rooms: Rooms) -> None:
    rooms.reboot_error = ApplyError("it did not come back", where="one")
    outcome = bring_up(rooms, "one", "two", reboot=True)
    assert [host.result for host in outcome.hosts] == ["failed", "changed"]
    assert outcome.exit_code == 1


@pytest.mark.parametrize(("reboot", "result", "applied"), [(True, "changed", 2), (False, "failed", 1)])
def test_a_module_that_wants_a_reboot_half_way_gets_one_with_leave(
    rooms: Rooms, *, reboot: bool, result: str, applied: int
) -> None:
    rooms.apply_error = RebootNeeded.because("nouveau has the cards until the next start", "two")
    host = only(bring_up(rooms, "two", reboot=reboot))
    assert (host.result, rooms.did["apply"], rooms.did["reboot"]) == (result, applied, int(reboot))
    assert ("reboot the host" in host.changes) is reboot


def test_a_reboot_that_does_not_help_is_not_tried_twice(rooms: Rooms) -> None:
    rooms.apply_error = RebootNeeded.because("nouveau has the cards until the next start", "two")
    rooms.reboot_helps = False
    host = only(bring_up(rooms, "two", reboot=True))
    assert (host.result, rooms.did["reboot"]) == ("failed", 1)
    assert isinstance(host.error, RebootNeeded)
