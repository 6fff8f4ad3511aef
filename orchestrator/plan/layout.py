"""One llm of the catalog laid out on a host's cards: the choice whose ledger is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan.cache import LLAMA_CPP, Store, state_bytes
from orchestrator.plan.compute import Run
from orchestrator.plan.memory import MIB, POOLED, Choice
from orchestrator.plan.weights import embedding_bits

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape

#: Tokens a step: llama-server's default of ``-ub``, and vLLM's default for cards under 70 GiB.
UBATCH, BATCH, BATCH_LARGE = 512, 2048, 8192
REQUESTS, REQUESTS_LARGE = 256, 1024
LARGE_MIB = 70 * 1024


def laid_out(  # noqa: PLR0913, PLR0917
    shape: Shape,
    weights_bytes: float,
    quant: str,
    runtime: str,
    kv_dtype: str,
    capacity_mib: tuple[float, ...],
    reserve_mib: tuple[float, ...],
    tensor: int = 1,
    sequences: int = 1,
) -> Choice:
    """Give the choice for weights of a known size; ``tensor`` cards share each layer, else whole layers are dealt."""
    pooled, large = runtime in POOLED, min(capacity_mib) >= LARGE_MIB
    batch = (BATCH_LARGE if large else BATCH) if pooled else UBATCH
    whole = weights_bytes / MIB
    if runtime in LLAMA_CPP and not shape.tied:
        whole -= shape.vocab * shape.hidden * embedding_bits(quant) / 8 / MIB
    store = Store(runtime, kv_dtype, kv_dtype, tensor if pooled else 1, batch)
    states = state_bytes(shape, store, sequences) / MIB / len(capacity_mib)
    fields = {
        "shape": shape,
        "runtime": runtime,
        "capacity_mib": capacity_mib,
        "reserve_mib": tuple(one + states for one in reserve_mib),
        "store": store,
        "run": Run(batch, REQUESTS_LARGE if large else REQUESTS, tensor, fabric=large),
        "sequences": sequences,
    }
    count = len(capacity_mib)
    even = Choice(weights_mib=(whole / count,) * count, **fields)  # type: ignore[arg-type]
    if pooled:
        return even
    return Choice(weights_mib=tuple(whole * part for part in even.parts), **fields)  # type: ignore[arg-type]
