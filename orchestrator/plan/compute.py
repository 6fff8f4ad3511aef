"""Memory that is neither weights nor cache: activations, buffers, communication, the driver's context. In MiB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.plan import constants as known

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape
    from orchestrator.plan.version import Era

MIB = 1024 * 1024
#: vLLM captures no graph for more tokens than this (its own default of max_cudagraph_capture_size).
MOST_CAPTURED = 512
#: SGLang's rule (server_args.py): tables in MiB, MiB a token of a chunk, the least of a card above 60 GiB.
SGLANG_TABLES, SGLANG_A_TOKEN, SGLANG_LEAST_CHUNK = 512.0, 1.5, 2048
SGLANG_LARGE_MIB, SGLANG_LEAST_LARGE = 60 * 1024, 10 * 1024.0
#: Below so many MiB: tokens of a chunk, and requests of the largest graph (its defaults by memory).
SGLANG_CHUNKS = (
    (20 * 1024, 2048, 8),
    (35 * 1024, 2048, 24),
    (60 * 1024, 4096, 32),
    (90 * 1024, 8192, 256),
    (160 * 1024, 8192, 256),
    (float("inf"), 16384, 512),
)


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
    #: The sampler sorts whatever the version: only NVIDIA's cards have the kernels that replaced it.
    sorts: bool = False
    #: Nothing is compiled and no graph is captured.
    eager: bool = False
    #: The version takes its estimate of the graphs off the cache.
    graphs_counted: bool = False
    #: SGLang: the tokens of a chunk and the most requests of a graph, where they were named.
    chunk: int | None = None
    graph_requests: int | None = None


def vllm_mib(shape: Shape, run: Run) -> float:
    """Give what vLLM holds on each card beside weights and cache: its profiled peak, and what torch does not see."""
    return vllm_peak_mib(shape, run) + vllm_other_mib(run)


def sglang_mib(run: Run, total_mib: float) -> float:
    """Give what SGLang itself reckons beside weights and cache: its tables, a chunk's activations, graphs, channels.

    Its own rule for the share that it leaves free (server_args.py), read there and not measured.
    """
    large = total_mib > SGLANG_LARGE_MIB
    chunk, graph = next(pair for most, *pair in SGLANG_CHUNKS if total_mib < most)
    kept = SGLANG_TABLES + max(run.chunk or chunk, SGLANG_LEAST_CHUNK) * SGLANG_A_TOKEN
    kept += 2 * (run.graph_requests or graph) + run.tensor / 8 * 1024
    return max(kept, SGLANG_LEAST_LARGE) if large else kept


def sglang_share_mib(run: Run, total_mib: float) -> float:
    """Give the share of a card that SGLang takes by its own rule.

    Its chunks grow by leaps with the card, so one just above would hold less than one just below; anyone may ask for
    the smaller chunk by its flag, so that is what counts there.
    """
    below = [most - sglang_mib(run, most - 1) for most, *_ in SGLANG_CHUNKS if most <= total_mib]
    return max(0.0, total_mib - sglang_mib(run, total_mib), *below)


def vllm_peak_mib(shape: Shape, run: Run) -> float:
    """Give the peak of the profiling run: the fullest layer or the sampler, whichever is more, and experts' room."""
    forward = layer_mib(shape, run)
    sampler = known.PROFILE_BASE_MIB.value + sampler_mib(shape, run)
    if run.era == "early":
        return max(forward, sampler)
    vision = known.VISION_PROFILE_MIB.value if shape.vision else 0.0
    return max(forward, sampler) + experts_mib(shape, run) + vision


def layer_mib(shape: Shape, run: Run) -> float:
    """Give the activations of one layer over a whole batch: gate, up and their product, and rows of hidden width."""
    compiled = run.era != "early" and not run.eager
    copies = known.LAYER_HIDDEN_COPIES_COMPILED if compiled else known.LAYER_HIDDEN_COPIES
    wide = (3 if shape.gated else 2) * shape.intermediate / run.tensor
    if shape.experts:
        wide = 3 * shape.shared_width / run.tensor
    return run.batch * run.element * (wide + copies.value * shape.hidden) / MIB


def sampler_mib(shape: Shape, run: Run) -> float:
    """Give what the sampler holds for ``requests`` rows of logits, and the hidden rows alive beside it."""
    lean = run.era == "lean" and not run.sorts
    each = (known.SAMPLER_BYTES if lean else known.SAMPLER_BYTES_SORTED).value
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


def vllm_graphs_mib(shape: Shape, run: Run) -> float:
    """Give what vLLM's captured CUDA graphs hold; nothing where it runs eagerly."""
    if run.eager:
        return 0.0
    return graphs(run) * len(shape.layers) * known.GRAPH_LAYER_MIB.value


def graphs(run: Run) -> int:
    """Give how many graphs vLLM captures: its sizes up to twice the requests, piecewise and for decoding in full."""
    largest = min(2 * run.requests, MOST_CAPTURED, run.batch)
    sizes = [size for size in (1, 2, 4) if size <= largest]
    sizes += [*range(8, min(largest + 1, 256), 8), *range(256, largest + 1, 16)]
    return len(sizes) + sum(size <= run.requests for size in sizes)
