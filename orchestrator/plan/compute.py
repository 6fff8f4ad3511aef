"""Memory that is neither weights nor cache: activations, buffers, communication, the driver's context. In MiB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.plan import constants as known

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape
    from orchestrator.plan.version import Era

MIB = 1024 * 1024


@dataclass(frozen=True)
class Run:
    """How a runtime is started, as far as its buffers care. ``batch`` in tokens, ``requests`` at once."""

    batch: int
    requests: int
    tensor: int = 1
    element: float = 2.0
    era: Era = "lean"
    #: The cards reach each other's memory over NVLink.
    fabric: bool = False
    #: Experts are computed from their packed form, without a workspace of their own.
    packed_experts: bool = False


def vllm_mib(shape: Shape, run: Run) -> float:
    """Give what vLLM holds on each card beside weights and cache: its profiled peak, and what torch does not see."""
    return vllm_peak_mib(shape, run) + vllm_other_mib(run)


def vllm_peak_mib(shape: Shape, run: Run) -> float:
    """Give the peak of the profiling run: the fullest layer or the sampler, whichever is more, and experts' room."""
    forward = layer_mib(shape, run)
    if run.era == "early":
        return forward
    sampler = known.PROFILE_BASE_MIB.value + sampler_mib(shape, run)
    vision = known.VISION_PROFILE_MIB.value if shape.vision else 0.0
    return max(forward, sampler) + experts_mib(shape, run) + vision


def layer_mib(shape: Shape, run: Run) -> float:
    """Give the activations of one layer over a whole batch: gate, up and their product, and rows of hidden width."""
    compiled = run.era != "early"
    copies = known.LAYER_HIDDEN_COPIES_COMPILED if compiled else known.LAYER_HIDDEN_COPIES
    wide = (3 if shape.gated else 2) * shape.intermediate / run.tensor
    if shape.experts:
        wide = 3 * shape.shared_width / run.tensor
    return run.batch * run.element * (wide + copies.value * shape.hidden) / MIB


def sampler_mib(shape: Shape, run: Run) -> float:
    """Give what the sampler holds for ``requests`` rows of logits, and the hidden rows alive beside it."""
    each = {
        "early": known.SAMPLER_BYTES_SORTED,
        "sorted": known.SAMPLER_BYTES_SORTED,
        "lean": known.SAMPLER_BYTES,
    }[run.era].value
    logits = run.requests * shape.vocab * (each + run.element)
    rows = run.batch + known.SAMPLER_HIDDEN_COPIES.value * run.requests
    return (logits + rows * shape.hidden * run.element) / MIB


def experts_mib(shape: Shape, run: Run) -> float:
    """Give the workspaces that a mixture's experts keep for a whole batch (since vLLM 0.17)."""
    if not shape.experts or run.packed_experts or run.era in ("early", "sorted"):
        return 0.0
    width = shape.expert_width / run.tensor
    first, second = max(2 * width, shape.hidden), max(width, shape.hidden)
    return run.batch * max(1, shape.experts_used) * (first + second) * run.element / MIB


def vllm_other_mib(run: Run) -> float:
    """Give what torch's allocator does not see: the driver's context, workspaces, channels between cards."""
    if run.era == "early":
        return known.NON_TORCH_EARLY_MIB.value
    early = run.era == "sorted"
    base = (known.NON_TORCH_SORTED_MIB if early else known.NON_TORCH_MIB).value
    if run.tensor == 1:
        return base
    if not run.fabric:
        return base + known.COMMUNICATION_PCIE_MIB.value
    pair = (known.COMMUNICATION_EARLY_MIB if early else known.COMMUNICATION_MIB).value
    return base + pair + known.COMMUNICATION_A_CARD_MIB.value * (run.tensor - 2)


def llama_cpp_mib(shape: Shape, batch: int, context: int, *, flash: bool) -> float:
    """Give llama.cpp's compute buffer on the card with the output, for ``batch`` tokens at once (``-ub``)."""
    output = batch * (shape.vocab + shape.hidden) * 4 / MIB
    if flash and shape.latent:
        # Keys and values of all heads, out of their compressed form, in 16 bits.
        wide = shape.latent.nope + shape.latent.rope + shape.latent.value
        return output + context * shape.heads * wide * 2 / MIB
    if flash:
        linear = shape.linear
        mixed = 2 * linear.key_heads * linear.key + linear.value_heads * linear.value if linear else 0
        return output + known.RECURRENT_COPIES.value * batch * mixed * 4 / MIB
    scores = batch * context * shape.heads * 4 / MIB
    mask = batch * context * 2 / MIB
    feeding = batch * (shape.intermediate + shape.hidden) * 4 / MIB
    return max(output, scores + mask + feeding)
