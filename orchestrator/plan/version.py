"""How vLLM counts memory changed with its versions: which of three ways a version has."""

from __future__ import annotations

import re
from typing import Literal

#: ``early``: before V1. ``sorted``: V1 to 0.16, the sampler sorts all logits. ``lean``: since 0.17.
Era = Literal["early", "sorted", "lean"]

_FIRST_V1 = (0, 8)
_FIRST_LEAN = (0, 17)
#: Versions that take their estimate of the CUDA graphs off the cache: 0.21 says so in its log, 0.28 no longer does it.
_COUNTS_GRAPHS = ((0, 21), (0, 28))


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


def counts_graphs(version: str | None) -> bool:
    """Tell whether a version takes its estimate of the CUDA graphs off the cache; not where the version is not said."""
    found = re.search(r"\b0\.(\d+)", version or "")
    first, after = _COUNTS_GRAPHS
    return found is not None and first <= (0, int(found.group(1))) < after


def counts_own_reserve(version: str | None) -> bool:
    """Tell whether an SGLang reckons by its own rule what of a card it leaves free: since 0.5, and where not said."""
    found = re.search(r"\b0\.(\d+)", version or "")
    if found:
        return int(found.group(1)) >= 5  # noqa: PLR2004 - the version that brought the rule
    dated = re.search(r"20\d\d", version or "")
    return not dated or int(dated.group(0)) > 2025  # noqa: PLR2004 - the year before the rule
