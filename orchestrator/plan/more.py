"""What more memory would buy: the same decision for a card more, and for the smallest larger card that changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import NoFit, UsageError
from orchestrator.plan.candidates import CLASSES
from orchestrator.plan.choose import plan
from orchestrator.plan.hardware import parse_gpu, part_of_a_machine, row_of
from orchestrator.profile import Hardware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.catalog.rows import Catalog, GpuRow
    from orchestrator.deployment import Deployment
    from orchestrator.plan.wishes import Asked
    from orchestrator.profile import Profile
    from orchestrator.snapshot import Gpu, HostSnapshot

#: Most cards that one workstation takes.
MOST_CARDS = 8
#: From so many times on a longer window is worth a card.
LONGER = 1.5
#: The card for a machine that has none: the smallest that runs an agent's llm.
FIRST_VENDOR = "nvidia"


@dataclass(frozen=True)
class NextStep:
    """Cards that would change the decision: in words, and what they would serve."""

    cards: str
    deployment: Deployment


def next_steps(
    snapshot: HostSnapshot, profile: Profile, catalog: Catalog, now: Deployment, asked: Asked
) -> tuple[NextStep, ...]:
    """Give the smallest steps that buy something: a better class, or a window half as long again.

    More cards of the same kind are tried first, then each larger card alone; of each the first that helps.
    """
    free = profile.model_copy(update={"hardware": Hardware()})
    found: list[NextStep] = []
    seen: set[tuple[str, str]] = set()
    tried = [("more", *one) for one in _more_of_the_same(snapshot, catalog)]
    for machine_kind, words, machine in (*tried, *(("larger", *one) for one in _larger(snapshot, catalog))):
        then = _decided(machine, free, catalog, asked)
        kind = (_better(then, now), machine_kind) if then else ("", "")
        if then and kind[0] and kind not in seen:
            seen.add(kind)
            found.append(NextStep(words, then))
    return tuple(found)


def _decided(machine: HostSnapshot, profile: Profile, catalog: Catalog, asked: Asked) -> Deployment | None:
    try:
        return plan(
            machine, profile, catalog, llm=asked.llm, quant=asked.quant, runtime=asked.runtime, context=asked.context,
            users=asked.users,
        )  # fmt: skip
    except (NoFit, UsageError):
        return None


def _better(then: Deployment, now: Deployment) -> str:
    """Give what is better, nothing where nothing is: the class before the window."""
    rise = CLASSES.index(then.agentic_class) - CLASSES.index(now.agentic_class)
    if rise > 0:
        return then.agentic_class
    return "window" if not rise and then.context_tokens >= LONGER * now.context_tokens else ""


def _more_of_the_same(snapshot: HostSnapshot, catalog: Catalog) -> Iterator[tuple[str, HostSnapshot]]:
    held = snapshot.usable_gpus()
    if not held or held[0].vendor == "apple":
        return
    count = len(held)
    for total in sorted({count + 1, 2 * count, 4 * count}):
        if count < total <= MOST_CARDS:
            name = _name(held[0], catalog)
            yield f"{total - count} more {name}", _with(snapshot, [name] * total, held[0].vram_mib, catalog)


def _larger(snapshot: HostSnapshot, catalog: Catalog) -> Iterator[tuple[str, HostSnapshot]]:
    held = snapshot.usable_gpus()
    vendor, memory = (held[0].vendor, held[0].vram_mib) if held else (FIRST_VENDOR, 0)
    rows = [
        row
        for row in catalog.gpus.values()
        if row.vendor == vendor
        and row.vram_mib > memory
        and part_of_a_machine(vendor, row.name) == (bool(held) and part_of_a_machine(vendor, held[0].name))
    ]
    for row in sorted(rows, key=lambda one: (one.vram_mib, -one.bandwidth_gb_s, one.name)):
        if row.vram_mib in {one.vram_mib for one in _slower(row, rows)}:
            continue
        count = 1 if not held or vendor == "apple" else len(held)
        words = f"{'one' if count == 1 else count} {row.name}{' instead' if held else ''}"
        yield words, _with(snapshot, [row.name] * count, None, catalog)


def _slower(row: GpuRow, rows: list[GpuRow]) -> list[GpuRow]:
    """Give the cards of the same size that are faster: one of a size is enough to try."""
    return [one for one in rows if one.vram_mib == row.vram_mib and one.bandwidth_gb_s > row.bandwidth_gb_s]


def _with(snapshot: HostSnapshot, names: list[str], memory: int | None, catalog: Catalog) -> HostSnapshot:
    made = tuple(parse_gpu(f"{name}:{memory}" if memory else name, catalog, index) for index, name in enumerate(names))
    return snapshot.model_copy(update={"gpus": made, "links": (), "driver": None, "cuda": None})


def _name(gpu: Gpu, catalog: Catalog) -> str:
    row = row_of(gpu, catalog)
    return row.name if row else gpu.name


def described(step: NextStep) -> str:
    """Give a step as a line: what to add, and what it would serve."""
    chosen = step.deployment
    return (
        f"{step.cards}: {chosen.llm} {chosen.quant} by {chosen.runtime}, {chosen.context_tokens} tokens, "
        f"{chosen.agentic_class} for agents"
    )
