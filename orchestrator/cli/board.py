"""The moving part of the screen: a line a host with its phase, its task, and how far that is. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestrator.progress import Event

MARKS = {"ok": "✓", "changed": "✓", "failed": "✗", "running": "·"}
_SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
#: A task's seconds are shown from here on: before, they only flicker.
_WORTH_SECONDS = 1.0
#: How many of a host's longest tasks are named at the end, and from how many seconds on.
_NAMED, SLOW_SECONDS = 3, 5.0
_WIDEST_NAME = 20
_MIB = 1024 * 1024


class Line(NamedTuple):
    """One line, and how it is meant: ``plain``, ``good``, ``bad`` or ``faint``."""

    text: str
    tone: str = "plain"


@dataclass
class Row:
    """What one host is at."""

    phase: str = ""
    text: str = ""
    state: str = "running"
    since: float = 0.0
    done: int | None = None
    total: int | None = None
    tasks: dict[str, float] = field(default_factory=dict)


@dataclass
class Board:
    """All hosts of a run, in the order in which they are first heard of. Times are seconds of one clock."""

    began: float
    rows: dict[str, Row] = field(default_factory=dict)

    def take(self, event: Event, now: float) -> None:
        """Take one event in."""
        row = self.rows.setdefault(event.host, Row(since=now))
        if event.seconds is not None:
            row.tasks[event.text] = max(event.seconds, row.tasks.get(event.text, 0.0))
        if (event.phase, event.text) != (row.phase, row.text):
            row.since = now
        row.phase, row.text, row.state = event.phase, event.text, event.state
        row.done, row.total = event.done, event.total

    def slowest(self, host: str) -> list[tuple[str, float]]:
        """Give the tasks of a host that took long, the longest first, each with its seconds."""
        tasks = self.rows[host].tasks if host in self.rows else {}
        long = [(task, seconds) for task, seconds in tasks.items() if seconds >= SLOW_SECONDS]
        return sorted(long, key=lambda one: -one[1])[:_NAMED]

    def lines(self, now: float, width: int, height: int = 24) -> list[Line]:
        """Give the board as it stands: a line a host that fits the width; what does not fit the height is counted."""
        hosts = {name: row for name, row in self.rows.items() if name}
        latest = max((row.since for row in hosts.values()), default=now)
        of_all = [self._line("", row, now, width, 0) for name, row in self.rows.items() if not name]
        if not hosts:
            return of_all
        over = [row for row in hosts.values() if row.phase == "done"]
        column = min(max(len(name) for name in hosts), _WIDEST_NAME)
        room = max(1, height - 2)
        shown = list(hosts.items())
        if len(shown) > room:
            shown = sorted(shown, key=lambda one: (one[1].phase == "done", one[1].since))[:room]
        lines = [self._line(name, row, now, width, column) for name, row in shown]
        if "" in self.rows and self.rows[""].since > latest:
            lines += of_all
        if len(hosts) > 1:
            spent = _clock(now - self.began)
            lines.append(Line(_cut(f"  {len(over)} of {len(hosts)} hosts are done, {spent}", width), "faint"))
        return lines

    @staticmethod
    def _line(name: str, row: Row, now: float, width: int, column: int) -> Line:
        over, seconds = row.phase == "done", now - row.since
        mark = MARKS[row.state] if over else _SPIN[int(now * 8) % len(_SPIN)]
        far = amount(row.done, row.total)
        took = f"{seconds:.0f} s" if not over and seconds >= _WORTH_SECONDS else ""
        right = "  ".join(part for part in (far, took) if part)
        left = f"{mark} {_cut(name, column):{column}}  {'' if over else row.phase:6}  " if name else f"{mark} "
        left = f"{mark} {_cut(name, column):{column}}  " if over and name else left
        space = max(8, width - len(left) - len(right) - (2 if right else 0) - 1)
        past = "" if over or row.state == "running" else f"{MARKS[row.state]} "
        text = _cut(past + row.text, space)
        tone = ("bad" if row.state == "failed" else "good") if over else "plain"
        return Line((left + (f"{text:{space}}  {right}" if right else text)).rstrip()[:width], tone)


def amount(done: int | None, total: int | None) -> str:
    """Give how far something is, in MiB; where nobody knows how much it will be, what is there."""
    if done is None:
        return ""
    if total is None:
        return f"{done / _MIB:.0f} MiB"
    return f"{done / _MIB:.0f} of {total / _MIB:.0f} MiB" if total >= _MIB else f"{done} of {total} bytes"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _cut(text: str, width: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= width else plain[: max(0, width - 1)] + "…"
