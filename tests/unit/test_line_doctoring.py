"""The line when a runtime does not come up: the cause is told, and one proven change is tried once, or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.detect import Answer
from orchestrator.detect.journals import UNITS, commands, parse
from orchestrator.detect.script import Output
from orchestrator.doctor import RUNTIME_UNIT, UnitLog
from orchestrator.errors import ApplyError
from orchestrator.inventory import Host
from orchestrator.line.doctoring import BootError, examine_hosts
from orchestrator.line.ports import Way
from orchestrator.line.up import up
from orchestrator.line.values import Wish
from orchestrator.profile import LlmWish
from orchestrator.progress import Event
from orchestrator.snapshot import Listener
from orchestrator.state import State
from tests.unit.test_line_up import CATALOG, SNAPSHOT, Rooms, only

if TYPE_CHECKING:
    from orchestrator.apply import Applied
    from orchestrator.line.values import Outcome
    from orchestrator.lockfile import Lock

TASK = "Run the runtime and wait until it answers"
NO_CACHE = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`."
PORT = "srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18080"
#: The profile ``cpu`` with nothing fixed of the window.
FREE = CATALOG.profiles["cpu"].model_copy(
    update={"llm": CATALOG.profiles["cpu"].llm.model_copy(update={"context_tokens": None, "slots": None})}
)


@dataclass
class Booting(Rooms):
    """Stand-in rooms whose runtime comes up with a window of at most ``most`` tokens, else says why it did not."""

    most: int = 10**9
    says: str = NO_CACHE
    asked: list[int | None] = field(default_factory=list)
    #: The window of each deployment that was applied.
    windows: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def ask(self, questions: Any) -> dict[str, Answer]:
        if all(question.journal and not question.manifest and not question.snapshot for question in questions):
            self.asked += [question.journal_seconds for question in questions]
            return {one.host.name: Answer(units=(unit(self.says, active=False),)) for one in questions}
        return super().ask(questions)

    def apply(self, host: Host, rendered: Any, lock: Lock, *rest: Any, check: bool) -> Applied:
        locked = lock.hosts[host.name]
        self.windows.append(locked.applied.context_tokens)
        if locked.applied.context_tokens > self.most:
            raise ApplyError(f"{TASK}: {RUNTIME_UNIT} does not stay up: it ended", where=host.name, do="the log: x.log")
        return super().apply(host, rendered, lock, *rest, check=check)

    def bring_up(self, *, wanted: Any = FREE, **wishes: bool) -> Outcome:
        def tell(event: Event) -> None:
            self.told.append(event.text)

        host = Host(name="one", lab=True)
        return up({"one": (host, wanted)}, Wish(Path("deploy.lock"), lab=True, **wishes), Way(self.ports, tell))


def unit(text: str, *, active: bool, name: str = RUNTIME_UNIT, result: str = "exit-code") -> UnitLog:
    return UnitLog(unit=name, active=active, result=result, text=text)


@pytest.fixture
def rooms(tmp_path: Path) -> Booting:
    return Booting(State(tmp_path), {"one": SNAPSHOT})


def test_the_proven_change_is_tried_once_and_kept_in_lock_notes_and_evidence(rooms: Booting) -> None:
    rooms.bring_up()
    (whole,) = rooms.windows
    rooms.on_host.clear()
    rooms.windows.clear()
    rooms.most = whole // 2
    host = only(rooms.bring_up(full=True))
    assert (host.result, rooms.windows) == ("changed", [whole, whole // 2])
    assert rooms.lock is not None
    assert rooms.lock.hosts["one"].applied.context_tokens == whole // 2
    assert any(f"{whole} -> {whole // 2}" in reason for reason in rooms.lock.hosts["one"].deployment.reasons)
    assert any(f"{whole} -> {whole // 2}" in note for note in host.notes)
    assert host.evidence is not None
    assert any(check.name == "the runtime came up after one change" for check in host.evidence.checks)
    assert sum("trying it once" in text for text in rooms.told) == 1


def test_the_change_stays_with_the_next_run(rooms: Booting) -> None:
    rooms.bring_up()
    rooms.on_host.clear()
    rooms.most = rooms.windows[0] // 2
    rooms.bring_up(full=True)
    rooms.windows.clear()
    assert only(rooms.bring_up(full=True)).error is None
    assert rooms.windows == [rooms.most]


def test_where_it_does_not_help_the_lock_is_as_it_was_and_it_is_not_tried_again(rooms: Booting) -> None:
    rooms.most = 1
    host = only(rooms.bring_up())
    assert len(rooms.windows) == 2
    assert isinstance(host.error, BootError)
    assert host.error.finding is not None
    assert host.error.finding.cause == "memory_at_cache"
    assert "no memory for the cache" in host.error.what
    assert rooms.lock is not None
    assert rooms.lock.hosts["one"].applied.context_tokens == rooms.windows[0]


def test_what_the_profile_fixes_is_told_and_not_changed(rooms: Booting) -> None:
    rooms.most = 1
    fixed = FREE.model_copy(update={"llm": LlmWish(name=FREE.llm.name, context_tokens=4096, slots=1)})
    host = only(rooms.bring_up(wanted=fixed))
    assert len(rooms.windows) == 1
    assert host.error is not None
    assert "a smaller window" in host.error.do
    assert "x.log" in host.error.do


def test_a_locked_run_changes_nothing_by_itself(rooms: Booting) -> None:
    rooms.bring_up()
    rooms.on_host.clear()
    rooms.most = 1
    rooms.windows.clear()
    host = only(rooms.bring_up(full=True, locked=True))
    assert isinstance(host.error, BootError)
    assert len(rooms.windows) == 1


def test_advice_alone_is_told_with_the_line_that_says_so(rooms: Booting) -> None:
    rooms.most, rooms.says = 1, f"Authorization: Bearer abcdefgh123\n{PORT}"
    host = only(rooms.bring_up())
    assert len(rooms.windows) == 1
    assert isinstance(host.error, BootError)
    assert host.error.finding is not None
    assert host.error.finding.cause == "port_taken"
    assert PORT in host.error.what
    assert "runtime.port" in host.error.do
    assert rooms.asked[0] is not None


def test_an_unknown_end_keeps_the_failure_and_shows_the_lines_that_matter(rooms: Booting) -> None:
    rooms.most, rooms.says = 1, "GGML_ASSERT(n_past >= 0) failed"
    host = only(rooms.bring_up())
    assert isinstance(host.error, BootError)
    assert host.error.finding is not None
    assert host.error.finding.cause == "unknown"
    assert "does not stay up" in host.error.what
    assert "GGML_ASSERT" in host.error.do


def test_where_undoing_fails_too_both_are_told_and_nothing_is_tried(rooms: Booting) -> None:
    rooms.bring_up()
    rooms.on_host.clear()
    rooms.windows.clear()
    rooms.most, rooms.activate_error = 1, ApplyError("the host is gone", where="one")
    wider = FREE.model_copy(update={"gateway": FREE.gateway.model_copy(update={"port": 8099})})
    host = only(rooms.bring_up(wanted=wider))
    assert host.error is not None
    assert "no memory for the cache" in host.error.what
    assert "the host is gone" in host.error.what
    assert len(rooms.windows) == 1


def test_a_failure_that_is_not_the_runtime_s_is_left_as_it_is(rooms: Booting) -> None:
    rooms.apply_error = ApplyError("Install the packages: no archive answers", where="one")
    host = only(rooms.bring_up())
    assert host.error is rooms.apply_error
    assert rooms.asked == []


def examined(rooms: Rooms, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> list[tuple[str, str]]:
    host = Host(name="one", lab=True)
    monkeypatch.setattr(rooms, "ask", lambda _: {"one": answer})
    findings, errors = examine_hosts([host], None, rooms.ports)
    assert errors == ()
    return [(one.host, one.cause) for one in findings]


def test_the_doctor_finds_nothing_where_all_runs(rooms: Booting, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer(snapshot=SNAPSHOT, units=tuple(unit(PORT, active=True, name=name) for name in UNITS))
    assert examined(rooms, monkeypatch, answer) == []


def test_the_doctor_reads_units_disk_and_ports(rooms: Booting, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms.bring_up()
    stranger = Listener(protocol="tcp", address="127.0.0.1", port=18080, program="python3")
    snapshot = SNAPSHOT.model_copy(update={"disk_free_mib": 12, "listeners": (stranger,)})
    units = (unit(NO_CACHE, active=False), unit("bye", active=False, name=UNITS[1], result="success"))
    found = examined(rooms, monkeypatch, Answer(snapshot=snapshot, units=units))
    assert found == [("one", "memory_at_cache"), ("one", "stopped"), ("one", "disk_full"), ("one", "port_taken")]


def test_a_host_that_does_not_answer_is_an_error_of_its_own(rooms: Booting) -> None:
    findings, errors = examine_hosts([Host(name="gone", lab=True)], None, rooms.ports)
    assert findings == ()
    assert [error.where for error in errors] == ["gone"]


def test_journals_are_read_of_units_that_are_there() -> None:
    head = "LoadState=loaded\nActiveState=activating\nResult=exit-code\nNRestarts=4\nInvocationID=ab"
    there = Output(f"{head}\nagentrig-log\n{PORT}\nActiveState=active\n")
    gone = Output("LoadState=not-found\nActiveState=inactive\nagentrig-log\n")
    (found,) = parse({UNITS[0]: there, UNITS[1]: gone})
    assert (found.active, found.result, found.restarts) == (False, "exit-code", 4)
    assert found.text.startswith(PORT)
    assert parse({}) == ()
    flapping = f"{head.replace('activating', 'active')}\nActiveEnterTimestampMonotonic=900000000\nUptime=905"
    assert not parse({UNITS[0]: Output(f"{flapping}\nagentrig-log\n")})[0].active
    assert parse({UNITS[0]: Output(f"{flapping.replace('=905', '=990')}\nagentrig-log\n")})[0].active
    assert "--since=-90s" in commands(90)[UNITS[0]]
