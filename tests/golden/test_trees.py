"""Every expected file is rendered, and none besides."""

from __future__ import annotations

import pytest

from tests.golden.cases import CASES, Case, expected, kept


@pytest.mark.parametrize("case", CASES, ids=[case.profile for case in CASES])
def test_the_tree_is_as_it_is_kept(case: Case) -> None:
    now, before = expected(case), kept(case)
    assert sorted(now) == sorted(before)
    for path, content in now.items():
        assert content == before[path], f"{case.profile}/{path} moved: if it was meant, python -m tests.golden.renew"
