"""A small llm for autocomplete beside the main one: placed where it fits, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.deployment import LedgerRow
from orchestrator.plan.candidates import STEP, WANTED_WINDOW, cannot_run, shape_cached
from orchestrator.plan.layout import laid_out
from orchestrator.plan.memory import Choice, Share, largest_window, shares
from orchestrator.plan.setting import CONTEXT_MIB
from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.catalog.rows import LlmQuant, LlmRow
    from orchestrator.plan.candidates import Candidate
    from orchestrator.plan.setting import Setting
    from orchestrator.profile import RuntimeName

#: Parameters, in units of 10^9, of the largest llm that serves as a sidecar: the 14B class.
LARGEST = 15.0
#: Tokens of the window that autocomplete is given: a file and its neighbours.
WINDOW = 8192
RUNTIME: RuntimeName = "llama_cpp"


@dataclass(frozen=True)
class Sidecar:
    """A sidecar's place: its llm, its share of one card (by place in the list), and what the main llm becomes."""

    llm: LlmRow
    quant: LlmQuant
    card: int
    share: Share
    main: Candidate

    @property
    def taken_mib(self) -> float:
        """Give the MiB that it takes of its card, the driver's context included."""
        return self.share.weights_mib + self.share.kv_mib + self.share.compute_mib + self.share.reserve_mib


def beside(best: Candidate, setting: Setting) -> Sidecar | str:
    """Give the largest small llm that leaves the main one its choice and its window, else why there is none."""
    if not setting.gpus:
        return "no autocomplete beside it: there is no card"
    least = min(best.window, WANTED_WINDOW)
    for row, quant in _small(setting):
        placed = [one for card in range(len(setting.gpus)) if (one := _placed(row, quant, card, best, setting))]
        fitting = [one for one in placed if one.main.window >= least]
        if fitting:
            return max(fitting, key=lambda one: (one.main.window, one.card))
    return (
        f"no autocomplete beside it: none of up to {LARGEST - 1:.0f} billion weights leaves the main llm {least} tokens"
    )


def rows(sidecar: Sidecar, main: tuple[LedgerRow, ...]) -> tuple[LedgerRow, ...]:
    """Give the ledger of both: what the sidecar takes is its own row, and not what the main llm leaves alone."""
    own, share = main[sidecar.card], sidecar.share
    kept = own.model_copy(update={"reserve_mib": round(own.reserve_mib - sidecar.taken_mib, 1)})
    row = LedgerRow(
        gpu=own.gpu,
        part="sidecar",
        weights_mib=round(share.weights_mib, 1),
        kv_mib=round(share.kv_mib, 1),
        compute_mib=round(share.compute_mib, 1),
        reserve_mib=round(share.reserve_mib, 1),
        capacity_mib=own.capacity_mib,
    )
    return (*main[: sidecar.card], kept, *main[sidecar.card + 1 :], row)


def reason(sidecar: Sidecar, setting: Setting) -> str:
    """Give the sentence about it."""
    return (
        f"{sidecar.llm.name} {sidecar.quant.quant} completes beside it, with {WINDOW} tokens, on "
        f"{setting.gpus[sidecar.card].name} {setting.gpus[sidecar.card].bus_id}: {sidecar.taken_mib / 1024:.1f} GiB"
    )


def _small(setting: Setting) -> Iterator[tuple[LlmRow, LlmQuant]]:
    """Give the llms that complete, the largest first, each in its lightest files that these cards run."""
    found = [row for row in setting.catalog.llms.values() if row.completes and row.parameters <= LARGEST]
    for row in sorted(found, key=lambda one: -one.parameters):
        for quant in sorted(row.quants, key=lambda one: one.weights_bytes):
            if cannot_run(setting.catalog.quants[quant.quant], RUNTIME, setting) is None:
                yield row, quant


def _placed(row: LlmRow, quant: LlmQuant, card: int, best: Candidate, setting: Setting) -> Sidecar | None:
    """Give the sidecar on one card and the main llm laid out anew around it, None where it cannot be sized."""
    main = best.choice
    reserve = 0.0 if setting.gpus[card].vendor == "apple" else float(CONTEXT_MIB)
    try:
        own = laid_out(
            shape_cached(row), quant.weights_bytes, quant.quant, RUNTIME, "f16", (main.capacity_mib[card],), (reserve,),
            vendor=setting.vendor,
        )  # fmt: skip
    except Unknown:
        return None
    sidecar = Sidecar(row, quant, card, shares(own, WINDOW)[0], best)
    around = _around(best, card, sidecar.taken_mib, setting)
    longest = largest_window(around, best.window)
    window = longest if longest == best.window else longest // STEP * STEP
    return replace(sidecar, main=replace(best, choice=around, window=window))


def _around(best: Candidate, card: int, taken_mib: float, setting: Setting) -> Choice:
    main = best.choice
    capacity, reserve = setting.room(main.runtime)  # type: ignore[arg-type]
    kept = tuple(one + (taken_mib if place == card else 0.0) for place, one in enumerate(reserve))
    return laid_out(
        main.shape,
        best.quant.weights_bytes,
        best.quant.quant,
        main.runtime,
        main.store.key,
        capacity,
        kept,
        main.run.tensor,
        main.sequences,
        setting.vendor,
    )
