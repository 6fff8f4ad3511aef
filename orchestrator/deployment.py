"""What one host should run, and why not the others: the outcome of ``plan``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.nouns import Noun
from orchestrator.profile import Account, Agent, Limits, RuntimeName, Sandbox

AgenticClass = Literal["completion", "marginal", "floor", "strong", "near-frontier", "demonstration"]
Confidence = Literal["exact", "estimated", "lower_bound"]


class Parallel(Noun):
    """How the llm is split: over cards side by side, and in stages."""

    tensor: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)


class LedgerRow(Noun):
    """Where the memory of one card (or of RAM, ``gpu`` = ``cpu``) goes. All in MiB.

    ``kv_mib`` is the cache for the promised context; ``reserve_mib`` what is left alone (the driver,
    the desktop, a margin). The row fits when the sum of the four is at most ``capacity_mib``.
    """

    gpu: str
    part: Literal["main", "sidecar"] = "main"
    weights_mib: float
    kv_mib: float
    compute_mib: float
    reserve_mib: float
    capacity_mib: float


class Rejection(Noun):
    """One choice that was not taken, and the reason in a sentence."""

    llm: str
    quant: str | None = None
    runtime: str | None = None
    reason: str


class DriverChoice(Noun):
    """What is done about the cards' driver. Without ``branch`` the driver that is there stays, and is only set.

    ``kernel``: who makes the module. dkms: the host, for each of its kernels; signed: the distribution; none: the host
    has no kernel of its own, so what its machine has loaded counts.
    """

    branch: str | None = None
    modules: Literal["open", "closed"] | None = None
    kernel: Literal["dkms", "signed", "none"] | None = None
    packages: tuple[str, ...] = ()
    #: Parts of the distribution's archive that these come from, beside those that the host has.
    components: tuple[str, ...] = ()
    persistence: bool = True
    power_limit_watts: int | None = Field(default=None, gt=0)


class Deployment(Noun):
    """One host's decision. ``llm``, ``quant`` and ``runtime`` are names of catalog rows; ``gpus`` bus ids."""

    host: str
    profile: str
    llm: str
    #: The name that agents use, and that the runtime answers to.
    served_name: str
    quant: str
    runtime: RuntimeName
    gpus: tuple[str, ...] = ()
    #: Place of each of ``gpus`` in PCI order among all of the host's cards of that vendor (what CUDA counts with
    #: ``CUDA_DEVICE_ORDER=PCI_BUS_ID``). Empty: the runtime sees every card.
    gpu_indices: tuple[int, ...] = ()
    parallel: Parallel = Parallel()
    context_tokens: int = Field(gt=0)
    kv_dtype: str
    slots: int = Field(default=1, ge=1)
    #: Share of a card's memory that the runtime may take (vLLM, SGLang); None where it has no such thing.
    memory_fraction: float | None = Field(default=None, gt=0, le=1)
    #: Threads for a CPU runtime; None lets the runtime choose.
    threads: int | None = Field(default=None, ge=1)
    output_tokens: int = Field(gt=0)
    agentic_class: AgenticClass
    sidecar: str | None = None
    agents: tuple[Agent, ...] = ()
    #: Accounts of the host that the agents are set up for.
    people: tuple[Account, ...] = ()
    runtime_port: int = 18080
    #: Where an ``external`` runtime answers, without ``/v1``; None for one of ours.
    runtime_url: str | None = None
    gateway_port: int = 8080
    gateway_address: str = "127.0.0.1"
    #: The walled places that this host has for agents; None: it has none.
    sandbox: Sandbox | None = None
    #: What acceptance holds the cards against; the host is not told.
    limits: Limits = Limits()
    #: None where the driver that is there does, or no card of NVIDIA's is used.
    driver: DriverChoice | None = None
    ledger: tuple[LedgerRow, ...]
    confidence: Confidence
    reasons: tuple[str, ...]
    rejections: tuple[Rejection, ...] = ()

    def decision(self) -> dict[str, Any]:
        """Give what was decided: what a host is told.

        Its name is left out, so that hosts of one decision have one release, and so are the words that explain it and
        what acceptance alone reads.
        """
        without = {"host", "ledger", "confidence", "reasons", "rejections", "limits"}
        return self.model_dump(mode="json", exclude=without if self.driver else without | {"driver"})


class StandIn(Noun):
    """One substitution of a rehearsal: what was asked for, what serves instead, and why."""

    what: str
    instead: str
    why: str
