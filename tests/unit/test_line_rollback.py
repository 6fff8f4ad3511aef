"""Back to a former release, over stand-in rooms: which one, what keeps it away, and what is swept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.catalog.loader import profile
from orchestrator.errors import ApplyError, UsageError, VerifyError
from orchestrator.inventory import Host
from orchestrator.line import sweeping
from orchestrator.line.ports import Way
from orchestrator.line.rollback import rollback
from orchestrator.line.status import status
from orchestrator.line.up import up
from orchestrator.line.values import HostOutcome, Wish
from orchestrator.manifest import PackageItem
from orchestrator.progress import Event, silent
from orchestrator.snapshot import HostSnapshot
from tests.unit.test_line_up import BAD, CATALOG, GOOD, Rooms, only, rooms

if TYPE_CHECKING:
    from orchestrator.kept import HostState

__all__ = ["rooms"]
HOST = Host(name="one", lab=True)


def asks_for(port: int) -> Any:
    cpu = profile(CATALOG, "cpu")
    return cpu.model_copy(update={"gateway": cpu.gateway.model_copy(update={"port": port})})


def brought_up(rooms: Rooms, port: int, told: Any = silent) -> HostOutcome:
    return only(up({"one": (HOST, asks_for(port))}, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, told)))


def back(rooms: Rooms, to: str | None = None) -> HostOutcome:
    return only(rollback([HOST], to, Way(rooms.ports, silent)))


def state(rooms: Rooms) -> HostState:
    return rooms.state.host("one", lab=True)


def release(host: HostOutcome) -> str:
    assert host.error is None
    assert host.deployment_id is not None
    return host.deployment_id


def port_of(rooms: Rooms) -> int:
    (found,) = status([HOST], rooms.lock, rooms.ports)
    assert found.deployment is not None
    return found.deployment.gateway_port


def test_back_to_the_release_before_and_no_further(rooms: Rooms) -> None:
    first, second = release(brought_up(rooms, 8090)), release(brought_up(rooms, 8091))
    third = release(brought_up(rooms, 8092))
    host = back(rooms)
    assert (host.result, host.deployment_id, host.changed) == ("changed", second, 1)
    assert rooms.on_host["one"].release == second
    assert release(back(rooms)) == first
    error = back(rooms).error
    assert isinstance(error, UsageError)
    assert third in error.do
    assert release(back(rooms, third)) == third


def test_one_that_is_not_known_is_refused_with_those_that_are(rooms: Rooms) -> None:
    first = release(brought_up(rooms, 8090))
    outcome = rollback([HOST], "0" * 16, Way(rooms.ports, silent))
    assert outcome.exit_code == 2
    assert first in str(only(outcome).error and only(outcome).error.do)  # type: ignore[union-attr]
    assert not rooms.did["activate"]


def test_the_present_one_is_unchanged(rooms: Rooms) -> None:
    first = release(brought_up(rooms, 8090))
    assert (back(rooms, first).result, back(rooms, first).changed) == ("unchanged", 0)


def test_the_evidence_is_that_of_then_with_its_age(rooms: Rooms) -> None:
    first = brought_up(rooms, 8090)
    brought_up(rooms, 8091)
    host = back(rooms)
    assert host.evidence == first.evidence == state(rooms).evidence()
    assert any("accepted 0 h 0 min ago" in note for note in host.notes)


def test_what_serves_is_known_by_its_own_decision_and_not_by_the_lock(rooms: Rooms) -> None:
    brought_up(rooms, 8090)
    brought_up(rooms, 8091)
    back(rooms)
    assert port_of(rooms) == 8090
    rooms.checks = (BAD,)
    assert brought_up(rooms, 8091).result == "rolled_back"
    assert port_of(rooms) == 8090


@pytest.mark.parametrize("asked", [True, False])
def test_up_says_that_it_goes_forward_to_the_lock_again(rooms: Rooms, *, asked: bool) -> None:
    brought_up(rooms, 8090)
    if asked:
        brought_up(rooms, 8091)
        left = back(rooms) and state(rooms).left()
    else:
        rooms.checks = (BAD,)
        brought_up(rooms, 8091)
        rooms.checks, left = (GOOD,), state(rooms).left()
    assert left is not None
    told: list[Event] = []
    assert release(brought_up(rooms, 8091, told.append)) == left.release
    assert [one for one in told if "forward to the lock again" in one.text and left.why in one.text]
    assert state(rooms).left() is None
    told.clear()
    brought_up(rooms, 8091, told.append)
    assert not [one for one in told if "forward" in one.text]


def test_a_package_never_goes_back(rooms: Rooms) -> None:
    brought_up(rooms, 8090)
    second = release(brought_up(rooms, 8091))
    kept = state(rooms).accepted_releases()[0]
    had = kept.manifest.model_copy(update={"packages": (PackageItem(name="nginx", version="1.22"),)})
    state(rooms).keep_accepted(had, kept.evidence)
    rooms.gone = {"packages": (PackageItem(name="nginx", version="1.24"),)}
    host = back(rooms, had.release)
    assert isinstance(host.error, ApplyError)
    assert "nginx was 1.22 and is 1.24" in host.error.what
    assert rooms.on_host["one"].release == second
    assert not rooms.did["activate"]


def test_one_that_does_not_answer_leaves_what_served(rooms: Rooms) -> None:
    first, second = release(brought_up(rooms, 8090)), release(brought_up(rooms, 8091))
    rooms.checks = (BAD,)
    host = back(rooms)
    assert isinstance(host.error, VerifyError)
    assert f"release {second} serves again" in host.error.what
    assert rooms.on_host["one"].release == second
    manifest = state(rooms).manifest()
    assert manifest is not None
    assert manifest.release == second != first


def test_both_failures_are_told(rooms: Rooms) -> None:
    first, second = release(brought_up(rooms, 8090)), release(brought_up(rooms, 8091))
    rooms.activate_error, rooms.sound = ApplyError("it does not start", where="one"), {second}
    assert "does not start; release" in str(back(rooms).error)
    rooms.sound = set()
    rooms.activate_error = ValueError("odd")
    rooms.apply_error = ApplyError("the disk is full", where="one")
    host = brought_up(rooms, 8093)
    assert "the disk is full; and it could not be undone: ValueError: odd" in str(host.error)
    assert first


def test_a_fault_while_it_is_undone_is_one_host_s_own(rooms: Rooms) -> None:
    brought_up(rooms, 8090)
    rooms.apply_error, rooms.activate_error = ApplyError("the disk is full"), OSError("read-only file system")
    hosts = {"one": (HOST, asks_for(8091)), "two": (Host(name="two", lab=True), asks_for(8091))}
    outcome = up(hosts, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, silent))
    assert [host.result for host in outcome.hosts] == ["failed", "failed"]
    assert "read-only" in str(outcome.hosts[0].error)


def test_check_neither_asks_nor_fetches_much(rooms: Rooms) -> None:
    hosts = {"one": (Host(name="one"), profile(CATALOG, "dual-3090"))}
    there = Path(__file__).parents[1] / "fixtures/snapshots/debian12_16cpu_64gib_2x_rtx3090.json"
    rooms.snapshots["one"] = HostSnapshot.from_json(there.read_bytes()).model_copy(update={"name": "one"})
    with pytest.raises(UsageError) as refused:
        up(hosts, Wish(Path("deploy.lock"), check=True), Way(rooms.ports, silent))
    assert "deploy lock" in refused.value.do
    assert not rooms.did["confirm_fetch"]
    assert not rooms.did["resolve"]


def test_of_many_releases_the_present_the_one_before_it_and_the_last_stay(rooms: Rooms) -> None:
    made = [release(brought_up(rooms, 8090 + number)) for number in range(7)]
    assert rooms.swept["one"] == (made[1],), "the first went when the sixth was accepted"
    there = [one.release for one in state(rooms).releases()]
    assert there == made[2:]
    assert [one.manifest.release for one in state(rooms).accepted_releases()] == made[2:]
    assert rooms.did["sweep"] == 2
    assert sweeping.to_sweep(state(rooms)) == ()
    assert not list((state(rooms).folder / "renderings").glob(f"{made[0]}*"))
    assert len(state(rooms).manifests()) == 6, "what was swept is one, for down"
    back(rooms, made[2])
    assert made[2] not in [one.release for one in sweeping.to_sweep(state(rooms), 0)]
