"""The catalog is data that decisions rest on: all of it holds together, and every llm is planned on some card."""

from __future__ import annotations

from orchestrator.catalog.loader import load
from orchestrator.line.catalog_rows import check


def test_the_catalog_holds() -> None:
    found = check(load())
    assert found["faults"] == []
    assert found["rows"]["llms"] == len(found["plans"])
    assert all(one["on"] for one in found["plans"] if not one["unknown"])
    assert all(one["reason"] for one in found["plans"] if one["unknown"])
