"""Every expected file is rendered, and none besides."""

from __future__ import annotations

import json

import pytest

from tests.golden import agents, runtimes
from tests.golden.cases import CASES, Case, expected, kept


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_tree_is_as_it_is_kept(case: Case) -> None:
    now, before = expected(case), kept(case)
    assert sorted(now) == sorted(before)
    for path, content in now.items():
        assert content == before[path], f"{case.name}/{path} moved: if it was meant, python -m tests.golden.renew"


def test_every_profile_is_served_by_each_runtime_or_says_why_not() -> None:
    now, before = runtimes.table(), json.loads(runtimes.KEPT.read_text(encoding="utf-8"))
    for profile, rows in now.items():
        assert rows == before.get(profile), f"{profile} moved: if it was meant, python -m tests.golden.runtimes"
    assert now.keys() == before.keys()


def test_every_agent_is_told_what_is_kept() -> None:
    now, before = agents.table(), json.loads(agents.KEPT.read_text(encoding="utf-8"))
    for agent, files in now.items():
        assert files == before.get(agent), f"{agent} moved: if it was meant, python -m tests.golden.agents"
    assert now.keys() == before.keys()
