"""The memory of one named choice: fits, does not fit, or what is missing to tell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.plan import constants as known
from orchestrator.plan.answer import a_token, answer
from orchestrator.plan.cache import LLAMA_CPP, Store, cache_bytes, state_bytes
from orchestrator.plan.compute import Run, sglang_share_mib
from orchestrator.plan.memory import (
    LARGE_MIB,
    MIB,
    POOLED,
    Choice,
    never_less,
)
from orchestrator.plan.request import Card, Estimate, EstimateRequest
from orchestrator.plan.shape import Shape, Unknown
from orchestrator.plan.version import counts_graphs, counts_own_reserve, era
from orchestrator.plan.weights import SILENT, card_mib, embedding_bits, gguf_bytes, storage_of

if TYPE_CHECKING:
    from orchestrator.plan.weights import Storage

#: The largest window and the most sequences that anyone may ask about.
MOST_TOKENS = 100_000_000
MOST_SLOTS = 100_000
#: Share of a card that vLLM and SGLang take unless told otherwise.
DEFAULT_FRACTION = {"vllm": 0.9, "sglang": 0.88}


def estimate(request: EstimateRequest) -> Estimate:
    """Size one choice; what is not understood or missing gives the verdict ``unknown`` with the reason."""
    try:
        return _estimate(request)
    except Unknown as unknown:
        return Estimate(verdict="unknown", reason=str(unknown))


def _estimate(request: EstimateRequest) -> Estimate:
    if isinstance(request.shape, Unknown):
        raise request.shape
    _refuse_absurd(request)
    shape, store = request.shape, _store(request)
    if request.draft_head and request.runtime not in LLAMA_CPP:
        # A GGUF runner keeps the drafting head's cache apart, and its weights by the mixture's own rules.
        shape = shape.drafting
    needed = None
    drafting = _drafting(request)
    if request.context is not None:
        whole = cache_bytes(shape, store, request.context, request.slots)
        whole += cache_bytes(drafting, store, request.context, request.slots) if drafting else 0.0
        needed = whole * (1 if request.runtime in LLAMA_CPP else store.tensor) / MIB
    each = a_token(shape, drafting, store)
    if not request.cards:
        return Estimate(
            verdict="unknown",
            kv_bytes_per_token=each,
            kv_needed_mib=needed,
            reason="no card is given; name it with --gpu",
        )
    weights, why = _weights(request, shape)
    known_room = all(card.total_mib is not None for card in request.cards)
    if not known_room and weights is None and not request.offloaded:
        raise Unknown(f"{why}; and the memory of {request.cards[0].name} is not known")
    if request.draft is not None and drafting is not None and weights is not None:
        beside, why = _weights(request.draft, drafting)
        weights = None if beside is None else weights
    choice = _choice(request, shape, store, weights)
    return answer(request, choice, needed, known_room=known_room, why=why)


def _drafting(request: EstimateRequest) -> Shape | None:
    """Give the shape of the llm that drafts tokens, None where none does; raises Unknown where it cannot."""
    if request.draft is None:
        return None
    if request.runtime in ("exllama", "tensorrt_llm"):
        raise Unknown(f"what a draft llm takes beside {request.runtime} is not understood; leave --draft out")
    if isinstance(request.draft.shape, Unknown):
        raise request.draft.shape
    _refuse_absurd(request.draft)
    return request.draft.shape


def _refuse_absurd(request: EstimateRequest) -> None:
    for value, most, name in (
        (request.context if request.context is not None else 1, MOST_TOKENS, "--context"),
        (request.slots, MOST_SLOTS, "--slots"),
        (request.tensor, 4096, "--tp"),
        (request.pipeline, 4096, "--pp"),
    ):
        if not 0 < value <= most:
            raise Unknown(f"{name} {value} cannot be; give a whole number from 1 to {most}")
    if isinstance(request.shape, Unknown):
        return
    wanted, found = request.tensor * request.pipeline, len(request.cards)
    if request.runtime in POOLED and found and wanted > found:
        raise Unknown(
            f"tensor parallel {request.tensor} in {request.pipeline} stages needs {wanted} cards, not {found}"
        )
    uneven = request.shape.undivided(request.tensor) if request.shape.heads else None
    if uneven:
        even = [str(count) for count in (1, 2, 4, 8, 16) if request.shape.undivided(count) is None]
        raise Unknown(f"tensor parallel {request.tensor} does not divide {uneven}; change --tp to {' or '.join(even)}")


def _store(request: EstimateRequest) -> Store:
    runtime = request.runtime
    batch = request.batch or (512 if runtime in LLAMA_CPP else _batch(request))
    return Store(
        runtime=runtime,
        key=request.kv_key,
        value=request.kv_value,
        tensor=request.tensor if runtime in POOLED else 1,
        batch=batch,
        sliding_share=request.sliding_share if runtime == "sglang" else None,
        compressed=request.compressed,
    )


def _batch(request: EstimateRequest) -> int:
    if request.batch:
        return request.batch
    large = any(card.large for card in request.cards)
    if request.runtime == "vllm" and era(request.version) == "early":
        # Before V1 a prompt went through in one piece, unless the window passed 32768 tokens.
        context = request.context or 0
        return max(2048, context) if context <= 32768 else 2048  # noqa: PLR2004 - vLLM's own rule
    return int((known.BATCH_LARGE_CARD if large else known.BATCH_SMALL_CARD).value)


def _weights(request: EstimateRequest, shape: Shape) -> tuple[float | None, str]:
    """Give the MiB of weights: a card's for runtimes that share layers, of all cards together for the others."""
    pooled = request.runtime in POOLED
    if request.weight_mib_a_card is not None:
        count = 1 if pooled else len(request.cards)
        return request.weight_mib_a_card * count, ""
    try:
        if request.weight_bytes is not None:
            return _from_files(request, shape), ""
        return _by_tensor(request, shape), ""
    except Unknown as unknown:
        return None, str(unknown)


