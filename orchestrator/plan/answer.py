"""The answer about one sized choice: its verdict, each card's part, and how sure the figures are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan.cache import Store, cache_bytes, capacity_tokens, token_bytes
from orchestrator.plan.memory import MIB, POOLED, Choice, compute_mib, fits, largest_window, pool_mib
from orchestrator.plan.request import Estimate, EstimateRequest, GpuShare
from orchestrator.plan.sureness import confidence

if TYPE_CHECKING:
    from orchestrator.deployment import Confidence
    from orchestrator.plan.shape import Shape


def a_token(shape: Shape, drafting: Shape | None, store: Store) -> float:
    """Give the bytes of one token on each card, with those of an llm that drafts."""
    return token_bytes(shape, store) + (token_bytes(drafting, store) if drafting else 0.0)


def answer(request: EstimateRequest, choice: Choice, needed: float | None, *, known_room: bool, why: str) -> Estimate:
    """Give the answer for a choice; ``why`` says why its weights are not known, empty where they are."""
    pooled, weighed = request.runtime in POOLED, not why
    context = request.context
    sized = bool(choice.shape.vocab and choice.shape.hidden)
    compute = compute_mib(choice, context or 1) if sized else (None,) * len(choice.capacity_mib)
    kv = _kv(request, choice, known_room=known_room, weighed=weighed and sized)
    sure = known_room and weighed and sized
    verdict, reason = _verdict(request, choice, sure=sure, why=why)
    lightest = min((one for one in kv if one is not None), default=None)
    capacity = None
    if pooled and lightest is not None:
        whole = lightest * MIB * request.pipeline
        capacity = capacity_tokens(choice.shape, choice.store, whole, context or 8192)
        if choice.draft is not None:
            capacity = int(whole / each) if (each := a_token(choice.shape, choice.draft, choice.store)) else 0
    return Estimate(
        verdict=verdict,
        per_gpu=tuple(
            GpuShare(
                weights_mib=weights if weighed and not request.offloaded else None,
                kv_mib=one,
                compute_mib=own,
                reserve_mib=reserve if known_room else None,
                capacity_mib=room if known_room else None,
                graphs_mib=choice.graphs_mib if sized and request.runtime == "vllm" else None,
                draft_mib=beside if weighed else None,
            )
            for weights, one, own, reserve, room, beside in zip(
                choice.weights_mib,
                kv,
                compute,
                choice.reserve_mib,
                choice.capacity_mib,
                choice.draft_mib or (None,) * len(kv),
                strict=True,
            )
        ),
        kv_bytes_per_token=a_token(choice.shape, choice.draft, choice.store),
        kv_needed_mib=needed,
        kv_capacity_tokens=capacity,
        max_context_tokens=largest_window(choice) if sure and not request.offloaded else None,
        confidence=_sureness(request, choice, weighed=weighed and known_room),
        reason=reason,
    )


def _sureness(request: EstimateRequest, choice: Choice, *, weighed: bool) -> Confidence:
    """Give how sure the figures are; a size worked out from the configuration is not the files' own."""
    if request.offloaded or not weighed:
        return "lower_bound"
    real = bool(request.weight_bytes or request.weight_mib_a_card)
    return confidence(choice, real_sizes=real and request.draft is None)


def _kv(request: EstimateRequest, choice: Choice, *, known_room: bool, weighed: bool) -> list[float | None]:
    """Give the cache that the runtime allocates on each card, in MiB."""
    if request.runtime in POOLED:
        if not known_room or not weighed:
            return [None] * len(request.cards)
        return [max(0.0, one) for one in pool_mib(choice)]
    if request.context is None:
        return [None] * len(request.cards)
    whole = choice.growth.bytes_at(request.context) * request.slots / MIB
    return [whole * part for part in choice.parts]


def _verdict(request: EstimateRequest, choice: Choice, *, sure: bool, why: str) -> tuple[str, str]:
    context = request.context
    if request.offloaded:
        return "fits", "layers or experts stay in RAM, so what the cards hold is the owner's choice"
    if not sure:
        return _unsure(request, choice, why)
    taken = _taken(request, choice)
    if taken:
        return "wont_fit", taken
    if fits(choice, context or 1):
        return "fits", ""
    longest = largest_window(choice)
    return "wont_fit", f"{context or 1} tokens do not fit; {longest} would" if longest else "the weights do not fit"


def _taken(request: EstimateRequest, choice: Choice) -> str:
    """Give why vLLM would not even start: it wants its share of the card free, whatever it puts there."""
    if request.runtime != "vllm":
        return ""
    for card, room, reserve in zip(request.cards, choice.capacity_mib, choice.reserve_mib, strict=True):
        if card.free_mib is not None and card.free_mib < room - reserve:
            return (
                f"vLLM wants {room - reserve:.0f} MiB of {card.name} free and {card.free_mib:.0f} are; "
                "lower gpu_memory_utilization"
            )
    return ""


def _unsure(request: EstimateRequest, choice: Choice, why: str) -> tuple[str, str]:
    """Give the verdict where a number is missing; a runtime that takes what it needs is sized without its card."""
    card = request.cards[0].name
    if why or not choice.shape.vocab or not choice.shape.hidden:
        return "unknown", why or "the configuration lacks vocab_size or hidden_size"
    if request.runtime in POOLED:
        return "unknown", f"the memory of {card} is not known; give it as NAME:MIB"
    need = max(compute_mib(choice, request.context or 1)) + sum(choice.weights_mib) / len(request.cards)
    need += cache_bytes(choice.shape, choice.store, request.context or 1, request.slots) / MIB / len(request.cards)
    return "fits", f"on cards of {need:.0f} MiB and more: the memory of {card} is not known; give it as NAME:MIB"
