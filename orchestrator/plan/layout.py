"""One llm of the catalog laid out on a host's cards: the choice whose ledger is kept."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.plan.cache import LLAMA_CPP, Store, state_bytes
from orchestrator.plan.compute import Run
from orchestrator.plan.memory import LARGE_MIB, MIB, POOLED, Choice, never_less, split
from orchestrator.plan.weights import embedding_bits

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape

#: Tokens a step: llama-server's default of ``-ub``, and vLLM's default for cards under 70 GiB.
UBATCH, BATCH, BATCH_LARGE = 512, 2048, 8192
#: Sequences that vLLM and SGLang are started with for each person: the agent's main thread and its small calls.
CALLS_A_USER = 4
#: Vendors whose cards llama.cpp lets take turns on one batch, and those that read the host's memory (no card: RAM).
IN_TURN, UNIFIED = ("nvidia", "amd", "intel"), ("apple", "cpu", "integrated")


def on_cards_mib(shape: Shape, weights_bytes: float, quant: str, runtime: str) -> float:
    """Give the weights in MiB that cards carry: llama.cpp leaves an embedding that is not the head's to the host."""
    whole = weights_bytes / MIB
    if runtime in LLAMA_CPP and not shape.tied:
        whole -= shape.vocab * shape.hidden * embedding_bits(quant) / 8 / MIB
    return whole


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
    vendor: str = "nvidia",
) -> Choice:
    """Give the choice for weights of a known size; ``tensor`` cards share each layer, else whole layers are dealt."""
    whole = on_cards_mib(shape, weights_bytes, quant, runtime)
    large = runtime == "vllm" and min(capacity_mib) >= LARGE_MIB
    own = _choice(shape, runtime, kv_dtype, capacity_mib, reserve_mib, tensor, sequences, whole, vendor, large=large)
    if not large:
        return own
    below = tuple(min(one, float(LARGE_MIB)) for one in capacity_mib)
    kept = tuple(reserve * less / one for reserve, less, one in zip(reserve_mib, below, capacity_mib, strict=True))
    less = _choice(shape, runtime, kv_dtype, below, kept, tensor, sequences, whole, vendor, large=False)
    return never_less(own, less)


def _choice(  # noqa: PLR0913, PLR0917
    shape: Shape,
    runtime: str,
    kv_dtype: str,
    capacity_mib: tuple[float, ...],
    reserve_mib: tuple[float, ...],
    tensor: int,
    sequences: int,
    whole_mib: float,
    vendor: str,
    *,
    large: bool,
) -> Choice:
    pooled, count = runtime in POOLED, len(capacity_mib)
    batch = (BATCH_LARGE if large else BATCH) if pooled else UBATCH
    store = _store(runtime, kv_dtype, tensor if pooled else 1, batch)
    states = state_bytes(shape, store, sequences) / MIB / count
    kept = tuple([one + states for one in reserve_mib]) if states else reserve_mib
    dealt = (1 / count,) * count if pooled else split(capacity_mib, kept)
    return Choice(
        shape=shape,
        runtime=runtime,
        weights_mib=tuple([whole_mib * part for part in dealt]),
        capacity_mib=capacity_mib,
        reserve_mib=kept,
        store=store,
        run=_run(batch, CALLS_A_USER * sequences, tensor, large, vendor),
        sequences=sequences,
        in_turn=vendor in IN_TURN,
        unified=vendor in UNIFIED,
    )


@lru_cache(maxsize=256)
def _store(runtime: str, kv_dtype: str, tensor: int, batch: int) -> Store:
    return Store(runtime, kv_dtype, kv_dtype, tensor, batch)


@lru_cache(maxsize=256)
def _run(batch: int, requests: int, tensor: int, fabric: bool, vendor: str) -> Run:  # noqa: FBT001 - keyed by place
    return Run(batch, requests, tensor, fabric=fabric, sorts=vendor != "nvidia")