def _from_files(request: EstimateRequest, shape: Shape) -> float:
    whole = float(request.weight_bytes or 0) / MIB
    if request.runtime in POOLED:
        return whole / request.tensor / request.pipeline
    if request.runtime in LLAMA_CPP and not shape.tied:
        bits = embedding_bits(request.quant or "")
        whole -= shape.vocab * shape.hidden * bits / 8 / MIB
    return whole


def _by_tensor(request: EstimateRequest, shape: Shape) -> float:
    storage = _storage(request, shape)
    if storage.scheme == "gguf":
        whole, embedding = gguf_bytes(shape, storage.mixture, draft_head=request.draft_head)
        return (whole - (0 if shape.tied else embedding)) / MIB
    return card_mib(shape, storage, request.tensor if request.runtime in POOLED else 1, request.pipeline)


def _storage(request: EstimateRequest, shape: Shape) -> Storage:
    """Give how the weights are stored: as the request says, else the llm's name, else its configuration."""
    gguf, said = request.runtime in LLAMA_CPP, (request.quant or "").strip()
    silent = said.casefold() in SILENT
    found = None if silent else storage_of(said, gguf=gguf)
    if found is None and not gguf:
        found = storage_of(request.model.rsplit("/", 1)[-1])
        if found is None and silent:
            found = storage_of(shape.stored_as or "none")
    if found is None:
        how = f"the quantisation {said} is not understood" if said else f"how {request.model} is quantised is not known"
        raise Unknown(f"{how}; give --quant or --weight-bytes")
    if found.scheme == "exl" and request.runtime != "exllama":
        raise Unknown(f"{request.runtime} does not read {said or request.model}; change --quant")
    return found


def _choice(request: EstimateRequest, shape: Shape, store: Store, weights: float | None) -> Choice:
    """Give the choice to size, on the cards as they are."""
    own = _laid_out(request, shape, store, weights)
    if request.runtime != "vllm" or not any(card.large for card in request.cards):
        return own
    below = tuple(replace(card, total_mib=min(card.total_mib or 0.0, LARGE_MIB), large=False) for card in request.cards)
    less = replace(request, cards=below)
    return never_less(own, _laid_out(less, shape, _store(less), weights))


def _laid_out(request: EstimateRequest, shape: Shape, store: Store, weights: float | None) -> Choice:
    count, pooled = len(request.cards), request.runtime in POOLED
    capacity = tuple(float(card.total_mib or 0.0) for card in request.cards)
    if request.runtime == "sglang":
        capacity = (min(_free_mib(card, request) for card in request.cards),) * count
    run = _run(request, store)
    fraction = request.fraction or _fraction(request, run, min(capacity, default=0.0))
    states = state_bytes(shape, store, request.slots) / MIB / count
    reserve = tuple((1 - fraction) * one if pooled else known.DRIVER_CONTEXT_MIB.value + states for one in capacity)
    held = weights or 0.0
    choice = Choice(
        shape=shape,
        runtime=request.runtime,
        weights_mib=(held,) * count,
        capacity_mib=capacity,
        reserve_mib=reserve,
        store=store,
        run=run,
        pipeline=request.pipeline,
        sequences=request.slots,
        flash=request.flash,
        in_turn=not any(card.remote for card in request.cards),
        unified=all(card.unified for card in request.cards),
    )
    if not pooled:
        choice = replace(choice, weights_mib=tuple(held * part for part in choice.parts))
    drafting = _drafting(request)
    if request.draft is None or drafting is None:
        return choice
    beside = _weights(request.draft, drafting)[0] or 0.0
    kept = (beside,) * count if pooled else tuple(beside * part for part in choice.parts)
    return replace(choice, draft=drafting, draft_mib=kept)


def _fraction(request: EstimateRequest, run: Run, total_mib: float) -> float:
    """Give the share of a card that the runtime takes unless told otherwise; SGLang's own rule came with 0.5."""
    if request.runtime == "sglang" and total_mib and counts_own_reserve(request.version):
        return max(0.01, sglang_share_mib(run, total_mib) / total_mib)
    return DEFAULT_FRACTION.get(request.runtime, 1.0)


def _run(request: EstimateRequest, store: Store) -> Run:
    early = era(request.version) == "early"
    large = any(card.large for card in request.cards) and not early
    requests = known.REQUESTS_LARGE_CARD if large else known.REQUESTS_SMALL_CARD
    quant = request.quant or (request.shape.stored_as if isinstance(request.shape, Shape) else "")
    return Run(
        batch=store.batch if request.runtime not in POOLED else _batch(request),
        requests=request.requests or int(requests.value),
        tensor=request.tensor,
        element=request.element,
        era=era(request.version),
        fabric=all(card.fabric for card in request.cards),
        packed_experts="mxfp4" in quant.lower(),
        sorts=any(card.vendor != "nvidia" for card in request.cards),
        eager=request.eager,
        graphs_counted=counts_graphs(request.version),
        chunk=request.chunk,
        graph_requests=request.graph_requests,
    )


def _free_mib(card: Card, request: EstimateRequest) -> float:
    """Give what SGLang finds free before it loads weights: measured, or the card less what is opened first."""
    if card.free_mib is not None:
        return card.free_mib
    opened = known.CONTEXT_BEFORE_MIB.value
    if request.tensor > 1 and card.fabric:
        opened += known.COMMUNICATION_BEFORE_MIB.value
    return max(0.0, float(card.total_mib or 0.0) - opened)
