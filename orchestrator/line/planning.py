"""``plan``, ``lock`` and ``render`` without a host to change: for this machine, a profile's own, or a pretended one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestrator.catalog.loader import profile as profile_named
from orchestrator.detect import read_local
from orchestrator.errors import NoFit, UsageError
from orchestrator.line.wiring import pci_names
from orchestrator.plan import compare, explain, parse_gpu, plan, profile_hardware
from orchestrator.plan.match import matching_profile
from orchestrator.profile import Hardware
from orchestrator.snapshot import HostSnapshot

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment
    from orchestrator.profile import Profile
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import Gpu


#: Whose hardware a decision is for, where it is that of the machine we run on.
THIS_MACHINE = "this machine's"
#: The profile for whatever cards there are: where no other names them, and for other cards than those of ``cpu``.
ANY_CARDS = "auto"
#: ``2x RTX 3090``: how many of which card.
_COUNTED = re.compile(r"\s*(?:(\d{1,3})\s*[xX]\s+)?(.+?)\s*")
#: Most cards that anyone may ask about.
MOST_CARDS = 64


@dataclass(frozen=True, slots=True)
class Pretended:
    """The options that pretend to be another machine."""

    gpus: tuple[str, ...] = ()
    ram_mib: int | None = None
    snapshot: Path | None = None

    @property
    def anything(self) -> bool:
        """Tell whether another machine is meant."""
        return bool(self.gpus or self.ram_mib or self.snapshot)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line fixes of a profile's choice."""

    llm: str | None = None
    quant: str | None = None
    runtime: str | None = None
    context: int | None = None
    users: int | None = None
    autocomplete: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """One profile's decision on one machine."""

    profile: Profile
    snapshot: HostSnapshot
    deployment: Deployment
    #: Whose hardware it is: this machine's, the profile's, or a pretended one.
    hardware: str

    def document(self) -> dict[str, Any]:
        """Give the document of ``plan``."""
        return {"profile": self.profile.name, "hardware": self.hardware, **_apart(self.deployment)}

    def lines(self) -> list[str]:
        """Give the decision as a person reads it: what, why, and what to know."""
        chosen, cards = self.deployment, [gpu.name for gpu in self.snapshot.usable_gpus()]
        lines = [
            f"{self.profile.name} on {self.hardware} hardware: {', '.join(cards) or 'no GPU'}",
            (
                f"  {chosen.llm} as {chosen.quant}, on {chosen.runtime}, {chosen.context_tokens} tokens, "
                f"{chosen.slots} at once ({chosen.agentic_class})"
            ),
            *(f"  {reason}" for reason in chosen.reasons),
        ]
        for row in chosen.ledger:
            used = row.weights_mib + row.kv_mib + row.compute_mib + row.reserve_mib
            what = f"{row.gpu} (autocomplete by {chosen.sidecar})" if row.part == "sidecar" else row.gpu
            lines.append(
                f"  {what}: {row.weights_mib:.0f} weights + {row.kv_mib:.0f} cache + {row.compute_mib:.0f} compute "
                f"+ {row.reserve_mib:.0f} reserve = {used:.0f} of {row.capacity_mib:.0f} MiB"
            )
        if self.hardware == THIS_MACHINE and cards:
            lines.append(f"  for real, asking before it changes this machine: deploy up --profile {self.profile.name}")
        return lines


@dataclass(frozen=True, slots=True)
class Supposed:
    """What other cards would serve: the decision, or why there is none."""

    gpus: str
    outcome: Deployment | str

    def document(self) -> dict[str, Any]:
        """Give one entry of ``what_if``."""
        if isinstance(self.outcome, str):
            return {"gpus": self.gpus, "deployment": None, "reason": self.outcome}
        return {"gpus": self.gpus, **_apart(self.outcome), "reason": None}


def _apart(deployment: Deployment) -> dict[str, Any]:
    """Give a decision's document, its ledger and words beside what was decided."""
    chosen = deployment.document()
    words = {key: chosen.pop(key) for key in ("ledger", "confidence", "reasons", "rejections")}
    return {"deployment": chosen, **words}


def plan_for(
    names: tuple[str, ...], pretended: Pretended, wishes: Wishes, catalog: Catalog, here: HostSnapshot | None = None
) -> tuple[Planned, ...]:
    """Decide for each profile named; raises NoFit, UsageError."""
    base = _machine(pretended, catalog, here)
    if names:
        profiles = [profile_named(catalog, name) for name in dict.fromkeys(names)]
    else:
        profiles = [profile_named(catalog, matching_profile(base, catalog) or ANY_CARDS)]
    return tuple(_planned(profile, base, pretended, wishes, catalog) for profile in profiles)


def suppose(
    planned: Planned, others: tuple[str, ...], pretended: Pretended, wishes: Wishes, catalog: Catalog
) -> tuple[Supposed, ...]:
    """Decide the same for other cards, each set written as ``2x RTX 3090`` or ``RTX 5090 + RTX 3090:24576``.

    The profile's wishes hold and its cards do not. Raises UsageError for cards that nobody has heard of.
    """
    wanted = catalog.profiles[ANY_CARDS] if planned.profile.demonstration else planned.profile
    free = wanted.model_copy(update={"hardware": Hardware()})
    return tuple(_supposed(text, free, planned, pretended, wishes, catalog) for text in others)


