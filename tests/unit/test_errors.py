"""The error tree, its exit codes, and what comes first when several hosts fail."""

from __future__ import annotations

import re

import pytest

from orchestrator import errors


def tree() -> dict[str, type[errors.AgentrigError]]:
    found = {}
    waiting = [errors.AgentrigError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting.extend(kind.__subclasses__())
    return found


def test_the_docstring_draws_the_tree_with_its_codes() -> None:
    drawn = dict(re.findall(r"(\w+Error|NoFit|Probe\w+|Unreachable)\s+(\d)", errors.__doc__ or ""))
    assert drawn == {name: str(kind.exit_code) for name, kind in tree().items()}


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
