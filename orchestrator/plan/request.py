"""What is asked of the ledger of one named choice, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from orchestrator.deployment import Confidence
from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape, Unknown


@dataclass(frozen=True)
class Card:
    """One card: memory in MiB, None where nobody knows; ``free_mib`` before the runtime starts."""

    name: str
    total_mib: float | None
    free_mib: float | None = None
    fabric: bool = False
    large: bool = False
    #: It reads the host's memory (Apple, integrated); it is reached over a network (llama.cpp's RPC).
    unified: bool = False
    remote: bool = False
    vendor: str = "nvidia"


@dataclass(frozen=True)
class EstimateRequest:
    """One choice to size. ``shape`` is the llm's, or the reason why it is not known."""

    model: str
    shape: Shape | Unknown
    runtime: str
    cards: tuple[Card, ...]
    context: int | None = None
    quant: str | None = None
    #: Bytes of all weight files together, or MiB of weights on each card, where either is known.
    weight_bytes: float | None = None
    weight_mib_a_card: float | None = None
    slots: int = 1
    kv_key: str = "auto"
    kv_value: str = "auto"
    tensor: int = 1
    pipeline: int = 1
    fraction: float | None = None
    version: str | None = None
    batch: int | None = None
    #: Requests at once (``--max-num-seqs``), and whether vLLM runs eagerly, where the owner said so.
    requests: int | None = None
    eager: bool = False
    #: SGLang: tokens of a chunk, and requests of the largest graph.
    chunk: int | None = None
    graph_requests: int | None = None
    flash: bool = True
    compressed: bool = True
    sliding_share: float | None = None
    #: Layers or experts stay in RAM: weights on the cards are the owner's choice.
    offloaded: bool = False
    element: float = 2.0
    #: The files carry a head that drafts tokens (multi-token prediction).
    draft_head: bool = False
    #: A small llm that drafts tokens for it, asked for on the same cards; None where none does.
    draft: EstimateRequest | None = None


class GpuShare(Noun):
    """One card of an estimate, in MiB; ``kv_mib`` is what the runtime allocates there. None: not known."""

    weights_mib: float | None
    kv_mib: float | None
    compute_mib: float | None
    reserve_mib: float | None
    capacity_mib: float | None
    #: Captured CUDA graphs, beside ``compute_mib``: of the runtime's share where it counts them, else of the reserve.
    graphs_mib: float | None = None
    #: Weights of an llm that drafts tokens, beside ``weights_mib``; its cache and buffers are in the rows of both.
    draft_mib: float | None = None


class Estimate(Noun):
    """The answer, with the keys that the command line promises."""

    verdict: str
    per_gpu: tuple[GpuShare, ...] = ()
    kv_bytes_per_token: float | None = None
    kv_needed_mib: float | None = None
    kv_capacity_tokens: int | None = None
    max_context_tokens: int | None = Field(default=None, ge=0)
    confidence: Confidence | None = None
    reason: str = ""

    def rounded(self) -> dict[str, Any]:
        """Give the answer as JSON values, MiB to three decimals."""
        document = self.document()
        for share in document["per_gpu"]:
            for key, value in share.items():
                share[key] = None if value is None else round(value, 3)
        for key in ("kv_bytes_per_token", "kv_needed_mib"):
            document[key] = None if document[key] is None else round(document[key], 3)
        return document