def _supposed(  # noqa: PLR0913, PLR0917 - what a decision takes, and for which cards
    text: str, profile: Profile, planned: Planned, pretended: Pretended, wishes: Wishes, catalog: Catalog
) -> Supposed:
    cards = _cards(text, catalog)
    machine = planned.snapshot.model_copy(update={"gpus": cards, "cuda": None, "links": ()})
    if not pretended.snapshot:
        machine = machine.model_copy(update={"driver": None})
    try:
        return Supposed(text, _decide(machine, profile, wishes, catalog))
    except NoFit as nothing:
        return Supposed(text, nothing.what)


def _cards(text: str, catalog: Catalog) -> tuple[Gpu, ...]:
    names: list[str] = []
    for part in text.split("+"):
        found = _COUNTED.fullmatch(part)
        count = int(found.group(1) or 1) if found else 0
        if not found or not 0 < count <= MOST_CARDS:
            raise UsageError(
                f"{text!r} names no cards", where="--what-if", do='write it as "2x RTX 3090" or "RTX 5090 + RTX 3090"'
            )
        names.extend([found.group(2)] * count)
    return tuple(parse_gpu(name, catalog, index) for index, name in enumerate(names))


def side_by_side(planned: Planned, others: tuple[Supposed, ...]) -> str:
    """Give decisions for other cards beside the one for these."""
    cards = [gpu.name for gpu in planned.snapshot.usable_gpus()]
    counted = " + ".join(f"{cards.count(name)}x {name}" for name in dict.fromkeys(cards)) or "no card"
    return compare([(f"{counted} (now)", planned.deployment), *((one.gpus, one.outcome) for one in others)])


def explained(planned: Planned, catalog: Catalog) -> str:
    """Give the page that one would send to a colleague."""
    return explain(planned.deployment, catalog)


def _planned(profile: Profile, base: HostSnapshot, pretended: Pretended, wishes: Wishes, catalog: Catalog) -> Planned:
    snapshot, hardware = base, THIS_MACHINE
    if pretended.anything:
        hardware = "a pretended machine's"
    elif not base.usable_gpus() and (cards := profile_hardware(profile, catalog)):
        snapshot, hardware = _as_the_profile_expects(base, profile, cards), "the profile's own"
    return Planned(profile, snapshot, _decide(snapshot, profile, wishes, catalog), hardware)


def _decide(snapshot: HostSnapshot, profile: Profile, wishes: Wishes, catalog: Catalog) -> Deployment:
    return plan(
        snapshot,
        profile,
        catalog,
        llm=wishes.llm,
        quant=wishes.quant,
        runtime=wishes.runtime,
        context=wishes.context,
        users=wishes.users,
        autocomplete=wishes.autocomplete,
    )


def _as_the_profile_expects(base: HostSnapshot, profile: Profile, cards: tuple[Gpu, ...]) -> HostSnapshot:
    ram_mib = profile.hardware.ram_mib or base.ram_mib
    return base.model_copy(update={"gpus": cards, "ram_mib": ram_mib, "driver": None, "cuda": None})


def _machine(pretended: Pretended, catalog: Catalog, here: HostSnapshot | None) -> HostSnapshot:
    """Give the machine that is planned for."""
    if pretended.snapshot:
        return read_snapshot(pretended.snapshot)
    base = here or read_local(pci_names=pci_names(catalog))
    if pretended.gpus:
        cards = tuple(parse_gpu(text, catalog, index) for index, text in enumerate(pretended.gpus))
        base = base.model_copy(update={"gpus": cards, "driver": None, "cuda": None})
    if pretended.ram_mib:
        base = base.model_copy(update={"ram_mib": pretended.ram_mib})
    return base


def read_snapshot(path: Path) -> HostSnapshot:
    """Read a snapshot that ``detect --json`` wrote: the host itself, or the document with one host."""
    import json  # noqa: PLC0415 - on this path only

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        hosts = document.get("hosts", [document]) if isinstance(document, dict) else []
        if len(hosts) != 1:
            raise UsageError(f"it holds {len(hosts)} hosts", where=str(path), do="give the snapshot of one host")
        return HostSnapshot.model_validate(hosts[0])
    except UnicodeDecodeError as error:
        raise UsageError("not text", where=str(path), do="give what deploy detect --json wrote") from error
    except (json.JSONDecodeError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else f"not JSON: {error}"
        raise UsageError(what, where=str(path), do="give what deploy detect --json wrote") from error


def write_tree(rendered: Rendered, folder: Path) -> None:
    """Write a rendering into a folder that is empty or not there; raises UsageError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("this is there already, and not an empty folder", where=str(folder), do="name another --out")
    for file in rendered.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content, encoding="utf-8")
        path.chmod(int(file.mode, 8))
