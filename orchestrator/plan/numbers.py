"""Reads numbers of a configuration: what is silent, what is missing, and what no llm has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

#: No llm has a number above this in its configuration, but for its longest window; one that says so is wrong.
ABSURD = 100_000_000


def number(fields: Mapping[str, Any], name: str) -> int:
    """Give a whole number of a configuration, 0 where it is silent; raises Unknown for what no llm has."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not 0 <= value <= ABSURD:
        raise Unknown(f"{name} is {value!r}, which no llm has")
    return value


def need(fields: Mapping[str, Any], name: str) -> int:
    """Give a whole number above 0; raises Unknown naming it where the configuration lacks it."""
    value = number(fields, name)
    if not value:
        raise Unknown(f"the configuration lacks {name}")
    return value


def first(fields: Mapping[str, Any], *names: str) -> int:
    """Give the first of these numbers that is there, 0 where none is."""
    return next((found for name in names if (found := number(fields, name))), 0)


def share(fields: Mapping[str, Any], name: str) -> float:
    """Give a part of a whole, 1 where a configuration is silent; raises Unknown for what is none."""
    value = fields.get(name)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise Unknown(f"{name} is {value!r:.40}, which is no part of a whole")
    return float(value)


def table(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give a table within a configuration, empty where there is none."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}
