"""The ledger of one choice: where the memory of each card goes, and the window that it leaves. All in MiB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from orchestrator.plan import constants as known
from orchestrator.plan.buffers import Buffer, Step, buffers
from orchestrator.plan.cache import LLAMA_CPP, Growth, Store, growth
from orchestrator.plan.compute import Run, sglang_mib, vllm_graphs_mib, vllm_mib
from orchestrator.plan.once import once

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.plan.shape import Shape

MIB = 1024 * 1024

#: No window is looked for beyond this many tokens.
LONGEST = 1 << 27
#: Longer than any layer's own window with a batch on top: from here on all caches grow alike.
BEYOND_WINDOWS = 1 << 20
#: Between windows closer than this the middle is tried.
CLOSE = 64
#: From so many MiB on vLLM profiles more requests and longer batches (its own rule).
LARGE_MIB = 70 * 1024
#: Runtimes that take a share of each card beforehand and fill it with cache.
POOLED = ("vllm", "sglang")


@dataclass(frozen=True)
class Choice:
    """One llm in one quantisation by one runtime on some cards. One entry a card in each tuple, in MiB.

    ``reserve_mib`` is left alone: what others hold, the desktop, the share that the runtime may not take.
    """

    shape: Shape
    runtime: str
    weights_mib: tuple[float, ...]
    capacity_mib: tuple[float, ...]
    reserve_mib: tuple[float, ...]
    store: Store
    run: Run
    pipeline: int = 1
    sequences: int = 1
    flash: bool = True
    #: The cards take turns on one batch, as llama.cpp does with several of its own; it reads the host's memory.
    in_turn: bool = False
    unified: bool = False
    #: A small llm that drafts tokens beside it, on the same cards: its weights on each, and a cache of the same window.
    draft: Shape | None = None
    draft_mib: tuple[float, ...] = ()

    @once
    def compute_mib(self) -> float:
        """Give activations, buffers and the driver's context of one card where no window counts."""
        if self.runtime == "vllm":
            return vllm_mib(self.shape, self.run)
        if self.runtime == "sglang":
            return sglang_mib(self.run, min(self.capacity_mib))
        return known.EXLLAMA_COMPUTE_MIB.value

    @once
    def graphs_mib(self) -> float:
        """Give what the captured CUDA graphs of one card hold, beside ``compute_mib``; 0 where there are none."""
        return vllm_graphs_mib(self.shape, self.run) if self.runtime == "vllm" else 0.0

    @once
    def buffers(self) -> tuple[Buffer, ...]:
        """Give the compute buffer of each card, as it grows with the window."""
        if self.runtime not in LLAMA_CPP:
            own = Buffer(self.compute_mib, self.compute_mib)
            return (own,) * len(self.capacity_mib)
        cards = len(self.capacity_mib)
        key = ("buffers", self.runtime, self.run.batch, self.flash, self.in_turn, self.unified, cards)
        found: tuple[Buffer, ...] | None = self.shape.memory.get(key)
        step = Step(self.run.batch, self.flash, self.runtime == "ik_llama_cpp", self.in_turn, self.unified)
        if found is None:
            found = self.shape.memory[key] = buffers(self.shape, step, cards)
        if self.draft is None:
            return found
        return tuple(map(Buffer.beside, found, buffers(self.draft, step, cards)))

    @once
    def left_at(self) -> Callable[[int], float]:
        """Give the function that says what the fullest card has left, in MiB, for a window in tokens."""
        return _margin(self)

    @property
    def growth(self) -> Growth:
        """Give how the cache grows with the window, that of an llm that drafts with it."""
        own = growth(self.shape, self.store)
        if self.draft is None:
            return own
        beside = growth(self.draft, self.store)
        return Growth(own.start + beside.start, own.steps + beside.steps)

    @property
    def parts(self) -> tuple[float, ...]:
        """Give the part of the cache that each card carries: of whole layers by its memory, else the same of each."""
        if self.runtime in POOLED:
            return (1 / self.pipeline,) * len(self.capacity_mib)
        return split(self.capacity_mib, self.reserve_mib)

    @property
    def room_mib(self) -> tuple[float, ...]:
        """Give what each card has for cache and compute."""
        cards = zip(self.capacity_mib, self.reserve_mib, self.weights_mib, strict=True)
        room = [capacity - reserve - weights for capacity, reserve, weights in cards]
        return tuple([own - held for own, held in zip(room, self.draft_mib, strict=True)] if self.draft_mib else room)


@dataclass(frozen=True)
class Share:
    """What one card carries; the cache is that of the window asked for."""

    weights_mib: float
    kv_mib: float
    compute_mib: float
    reserve_mib: float
    capacity_mib: float

    @property
    def left_mib(self) -> float:
        """Give what remains; negative where it does not fit."""
        return self.capacity_mib - self.weights_mib - self.kv_mib - self.compute_mib - self.reserve_mib


def shares(choice: Choice, context: int) -> tuple[Share, ...]:
    """Give each card's share for windows of ``context`` tokens; raises Unknown."""
    whole = choice.growth.bytes_at(context) * choice.sequences / MIB
    compute = compute_mib(choice, context)
    return tuple(
        Share(weights, whole * part, own, reserve, capacity)
        for weights, part, own, reserve, capacity in zip(
            choice.weights_mib, choice.parts, compute, choice.reserve_mib, choice.capacity_mib, strict=True
        )
    )


