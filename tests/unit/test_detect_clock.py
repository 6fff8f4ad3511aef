"""A host's clock, held against ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.detect.script import Output
from orchestrator.detect.snapshots import CLOCK_SECONDS, snapshot_of

NOW = 1_800_000_000.5
DAY = 86400


def said(clock: str, now: float | None = NOW) -> list[str]:
    snapshot = snapshot_of("one", {"clock": Output(clock)}, {}, now=now)
    return [problem.what for problem in snapshot.problems if problem.kind == "clock"]


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (301, "its clock is 5.0 minutes ahead of this machine's"),
        (-7200, "its clock is 2.0 hours behind this machine's"),
        (3 * DAY, "its clock is 3.0 days ahead of this machine's"),
        (-4 * 365.25 * DAY, "its clock is 4.0 years behind this machine's"),
    ],
)
def test_how_far_it_is_off(off: float, words: str) -> None:
    assert said(f"{int(NOW + off)}\n") == [words]


@given(st.integers(-CLOCK_SECONDS + 1, CLOCK_SECONDS - 1))
def test_some_minutes_are_nothing(off: int) -> None:
    assert said(f"{int(NOW) + off}\n") == []


@given(st.text(max_size=20))
def test_whatever_date_says_is_a_number_or_a_problem(text: str) -> None:
    problems = snapshot_of("one", {"clock": Output(text)}, {}, now=NOW).problems
    assert {problem.kind for problem in problems} <= {"clock", "probe_garbled"}


def test_a_reading_that_is_kept_is_held_against_nothing() -> None:
    assert said("0\n", now=None) == []
