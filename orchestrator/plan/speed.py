"""How fast an llm answers: as somebody measured on such cards, else what bandwidth allows, as far as others got."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestrator.catalog.rows import LlmQuant, LlmRow
    from orchestrator.plan.memory import Choice
    from orchestrator.plan.setting import Setting


class Speed(NamedTuple):
    """Tokens a second: the most that memory bandwidth allows, and what to expect; ``measured`` names whose figure."""

    most: float
    expected: float
    measured: str = ""


def speed_of(row: LlmRow, quant: LlmQuant, choice: Choice, setting: Setting) -> Speed:
    """Give how fast one answer comes: each token reads all weights that work on it once."""
    active = quant.weights_bytes * (row.active_parameters or row.parameters) / row.parameters
    most = setting.bandwidth * 1e9 * choice.run.tensor / active
    for one in setting.speeds:
        if (one.llm, one.quant, one.cards) == (row.name, quant.quant, choice.run.tensor):
            return Speed(most, one.tokens_a_second, one.source)
    seconds = 1 / (most * setting.catalog.reached)
    if (row.active_parameters or row.parameters) < row.parameters:
        seconds += setting.catalog.layer_seconds * len(choice.shape.layers)
    return Speed(most, 1 / seconds)
