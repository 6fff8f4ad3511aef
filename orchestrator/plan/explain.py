"""A page about one decision that one would send to a colleague."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment, LedgerRow

WIDTH = 48
#: Context that a loop of 30 steps makes with an llm of the 32B class, in tokens (operators' reports).
LOOP_TOKENS = (25_000, 50_000)


def explain(deployment: Deployment, catalog: Catalog) -> str:
    """Give the decision as a page of plain text: the choice, why, the ledger as bars, the window, the others."""
    return "\n".join(_lines(deployment, catalog)) + "\n"


def _lines(deployment: Deployment, catalog: Catalog) -> Iterator[str]:
    title = catalog.runtimes[deployment.runtime].title
    yield f"{deployment.host}: {deployment.llm} {deployment.quant} by {title}"
    yield ""
    for reason in deployment.reasons:
        yield f"- {reason}"
    yield ""
    yield f"Memory ({deployment.confidence.replace('_', ' ')}); w weights, k cache, c compute, r left alone, . free"
    for row in deployment.ledger:
        yield f"  {row.gpu:16} {bar(row)} {row.capacity_mib / 1024:.1f} GiB"
        yield (
            f"  {'':16} weights {row.weights_mib / 1024:.1f}, cache {row.kv_mib / 1024:.1f}, "
            f"compute {row.compute_mib / 1024:.1f}, left alone {row.reserve_mib / 1024:.1f} GiB"
        )
    yield ""
    yield from _window(deployment)
    if deployment.rejections:
        yield ""
        yield "Not taken"
        for one in deployment.rejections:
            yield f"- {one.llm} {one.quant or ''} by {one.runtime or 'any runtime'}: {one.reason}"


def bar(row: LedgerRow, width: int = WIDTH) -> str:
    """Give one card's ledger as a bar of ``width`` letters."""
    parts = (("w", row.weights_mib), ("k", row.kv_mib), ("c", row.compute_mib), ("r", row.reserve_mib))
    drawn, total = "", 0.0
    for letter, size in parts:
        total += size
        drawn += letter * max(0, min(width, round(width * total / row.capacity_mib)) - len(drawn))
    return drawn + "." * (width - len(drawn))


def _window(deployment: Deployment) -> Iterator[str]:
    window = deployment.context_tokens
    low, high = LOOP_TOKENS
    if window >= high:
        verdict = "room for it"
    elif window >= low:
        verdict = "enough for the shorter ones"
    else:
        verdict = "the beginning of such a loop will be lost"
    yield f"Window: {window} tokens, {deployment.slots} sequences at once."
    yield f"A loop of 30 steps makes {low} to {high} tokens: {verdict}."
