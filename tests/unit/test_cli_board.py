"""What a person sees while it works: lines made of events, for any width."""

from __future__ import annotations

import pytest

from orchestrator.cli.board import Board, amount
from orchestrator.cli.changes import changes_by_kind, changes_lines
from orchestrator.cli.screen import Screen, line_of
from orchestrator.progress import Event

MIB = 1 << 20
STORY = (
    (0.0, Event("detect", "reading 3 hosts")),
    (1.0, Event("plan", "the profile's own", "ada", state="ok")),
    (1.0, Event("plan", "the profile's own", "grace", state="ok")),
    (1.0, Event("done", "no answer within 10 s", "forge", state="failed")),
    (2.0, Event("lock", "fetching xllamacpp: 1 file", "ada", 12 * MIB, 33 * MIB)),
    (9.0, Event("apply", "Build the artefacts", "grace")),
    (16.0, Event("apply", "Build the artefacts", "grace", state="changed", seconds=7.0)),
    (16.0, Event("apply", "Write the release", "grace")),
)


def board(until: float) -> Board:
    found = Board(began=0.0)
    for moment, event in STORY:
        if moment <= until:
            found.take(event, moment)
    return found


def text(until: float, width: int, height: int = 24) -> list[str]:
    return [line.text for line in board(until).lines(until, width, height)]


def test_before_a_host_is_known_there_is_one_line() -> None:
    assert [line[2:] for line in text(0.0, 80)] == ["reading 3 hosts"]


def test_a_line_a_host_with_phase_task_bytes_and_seconds() -> None:
    ada, grace, forge, last = text(14.0, 80)
    assert ada[2:].split() == ["ada", "lock", "fetching", "xllamacpp:", "1", "file", "12", "of", "33", "MiB", "12", "s"]
    assert grace[2:].split() == ["grace", "apply", "Build", "the", "artefacts", "5", "s"]
    assert forge == "✗ forge  no answer within 10 s"
    assert last.strip() == "1 of 3 hosts are done, 0:14"


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("until", [1.0, 14.0, 16.0])
def test_no_line_is_wider_than_the_terminal(until: float, width: int) -> None:
    assert max(map(len, text(until, width))) <= width


def test_what_ended_is_seen_to_have_ended() -> None:
    ended = board(16.0)
    ended.rows["grace"].text, ended.rows["grace"].state = "llm identity", "ok"
    assert "✓ llm identity" in ended.lines(16.0, 80)[1].text
    assert [line.tone for line in ended.lines(16.0, 80)] == ["plain", "plain", "bad", "faint"]


def test_of_more_hosts_than_lines_those_at_work_are_shown() -> None:
    many = Board(began=0.0)
    for number in range(40):
        many.take(Event("done" if number < 30 else "apply", "x", f"host-{number:02}", state="ok"), float(number))
    lines = [line.text for line in many.lines(50.0, 80, height=12)]
    assert len(lines) == 11
    assert all("apply" in line for line in lines[:-1])
    assert lines[-1].strip() == "30 of 40 hosts are done, 0:50"


def test_the_tasks_that_took_long_are_named_the_longest_first() -> None:
    found = board(16.0)
    found.take(Event("apply", "Install the packages", "grace", state="changed", seconds=41.0), 60.0)
    found.take(Event("apply", "Make folders and users", "grace", state="changed", seconds=0.4), 60.0)
    assert found.slowest("grace") == [("Install the packages", 41.0), ("Build the artefacts", 7.0)]
    assert found.slowest("nobody") == []


def test_bytes_are_told_with_their_total_where_it_is_known() -> None:
    assert amount(None, None) == ""
    assert amount(12 * MIB, None) == "12 MiB"
    assert amount(12 * MIB, 33 * MIB) == "12 of 33 MiB"
    assert amount(10, 200) == "10 of 200 bytes"


def test_without_a_terminal_there_are_plain_lines_and_no_control_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen()
    for _, event in STORY:
        screen.tell(event)
    screen.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert said.err.splitlines()[-2:] == [
        "  apply  grace: ✓ Build the artefacts (7.0 s)",
        "  apply  grace: Write the release",
    ]
    assert "   lock  ada: fetching xllamacpp: 1 file 12 of 33 MiB" in said.err.splitlines()


def test_plain_lines_tell_bytes_once_in_a_while_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    for done in range(34):
        screen.tell(Event("lock", "fetching", "ada", done * MIB, 33 * MIB))
    assert [line.split("fetching ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "0 of 33 MiB",
        "33 of 33 MiB",
    ]


def test_a_failed_task_is_marked() -> None:
    assert (
        line_of(Event("apply", "Build the artefacts", "ada", state="failed")) == "  apply  ada: ✗ Build the artefacts"
    )


CHANGES = (
    "make /opt/agentrig",
    "remember what was there before",
    "make group agentrig-runtime",
    "make user agentrig-runtime",
    "carry 11 parts, 135997402 bytes",
    "put an archive of 9 packages",
    "mask nginx.service",
    "install libgomp1 12.2.0-14, nginx 1.22.1-9",
    "hold libgomp1, nginx",
    "build xllamacpp 2026.10",
    "write release 916704c7f46b7e5a",
    "make release 916704c7f46b7e5a current",
    "link /etc/systemd/system/agentrig-runtime.service",
    "start agentrig-runtime.service",
)


def test_what_changed_is_told_by_name_and_kind() -> None:
    assert changes_by_kind(CHANGES) == {
        "files": ["/opt/agentrig", "/etc/systemd/system/agentrig-runtime.service"],
        "users": ["agentrig-runtime"],
        "carried": ["11 parts, 130 MiB"],
        "masked": ["nginx.service"],
        "packages": ["libgomp1 12.2.0-14", "nginx 1.22.1-9"],
        "trees": ["xllamacpp 2026.10"],
        "release": ["916704c7f46b7e5a"],
        "units": ["agentrig-runtime.service"],
    }


def test_of_many_names_the_first_are_told_and_how_many_more() -> None:
    names = ", ".join(f"package-{number} 1.0" for number in range(20))
    (line,) = changes_lines([f"install {names}"], 78)
    assert len(line) <= 78
    assert line.startswith("packages  package-0 1.0, package-1 1.0")
    assert line.endswith("more")
