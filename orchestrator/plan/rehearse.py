"""What a rehearsal serves instead: the same decision with a CPU build and a small llm in place of cards and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.deployment import Deployment, Parallel, StandIn
from orchestrator.errors import UsageError
from orchestrator.plan.candidates import shape_cached
from orchestrator.plan.choose import ledger
from orchestrator.plan.layout import laid_out
from orchestrator.plan.setting import SYSTEM_MIB, SYSTEM_SHARE

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow, RuntimeRow
    from orchestrator.deployment import LedgerRow
    from orchestrator.snapshot import HostSnapshot

#: The llm that stands in: the only usable one that a package registry carries.
SMALL_LLM = "smollm2-135m"
#: Most tokens of its answers: it knows no end, and what it says proves no more for being longer.
SMALL_ANSWER = 256


def rehearse(
    deployment: Deployment, snapshot: HostSnapshot, catalog: Catalog
) -> tuple[Deployment, tuple[StandIn, ...]]:
    """Give the deployment that a throwaway host can really run, and each substitution; none for one that it can.

    An endpoint that already runs is not ours to replace.

    Name served, ports, agents and slots stay. Raises UsageError where no row of the catalog stands in.
    """
    if deployment.runtime == "external":
        return deployment, ()
    small = catalog.llms[SMALL_LLM]
    stand_in = _stand_in(deployment, catalog)
    if stand_in is None and deployment.llm == small.name and not deployment.gpus:
        return deployment, ()
    runtime = stand_in or catalog.runtimes[deployment.runtime]
    window = min(deployment.context_tokens, small.max_context_tokens)
    served = deployment.model_copy(
        update={
            "llm": small.name,
            "quant": small.quants[0].quant,
            "runtime": runtime.name,
            "gpus": (),
            "parallel": Parallel(),
            "context_tokens": window,
            "kv_dtype": "f16",
            "slots": 1,
            "memory_fraction": None,
            "threads": max(1, snapshot.cpus // 2),
            "output_tokens": min(deployment.output_tokens, SMALL_ANSWER),
            "agentic_class": small.agentic_class,
            "sidecar": None,
            "ledger": _ledger(small, snapshot, window),
            "reasons": (f"a rehearsal of {deployment.llm} {deployment.quant} by {deployment.runtime}",),
            "rejections": (),
        }
    )
    return served, tuple(_stand_ins(deployment, runtime, small, window, snapshot, catalog))


def _stand_in(deployment: Deployment, catalog: Catalog) -> RuntimeRow | None:
    """Give the row that serves in the runtime's place, None where the runtime itself runs without a card."""
    own = catalog.runtimes[deployment.runtime]
    if own.stands_in_for:
        return None
    found = next((row for row in catalog.runtimes.values() if deployment.runtime in row.stands_in_for), None)
    if found is None:
        raise UsageError(
            f"nothing in the catalog stands in for {own.title}",
            where=deployment.host,
            do="rehearse a profile with another runtime",
        )
    return found


def _ledger(small: LlmRow, snapshot: HostSnapshot, window: int) -> tuple[LedgerRow, ...]:
    reserve = float(max(SYSTEM_MIB, snapshot.ram_mib // SYSTEM_SHARE))
    room, size = (float(snapshot.ram_mib),), small.quants[0].weights_bytes
    return ledger(
        laid_out(shape_cached(small), size, small.quants[0].quant, "xllamacpp", "f16", room, (reserve,), vendor="cpu"),
        window,
        ["cpu"],
    )


def _stand_ins(  # noqa: PLR0913, PLR0917
    deployment: Deployment,
    runtime: RuntimeRow,
    small: LlmRow,
    window: int,
    snapshot: HostSnapshot,
    catalog: Catalog,
) -> list[StandIn]:
    own = catalog.runtimes[deployment.runtime]
    found = []
    if runtime.name != own.name:
        found.append(
            StandIn(
                what=f"runtime {own.title} {own.version}",
                instead=f"{runtime.title} {runtime.version}",
                why="a throwaway host has no card for it; the CPU build serves the same wire forms",
            )
        )
    if deployment.llm != small.name:
        size = catalog.llms[deployment.llm].quant(deployment.quant).weights_bytes / 1e9
        found.append(
            StandIn(
                what=f"weights of {deployment.llm} {deployment.quant} ({size:.1f} GB)",
                instead=f"{small.name} {small.quants[0].quant} ({small.quants[0].weights_bytes / 1e9:.1f} GB)",
                why="the only usable weights that a package registry carries; they show the plumbing, not the skill",
            )
        )
    if deployment.gpus:
        names = [gpu.name for gpu in snapshot.usable_gpus()] or [f"card {bus_id}" for bus_id in deployment.gpus]
        found.append(
            StandIn(
                what=" and ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)),
                instead=f"{max(1, snapshot.cpus // 2)} CPU threads",
                why="a throwaway host has no card",
            )
        )
    if deployment.sidecar:
        found.append(
            StandIn(
                what=f"autocomplete by {deployment.sidecar} beside it",
                instead="nothing",
                why="a throwaway host has no card for a second llm",
            )
        )
    if deployment.output_tokens > SMALL_ANSWER:
        found.append(
            StandIn(
                what=f"answers of up to {deployment.output_tokens} tokens",
                instead=f"{SMALL_ANSWER} tokens",
                why=f"{small.name} knows no end",
            )
        )
    if window != deployment.context_tokens:
        found.append(
            StandIn(
                what=f"window of {deployment.context_tokens} tokens",
                instead=f"{window} tokens",
                why=f"all that {small.name} has",
            )
        )
    return found
