"""When an ``up`` is disturbed: a phase, and a fraction of the time that it usually takes; both from a seed."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

PHASES = ("detect", "plan", "lock", "apply", "verify")
_LINE = re.compile(r"\s*([a-z]+)  ")
#: A phase that began is waited for this long; an ``up`` that was disturbed ends within this.
_PATIENCE = 180.0


class Moment(NamedTuple):
    """A phase, and how far into it as a fraction of its usual length; or a line of the progress, the nth time."""

    phase: str
    fraction: float = 0.0
    line: str = ""
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.line!r}, time {self.nth}" if self.line else f"{self.phase} at {self.fraction:.3f}"


def drawn(seed: int, name: str) -> Moment:
    """Draw a moment of the phase that is in a name; the same for the same seed and name."""
    (phase,) = set(name.split("-")) & set(PHASES)
    chance = random.Random(f"{seed} {name}")  # noqa: S311 - nothing secret is drawn
    return Moment(phase, round(chance.uniform(0.05, 0.6), 3))


@dataclass
class Running:
    """An ``up`` whose progress is read as it comes."""

    process: subprocess.Popen[str]
    told: list[tuple[str, str]] = field(default_factory=list)
    #: Phase -> when it told its first line.
    began: dict[str, float] = field(default_factory=dict)
    ended: bool = False

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="progress")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = _LINE.match(line)
            with self._news:
                self.told.append((found[1] if found else "", line))
                self.began.setdefault(self.told[-1][0], time.monotonic())
                self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def wait(self, moment: Moment, lengths: Mapping[str, float]) -> bool:
        """Wait until a moment; tell whether its phase was still on when it came."""
        if moment.line:
            return self._until(lambda: sum(moment.line in line for _, line in self.told) >= moment.nth)
        later = PHASES[PHASES.index(moment.phase) + 1 :]
        if not self._until(lambda: any(phase == moment.phase for phase, _ in self.told)):
            return False
        if moment.phase == "plan":  # it is over in an instant, and its one line comes as it ends
            return True
        over = self._until(
            lambda: any(phase in later for phase, _ in self.told),
            lengths.get(moment.phase, 0.0) * moment.fraction * self._pace(moment.phase, lengths),
        )
        return not over and not self.ended

    def _pace(self, phase: str, lengths: Mapping[str, float]) -> float:
        """Give by how much this run is quicker so far than the undisturbed one was: a busy machine is slow."""
        before = [one for one in PHASES[: PHASES.index(phase)] if one in self.began]
        usual = sum(lengths.get(one, 0.0) for one in before)
        return min(1.0, (self.began[phase] - self.began[before[0]]) / usual) if usual > 1 else 1.0

    def _until(self, true: Callable[[], bool], seconds: float = _PATIENCE) -> bool:
        """Wait until something has been told, the run has ended, or the time is over; tell whether it has."""
        end = time.monotonic() + seconds
        with self._news:
            while not true() and not self.ended and (left := end - time.monotonic()) > 0:
                self._news.wait(left)
            return true()

    def kill(self) -> None:
        """End it as ``kill -9`` does, where it has not ended."""
        self.process.kill()
        self.process.wait()
        self._reader.join(_PATIENCE)

    def finish(self) -> str:
        """Wait until it has ended by itself; gives its output."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        self.process.wait(_PATIENCE)
        self._reader.join()
        return output

    def text(self) -> str:
        """Give what it has told."""
        return "".join(line for _, line in self.told)
