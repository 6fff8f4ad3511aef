"""An llm's shape: what each layer keeps for each token and sequence, and how wide it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

from orchestrator.plan.once import once

Kind = Literal["full", "sliding", "chunked", "latent", "recurrent", "none"]


class Unknown(Exception):  # noqa: N818 - an answer, not a fault
    """The planner does not understand, or lacks a number; the reason names which."""


@dataclass(frozen=True)
class Layer:
    """What one layer keeps for each token, and for each sequence.

    ``key`` and ``value`` are elements a token and key-value head; ``window`` is in tokens; ``state`` and
    ``convolution`` are elements a sequence of a recurrent layer. ``index`` is the key of a sparse layer's index, in
    elements; ``ratio``: so many tokens are also kept as one compressed entry; ``feed`` is the width of what works on
    each token alone where it is the layer's own, -1 where it is the llm's; ``queries`` likewise, 0 for the llm's;
    ``own`` are the weights of a recurrence of a kind of its own.
    """

    kind: Kind
    heads: int = 0
    key: int = 0
    value: int = 0
    window: int = 0
    state: int = 0
    convolution: int = 0
    index: int = 0
    ratio: int = 0
    feed: int = -1
    queries: int = 0
    own: int = 0


@dataclass(frozen=True)
class Vision:
    """The tower that reads pictures, where an llm has one."""

    layers: int
    hidden: int
    intermediate: int
    gated: bool = False
    #: Neighbouring patches that are joined before they reach the llm, a side; 0 where one matrix leads there.
    merge: int = 0


@dataclass(frozen=True)
class Latent:
    """Ranks and widths of latent attention (MLA), in elements; ``query`` is 0 where queries are not compressed."""

    rank: int
    rope: int
    nope: int
    value: int
    query: int = 0


@dataclass(frozen=True)
class Linear:
    """Heads and widths of a gated delta-net layer, in elements."""

    key_heads: int
    value_heads: int
    key: int
    value: int
    taps: int


@dataclass(frozen=True)
class Shape:
    """An llm's shape. Widths in elements; 0 where the configuration is silent, ``experts`` 0 for a dense one."""

    layers: tuple[Layer, ...]
    hidden: int = 0
    heads: int = 0
    head_dim: int = 0
    vocab: int = 0
    intermediate: int = 0
    gated: bool = True
    experts: int = 0
    experts_used: int = 0
    expert_width: int = 0
    shared_width: int = 0
    dense_layers: int = 0
    expert_step: int = 1
    tied: bool = False
    window: int = 0
    rotary: int = 0
    rotary_stretch: float = 1.0
    output_gate: bool = False
    value_is_key: bool = False
    latent: Latent | None = None
    linear: Linear | None = None
    vision: Vision | None = None
    stored_as: str = ""
    #: Parts that its quantisation left in 16 bits, each with its layer, -1 for all.
    left_alone: frozenset[tuple[str, int]] = frozenset()
    family: str = ""
    #: The width that experts work in where it is narrower than the llm's.
    expert_hidden: int = 0
    #: What is there whose weights cannot be counted.
    uncounted: str = ""
    #: Heads of the index that picks what a sparse layer reads.
    index_heads: int = 0
    #: The last layer is a head that drafts tokens (multi-token prediction), with a matrix of twice its width before it.
    draft: bool = False

    @once
    def memory(self) -> dict[Any, Any]:
        """Give a place where what follows from the shape alone is kept once worked out."""
        return {}

    @once
    def sized(self) -> dict[Any, Any]:
        """Give a place where what is sized for one machine is kept, apart from what holds on every machine."""
        return {}

    @once
    def stateful(self) -> tuple[tuple[Layer, int], ...]:
        """Give those kinds of layer that keep a state for each sequence, with how many there are of each."""
        return tuple((layer, count) for layer, count in self.groups if layer.state or layer.convolution)

    @once
    def groups(self) -> tuple[tuple[Layer, int], ...]:
        """Give each kind of layer once, with how many there are of it."""
        return tuple(Counter(self.layers).items())

    @once
    def drafting(self) -> Shape:
        """Give the shape with its head that drafts tokens: one more layer of full attention, and what leads to it."""
        whole = next((layer for layer in self.layers if layer.kind in ("full", "latent")), self.layers[-1])
        return replace(self, layers=(*self.layers, whole), draft=True)

    def has_experts(self, layer: int) -> bool:
        """Tell whether a layer feeds its tokens to experts."""
        return bool(self.experts) and layer >= self.dense_layers and (layer + 1) % self.expert_step == 0

    def undivided(self, tensor: int) -> str | None:
        """Give what ``tensor`` cards cannot share evenly, None where they can."""
        if tensor not in self.memory:
            self.memory[tensor] = self._undivided(tensor)
        found: str | None = self.memory[tensor]
        return found

    def _undivided(self, tensor: int) -> str | None:
        heads = [layer.heads for layer, _ in self.groups if layer.kind in ("full", "sliding", "chunked")]
        if self.heads % tensor:
            return f"{self.heads} heads"
        uneven = next((one for one in heads if one % tensor and tensor % one), None)
        if uneven:
            return f"{uneven} key-value heads"
        if self.linear and self.linear.key_heads % tensor:
            return f"{self.linear.key_heads} heads of its recurrent layers"
        widths = (self.intermediate, self.expert_width, self.shared_width)
        narrow = next((one for one in widths if one % tensor), None)
        return f"a width of {narrow}" if narrow else None

    def count(self, *kinds: Kind) -> int:
        """Give how many layers are of these kinds."""
        return sum(count for layer, count in self.groups if layer.kind in kinds)
