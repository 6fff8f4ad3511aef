"""A page about one decision that one would send to a colleague, and decisions side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan.more import described

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment, LedgerRow, Rejection
    from orchestrator.plan.more import NextStep

WIDTH = 48
#: Context that a loop of 30 steps makes with an llm of the 32B class, in tokens (operators' reports).
LOOP_TOKENS = (25_000, 50_000)
LOOP_STEPS = 30
#: Alternatives that the page names.
MOST_ALTERNATIVES = 12


def explain(deployment: Deployment, catalog: Catalog, steps: Sequence[NextStep] = ()) -> str:
    """Give the decision as a page of plain text: the choice, why, the ledger as bars, the window, the others.

    ``steps`` are what more memory would buy.
    """
    return "\n".join((*_lines(deployment, catalog), *_steps(steps))) + "\n"


def compare(deployments: Sequence[tuple[str, Deployment | str]]) -> str:
    """Give decisions for other cards side by side: a name each, and the decision or why there is none."""
    rows = [("cards", "llm", "quant", "runtime", "window", "cache", "for agents")]
    for name, decided in deployments:
        if isinstance(decided, str):
            rows.append((name, decided, "", "", "", "", ""))
            continue
        window, kind = str(decided.context_tokens), decided.agentic_class
        rows.append((name, decided.llm, decided.quant, decided.runtime, window, decided.kv_dtype, kind))
    widths = [max(len(row[column]) for row in rows if row[2] or not column) for column in range(len(rows[0]))]
    return (
        "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )
        + "\n"
    )


def bar(row: LedgerRow, width: int = WIDTH) -> str:
    """Give one card's ledger as a bar of ``width`` letters."""
    parts = (("w", row.weights_mib), ("k", row.kv_mib), ("c", row.compute_mib), ("r", row.reserve_mib))
    drawn, total = "", 0.0
    for letter, size in parts:
        total += size
        drawn += letter * max(0, min(width, round(width * total / row.capacity_mib)) - len(drawn))
    return drawn + "." * (width - len(drawn))


def _lines(deployment: Deployment, catalog: Catalog) -> Iterator[str]:
    title = catalog.runtimes[deployment.runtime].title
    yield f"{deployment.host}: {deployment.llm} {deployment.quant} by {title}"
    yield ""
    for reason in deployment.reasons:
        yield f"- {reason}"
    yield ""
    yield f"Memory ({deployment.confidence.replace('_', ' ')}); w weights, k cache, c compute, r left alone, . free"
    for row in deployment.ledger:
        whose = f" ({deployment.sidecar})" if row.part == "sidecar" else ""
        yield f"  {row.gpu:16} {bar(row)} {row.capacity_mib / 1024:.1f} GiB{whose}"
        yield (
            f"  {'':16} weights {row.weights_mib / 1024:.1f}, cache {row.kv_mib / 1024:.1f}, "
            f"compute {row.compute_mib / 1024:.1f}, left alone {row.reserve_mib / 1024:.1f} GiB"
        )
    yield ""
    yield from _window(deployment)
    yield from _loop(catalog.llms.get(deployment.llm))
    yield from _rejected(deployment.rejections)


def _window(deployment: Deployment) -> Iterator[str]:
    window = deployment.context_tokens
    low, high = LOOP_TOKENS
    if window >= high:
        verdict = "there is room for it"
    elif window >= low:
        verdict = "it holds the shorter ones"
    else:
        verdict = "it will lose the beginning of such a loop"
    yield f"The window is {window} tokens, with {deployment.slots} sequences at once."
    yield f"A loop of {LOOP_STEPS} steps makes {low} to {high} tokens: {verdict}."


def _loop(row: LlmRow | None) -> Iterator[str]:
    """Give the chance that a loop sees no failed call, from what was reported of one call."""
    if row is None or row.agentic_class == "demonstration":
        return
    if row.tool_call_share is None:
        yield "Nobody has published how many of its tool calls land; deploy bench --tools measures it here."
        return
    least, most = row.tool_call_share
    yield (
        f"{100 * least:.0f} to {100 * most:.0f} % of its tool calls land, by operators' reports: {LOOP_STEPS} in a row "
        f"without a retry in {100 * least**LOOP_STEPS:.0f} to {100 * most**LOOP_STEPS:.0f} of 100 tries."
    )


def _rejected(rejections: Sequence[Rejection]) -> Iterator[str]:
    fitting = [one for one in rejections if one.reason.startswith("fits")]
    lacking = [one for one in rejections if not one.reason.startswith("fits")]
    for title, found in (("It could also be", fitting), ("What does not fit, and what it lacks", lacking)):
        if not found:
            continue
        yield ""
        yield title
        for one in found[:MOST_ALTERNATIVES]:
            yield f"- {one.llm} {one.quant or ''} by {one.runtime or 'any runtime'}: {one.reason}"
        if len(found) > MOST_ALTERNATIVES:
            yield f"- and {len(found) - MOST_ALTERNATIVES} more (deploy plan --json names all)"


def _steps(steps: Sequence[NextStep]) -> Iterator[str]:
    if not steps:
        return
    yield ""
    yield "What more memory would buy"
    for step in steps:
        yield f"- {described(step)}"
