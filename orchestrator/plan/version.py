"""How vLLM counts memory changed with its versions: which of three ways a version has."""

from __future__ import annotations

import re
from typing import Literal

#: ``early``: before V1. ``sorted``: V1 to 0.16, the sampler sorts all logits. ``lean``: since 0.17.
Era = Literal["early", "sorted", "lean"]

_FIRST_V1 = (0, 8)
_FIRST_LEAN = (0, 17)


def era(version: str | None) -> Era:
    """Give the way of a version as logs name it (``0.19.0``, ``V0 (2025-05)``, ``2026-10 nightly/V1``)."""
    text = version or ""
    found = re.search(r"\b0\.(\d+)", text)
    if found:
        return _of((0, int(found.group(1))))
    dated = re.search(r"(20\d\d)-(\d\d)", text)
    if "V0" in text:
        return "early"
    if dated:
        return _of_date(int(dated.group(1)), int(dated.group(2)))
    return "lean"


def _of(version: tuple[int, int]) -> Era:
    if version < _FIRST_V1:
        return "early"
    if version < _FIRST_LEAN:
        return "sorted"
    return "lean"


def _of_date(year: int, month: int) -> Era:
    if (year, month) < (2025, 2):
        return "early"
    if (year, month) < (2026, 3):
        return "sorted"
    return "lean"