@lru_cache(maxsize=1024)
def split(capacity_mib: tuple[float, ...], reserve_mib: tuple[float, ...]) -> tuple[float, ...]:
    """Give the part of whole layers that each card carries: by the memory that it has to give."""
    room = [max(0.0, capacity - reserve) for capacity, reserve in zip(capacity_mib, reserve_mib, strict=True)]
    total = sum(room)
    return tuple(one / total for one in room) if total else (1 / len(room),) * len(room)


def compute_mib(choice: Choice, context: int) -> tuple[float, ...]:
    """Give activations, buffers and the driver's context of each card for a window of ``context`` tokens."""
    return tuple([one.mib(context) for one in choice.buffers])


def pool_mib(choice: Choice) -> tuple[float, ...]:
    """Give the cache that vLLM or SGLang allocates on each card: what weights and compute leave of its share."""
    other = _fixed_mib(choice)
    return tuple(room - other for room in choice.room_mib)


def _fixed_mib(choice: Choice) -> float:
    """Give what vLLM or SGLang takes of its share beside weights and cache."""
    if choice.runtime == "sglang":
        return known.SGLANG_OTHER_MIB.value if choice.shape.count("sliding") else 0.0
    return choice.compute_mib + (choice.graphs_mib if choice.run.graphs_counted else 0.0)


def fits(choice: Choice, context: int) -> bool:
    """Tell whether windows of ``context`` tokens fit on every card."""
    return margin(choice)(context) >= 0


def largest_window(choice: Choice, limit: int = LONGEST) -> int:
    """Give the longest window in tokens up to ``limit`` that fits, 0 where none does."""
    left = margin(choice)
    below = left(1)
    if below < 0:
        return 0
    above = left(limit)
    if above >= 0:
        return limit
    low, high = 1, limit
    while high - low > 1:
        middle = _guess(low, high, below, above)
        here = left(middle)
        if here >= 0:
            low, below = middle, here
        else:
            high, above = middle, here
    return low


def _guess(low: int, high: int, below: float, above: float) -> int:
    """Give a window between two: where a straight line through both has nothing left, kept off the ends."""
    if high - low < CLOSE or below <= above:
        return (low + high) // 2
    step = (high - low) // 64 + 1
    return max(low + step, min(high - step, low + int((high - low) * below / (below - above))))


def margin(choice: Choice) -> Callable[[int], float]:
    """Give the function that says, for a window in tokens, what the fullest card has left in MiB: below 0, no fit."""
    return choice.left_at


def _margin(choice: Choice) -> Callable[[int], float]:
    bytes_at, scale = choice.growth.bytes_at, choice.sequences / MIB
    if choice.runtime in LLAMA_CPP:
        return _growing(choice, bytes_at, scale)
    cards = tuple(dict.fromkeys(zip(choice.room_mib, choice.parts, strict=True)))
    compute = _fixed_mib(choice) if choice.runtime in POOLED else choice.compute_mib
    if len(cards) == 1:
        ((room, part),) = cards
        return lambda context: room - bytes_at(context) * scale * part - compute

    def left(context: int) -> float:
        whole = bytes_at(context) * scale
        return min(room - whole * part for room, part in cards) - compute

    return left


def _growing(choice: Choice, bytes_at: Callable[[int], float], scale: float) -> Callable[[int], float]:
    """Give the same for llama.cpp, whose buffers grow with the window."""
    if len(choice.capacity_mib) == 1:
        return _growing_alone(choice, bytes_at, scale)
    cards = list(
        {
            (room, part * scale, own.output, own.layer, own.each, own.most)
            for room, part, own in zip(choice.room_mib, choice.parts, choice.buffers, strict=True)
        }
    )

    def left(context: int) -> float:
        whole, fullest = bytes_at(context), inf
        for room, part, output, layer, each, most in cards:
            held = each * context
            top, beside = output + (min(most, held)), held + layer
            here = room - whole * part - (max(beside, top))
            fullest = min(fullest, here)
        return fullest

    return left


def _growing_alone(choice: Choice, bytes_at: Callable[[int], float], scale: float) -> Callable[[int], float]:
    """Give the same for one card, which most machines have."""
    (room,), (part,), (own,) = choice.room_mib, choice.parts, choice.buffers
    part *= scale
    output, layer, each, most = own.output, own.layer, own.each, own.most

    def left(context: int) -> float:
        held = each * context
        top, beside = output + (min(most, held)), held + layer
        return room - bytes_at(context) * part - (max(beside, top))

    return left


def never_less(large: Choice, small: Choice) -> Choice:
    """Give ``large`` unless ``small`` has more room for cache.

    vLLM profiles more requests on a card of 70 GiB and more, so one just above would hold less than one just below;
    ``small`` is the choice on a card just below, which anyone may ask for by its flags.
    """
    if margin(large)(BEYOND_WINDOWS) >= margin(small)(BEYOND_WINDOWS):
        return large
    beyond = [own - less for own, less in zip(large.capacity_mib, small.capacity_mib, strict=True)]
    reserve = tuple(one + more for one, more in zip(small.reserve_mib, beyond, strict=True))
    return replace(small, capacity_mib=large.capacity_mib, reserve_mib=reserve)
