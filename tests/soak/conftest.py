"""What every case of a matrix has: the seed, and a record of how it went. A case that was skipped has not passed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.soak.runner import RECORD, SEED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and SEED not in os.environ:
            item.add_marker(pytest.mark.skip(reason=f"the slow ring: make soak, or {SEED}=1 pytest ..."))


class Record:
    """What a case tells of itself."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {"says": {}, "figures": {}}

    def says(self, **facts: object) -> None:
        """Tell what must come out the same each time."""
        self.told["says"].update(facts)

    def figures(self, **measured: object) -> None:
        """Tell what was measured."""
        self.told["figures"].update(measured)


_KEPT = pytest.StashKey[Record]()
_RESULTS = pytest.StashKey[list[str]]()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Where a case tells what must come out the same each time, and what was measured."""
    return request.node.stash.setdefault(_KEPT, Record())


@pytest.fixture(scope="session")
def seed() -> int:
    """The number that everything drawn is drawn from."""
    return int(os.environ[SEED])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    results = item.stash.setdefault(_RESULTS, [])
    results.append(report.outcome)
    if report.when == "teardown" and (file := os.environ.get(RECORD)):
        worst = next((one for one in ("failed", "skipped") if one in results), "passed")
        told = item.stash.get(_KEPT, Record()).told
        Path(file).write_text(json.dumps(told | {"result": worst}), encoding="utf-8")
    return report
