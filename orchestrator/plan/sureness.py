"""How sure a ledger is: by where its sizes come from, and by what its measured constants rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan import constants as known
from orchestrator.plan.cache import LLAMA_CPP

if TYPE_CHECKING:
    from orchestrator.deployment import Confidence
    from orchestrator.plan.compute import Run
    from orchestrator.plan.memory import Choice

#: Independent groups of measured loads that make a constant sure.
ENOUGH_GROUPS = 3


def confidence(choice: Choice, *, real_sizes: bool) -> Confidence:
    """Tell how sure the ledger is.

    ``exact`` where the weight files' own sizes are known and every measured constant on its way rests on
    ``ENOUGH_GROUPS`` independent groups of loads; ``lower_bound`` where the runtime's buffers were never measured.
    """
    if choice.runtime == "tensorrt_llm":
        return "lower_bound"
    sure = real_sizes and all(one.groups >= ENOUGH_GROUPS for one in rests_on(choice))
    return "exact" if sure else "estimated"


def rests_on(choice: Choice) -> tuple[known.Constant, ...]:
    """Give the measured constants that the figures of a choice rest on; those of what is left alone do not count."""
    if choice.runtime in LLAMA_CPP:
        found = (known.RECURRENT_COPIES,) if choice.shape.linear else ()
        return (*found, known.INDEX_CELL) if any(one.index for one in choice.shape.layers) else found
    if choice.runtime == "exllama":
        return (known.EXLLAMA_COMPUTE_MIB,)
    if choice.runtime == "sglang":
        return (known.SGLANG_OTHER_MIB,) if choice.shape.count("sliding") else ()
    return (*_of_vllm(choice.run), *((known.VISION_PROFILE_MIB,) if choice.shape.vision else ()))


def _of_vllm(run: Run) -> tuple[known.Constant, ...]:
    if run.era == "early":
        return (known.LAYER_HIDDEN_COPIES, known.SAMPLER_BYTES_SORTED, known.NON_TORCH_EARLY_MIB)
    early = run.era == "sorted"
    found = (
        known.LAYER_HIDDEN_COPIES_COMPILED,
        known.SAMPLER_BYTES_SORTED if early or run.sorts else known.SAMPLER_BYTES,
        known.NON_TORCH_SORTED_MIB if early else known.NON_TORCH_MIB,
    )
    if run.tensor == 1:
        return found
    pair = known.COMMUNICATION_EARLY_MIB if early else known.COMMUNICATION_MIB
    return (*found, pair if run.fabric else known.COMMUNICATION_PCIE_MIB)
