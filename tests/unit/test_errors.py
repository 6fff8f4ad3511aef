"""The error tree, its exit codes, and what comes first when several hosts fail."""

from __future__ import annotations

import re

import pytest

from orchestrator import errors
from orchestrator.line import doctoring
from orchestrator.line.up import both
from orchestrator.sandbox import landing


def tree() -> dict[str, type[errors.AgentrigError]]:
    found = {}
    waiting = [errors.AgentrigError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting.extend(kind.__subclasses__())
    return found


def test_the_docstring_draws_the_tree_with_its_codes() -> None:
    drawn = dict(re.findall(r"(\w+Error|NoFit|Probe\w+|Unreachable|RebootNeeded)\s+(\d)", errors.__doc__ or ""))
    assert drawn == {name: str(kind.exit_code) for name, kind in tree().items() if kind.__module__ == errors.__name__}


def test_a_room_may_say_more_of_a_failure_and_writes_no_code_of_its_own() -> None:
    of_rooms = [
        kind
        for kind in tree().values()
        if kind.__module__.startswith("orchestrator.") and kind.__module__ != errors.__name__
    ]
    assert {landing.Conflict, doctoring.BootError} <= set(of_rooms)
    assert [kind for kind in of_rooms if "exit_code" in vars(kind)] == []


@pytest.mark.parametrize(
    ("codes", "first"),
    [([0, 0], 0), ([0, 4, 3], 3), ([5, 1], 1), ([1, 2, 5], 2), ([4, 5], 5), ([], 0)],
)
def test_the_first_of_two_one_five_three_four(codes: list[int], first: int) -> None:
    assert errors.exit_code_of_many(codes) == first


def test_a_failure_says_what_where_and_what_to_do() -> None:
    error = errors.LockError("other bytes", where="nginx", do="run it again")
    assert str(error) == "nginx: other bytes"
    assert error.document() == {"kind": "lock", "what": "other bytes", "where": "nginx", "do": "run it again"}


def test_a_failure_that_could_not_be_undone_keeps_its_kind_and_its_own_facts() -> None:
    first = errors.SignatureError("the lock was changed", reason="edited", where="deploy.lock", do="look at it")
    told = both(first, errors.ApplyError("the disk is full", do="make room"))
    assert isinstance(told, errors.SignatureError)
    assert (told.reason, told.where, told.do) == ("edited", "deploy.lock", "make room")
    assert str(told) == "deploy.lock: the lock was changed; and it could not be undone: the disk is full"
    assert first.what == "the lock was changed"
    assert (first.undone, told.undone) == (True, False)
