"""The decision: the best of all that fits, with its ledger, its reasons, and why not the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.deployment import Deployment, LedgerRow, Parallel
from orchestrator.errors import NoFit
from orchestrator.plan.agents import longest_answer, with_agents
from orchestrator.plan.candidates import Candidate, weigh
from orchestrator.plan.driver import driver_of
from orchestrator.plan.external import endpoint
from orchestrator.plan.hardware import require_hardware
from orchestrator.plan.interpreters import require_interpreters
from orchestrator.plan.layout import CALLS_A_USER
from orchestrator.plan.memory import POOLED, Choice, shares
from orchestrator.plan.reasons import place, reasons, second
from orchestrator.plan.setting import Setting
from orchestrator.plan.sidecar import Sidecar, beside, reason, rows
from orchestrator.plan.sureness import confidence
from orchestrator.plan.wishes import Asked, wishes_of

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Rejection
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot


def plan(  # noqa: PLR0913 - each wish is a flag of its own
    snapshot: HostSnapshot,
    profile: Profile,
    catalog: Catalog,
    *,
    llm: str | None = None,
    quant: str | None = None,
    runtime: str | None = None,
    context: int | None = None,
    users: int | None = None,
    autocomplete: bool = False,
) -> Deployment:
    """Decide what the host should run.

    Raises NoFit with every rejection where nothing fits, UsageError where the host is not the profile's or a
    wish names what does not exist.
    """
    require_hardware(snapshot, profile, catalog)
    require_interpreters(snapshot, profile, catalog)
    asked = Asked(llm, quant, runtime, context, users, autocomplete)
    if (runtime or profile.runtime.name) == "external":
        return with_agents(endpoint(snapshot, profile, catalog, asked), catalog)
    wishes = wishes_of(profile, catalog, asked)
    setting = Setting(snapshot, profile, catalog, wishes)
    found, rejections = weigh(setting)
    if not found:
        raise NoFit(
            f"nothing in the catalog fits {place(snapshot)}" if wishes.llm is None else _why_none(rejections, setting),
            where=snapshot.name,
            do="ask for a shorter --context or a smaller --quant, name another --llm, or give it more memory",
            rejections=rejections,
        )
    ranked = rank(found)
    best = ranked[0]
    return with_agents(_deployment(best, setting, (*(second(one, best) for one in ranked[1:]), *rejections)), catalog)


def rank(found: list[Candidate]) -> list[Candidate]:
    """Give candidates best first: the best quantisation of each llm by merit, then the others of each by theirs."""
    own: dict[str, Candidate] = {}
    for one in found:
        if one.llm.name not in own or one.among_own > own[one.llm.name].among_own:
            own[one.llm.name] = one

    def order(one: Candidate) -> tuple[Any, ...]:
        first = own[one.llm.name]
        return (one is not first, *(-part for part in one.merit), one.llm.name, one.quant.quant)

    return sorted(found, key=order)


def _why_none(rejections: list[Rejection], setting: Setting) -> str:
    """Give why the one llm that was asked for does not fit: its nearest miss."""
    if not rejections:
        return f"{setting.wishes.llm} has no weights in the catalog for these wishes"
    last = rejections[-1]
    return f"{last.llm} {last.quant or ''} does not fit {place(setting.snapshot)}: {last.reason}".replace("  ", " ")


def _deployment(best: Candidate, setting: Setting, rejections: tuple[Rejection, ...]) -> Deployment:
    profile, gpus = setting.profile, setting.gpus
    placed = beside(best, setting) if setting.wishes.autocomplete else None
    best = placed.main if isinstance(placed, Sidecar) else best
    choice = best.choice
    table = ledger(choice, best.window, [gpu.bus_id for gpu in gpus] or ["cpu"])
    said = list(reasons(best, setting))
    if isinstance(placed, Sidecar):
        table, said = rows(placed, table), [*said, reason(placed, setting)]
    elif placed:
        said.append(placed)
    runtime = setting.catalog.runtimes[choice.runtime]
    driver, why = driver_of(runtime, setting.asking) if setting.asking else (None, ())
    said += why
    pooled, users = choice.runtime in POOLED, setting.wishes.users
    fields = {
        "host": setting.snapshot.name,
        "profile": profile.name,
        "llm": best.llm.name,
        "served_name": best.llm.served_name,
        "quant": best.quant.quant,
        "runtime": choice.runtime,
        "gpus": tuple(gpu.bus_id for gpu in gpus),
        "gpu_indices": _indices(setting),
        "parallel": Parallel(tensor=choice.run.tensor, pipeline=choice.pipeline),
        "context_tokens": best.window,
        "kv_dtype": choice.store.key,
        "slots": CALLS_A_USER * users if pooled else users,
        "memory_fraction": _fraction(choice) if pooled else None,
        "threads": None if gpus else max(1, setting.snapshot.cpus // 2),
        "output_tokens": longest_answer(best.window, profile),
        "agentic_class": best.llm.agentic_class,
        "agents": profile.agents,
        "people": profile.people,
        "runtime_port": profile.runtime.port,
        "gateway_port": profile.gateway.port,
        "sandbox": profile.sandbox,
        "gateway_address": profile.gateway.address,
        "limits": profile.limits,
        "sidecar": placed.llm.name if isinstance(placed, Sidecar) else None,
        "driver": driver,
        "ledger": table,
        "confidence": confidence(choice, real_sizes=best.quant.published),
        "reasons": tuple(said),
        "rejections": rejections,
    }
    return Deployment.model_validate(fields)


def _indices(setting: Setting) -> tuple[int, ...]:
    """Give the place of each card among all of its vendor, where not all of those are used."""
    gpus = setting.gpus
    all_of_it = sorted(gpu.bus_id for gpu in setting.snapshot.gpus if gpus and gpu.vendor == gpus[0].vendor)
    return tuple(all_of_it.index(gpu.bus_id) for gpu in gpus) if len(all_of_it) > len(gpus) else ()


def ledger(choice: Choice, window: int, names: list[str]) -> tuple[LedgerRow, ...]:
    """Give the ledger's rows for a promised window, to a tenth of a MiB."""
    return tuple(
        LedgerRow(
            gpu=name,
            weights_mib=round(share.weights_mib, 1),
            kv_mib=round(share.kv_mib, 1),
            compute_mib=round(share.compute_mib, 1),
            reserve_mib=round(share.reserve_mib, 1),
            capacity_mib=round(share.capacity_mib, 1),
        )
        for name, share in zip(names, shares(choice, window), strict=True)
    )


def _fraction(choice: Choice) -> float:
    """Give the share of the fullest card that the runtime may take, two decimals down."""
    pairs = zip(choice.capacity_mib, choice.reserve_mib, strict=True)
    return max(0.01, int(100 * min((capacity - reserve) / capacity for capacity, reserve in pairs) + 1e-6) / 100)
