"""llama.cpp's compute buffers: what its graph allocator lays out on each card for one step of ``-ub`` tokens.

Read from its sources (llama-graph.cpp, ggml-alloc.c, ggml-backend.cpp) and held against logged buffers. The mask of
the window is made in 32 bits on the host, copied to the first card and cast to 16 bits there; with several cards the
scheduler keeps four copies of every input (GGML_SCHED_MAX_COPIES), which the allocator never gives away again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from orchestrator.plan import constants as known

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape

MIB = 1024 * 1024
#: Bytes of a logit, an activation and an entry of the mask; the mask's cast is half as wide.
WIDE, NARROW = 4, 2
#: Copies of each input where several cards work in turn (ggml-backend.cpp, GGML_SCHED_MAX_COPIES).
COPIES = 4


@dataclass(frozen=True)
class Step:
    """How llama.cpp is started, as far as its buffers care; ``batch`` in tokens (``-ub``)."""

    batch: int
    flash: bool = True
    #: The fork that keeps no mask beside its logits, and unpacks latent attention for all heads.
    fork: bool = False
    #: Several cards take turns on one batch; not over RPC.
    in_turn: bool = False
    #: The card reads the host's memory, so nothing is copied to it.
    unified: bool = False


@dataclass(frozen=True)
class Buffer:
    """One card's buffer in MiB: ``each`` a token of the window is held, with the output or the widest layer on top.

    ``most``: from so much on the hole that the masks leave is wide enough for the output.
    """

    output: float
    layer: float
    each: float = 0.0
    most: float = inf

    def mib(self, context: int) -> float:
        """Give the MiB for a window of ``context`` tokens; a longer one never needs less."""
        held = self.each * context
        return max(self.output + min(held, self.most), held + self.layer)

    def beside(self, other: Buffer) -> Buffer:
        """Give this buffer with another llm's on the same card."""
        top = max(other.output, other.layer)
        return Buffer(self.output + top, self.layer + top, self.each + other.each, self.most + other.most)


def buffers(shape: Shape, step: Step, cards: int) -> tuple[Buffer, ...]:
    """Give the buffer of each card; the last one holds the output."""
    if step.in_turn and cards > 1 and step.flash and not step.fork and not step.unified and not _indexed(shape):
        return _in_turn(shape, step, cards)
    return (_alike(shape, step),) * cards


def _alike(shape: Shape, step: Step) -> Buffer:
    """Give the buffer of a card alone, or of each where the cards share nothing but layers."""
    output, layer = output_mib(shape, step.batch), layer_mib(shape, step.batch)
    cell = step.batch / MIB
    if not step.flash:
        # Every head's scores stand beside the mask, which stays in 32 bits; with them the layer's rows and the queries,
        # before and after they are turned.
        rows = 2 * (shape.hidden + shape.heads * shape.head_dim)
        return Buffer(output, step.batch * rows * WIDE / MIB, cell * (shape.heads + 1) * WIDE, 0.0)
    if step.fork and shape.latent:
        wide = shape.latent.nope + shape.latent.rope + shape.latent.value
        return Buffer(output, 0.0, shape.heads * wide * NARROW / MIB)
    if _indexed(shape):
        return Buffer(output, layer, known.INDEX_CELL.value * cell, 0.0)
    output += recurrent_mib(shape, step.batch)
    if step.fork:
        return Buffer(output, layer)
    if step.unified:
        return Buffer(output, layer, NARROW * cell, 0.0)
    return Buffer(output, layer, (WIDE + NARROW) * cell, step.batch * shape.vocab * WIDE / MIB)


def _in_turn(shape: Shape, step: Step, cards: int) -> tuple[Buffer, ...]:
    """Give the buffers of cards that take turns: the first holds the masks as they come, the others their cast."""
    output, layer, cell = output_mib(shape, step.batch), layer_mib(shape, step.batch), step.batch / MIB
    first = Buffer(0.0, layer, (COPIES * WIDE + NARROW) * cell)
    middle = Buffer(0.0, layer, COPIES * NARROW * cell)
    last = Buffer(output + recurrent_mib(shape, step.batch), layer, COPIES * NARROW * cell)
    return (first, *(middle for _ in range(cards - 2)), last)


def _indexed(shape: Shape) -> bool:
    return any(layer.index for layer, _ in shape.groups)


def output_mib(shape: Shape, batch: int) -> float:
    """Give the logits of a whole step, and the rows that they come from."""
    return batch * (shape.vocab + shape.hidden) * WIDE / MIB


def layer_mib(shape: Shape, batch: int) -> float:
    """Give what is alive at the widest moment of a layer: gate and up, or what the chosen experts work on."""
    wide = 2 * shape.intermediate
    if shape.experts:
        used = max(1, shape.experts_used)
        wide = max(2 * shape.shared_width, 2 * used * (shape.expert_width + shape.hidden) + 3 * shape.hidden)
    if shape.latent:
        wide = max(wide, 2 * shape.heads * (shape.latent.rank + shape.latent.rope))
    return batch * wide * WIDE / MIB


def recurrent_mib(shape: Shape, batch: int) -> float:
    """Give the rows of a recurrent layer that are still alive beside the output."""
    linear = shape.linear
    mixed = 2 * linear.key_heads * linear.key + linear.value_heads * linear.value if linear else 0
    return known.RECURRENT_COPIES.value * batch * mixed * WIDE / MIB
