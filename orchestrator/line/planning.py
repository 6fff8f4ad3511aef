"""``plan``, ``lock`` and ``render`` without a host to change: for this machine, a profile's own, or a pretended one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestrator.catalog.loader import profile as profile_named
from orchestrator.detect import read_local
from orchestrator.errors import NoFit, UsageError
from orchestrator.line.sizes import Sizes, expected, readable
from orchestrator.line.wiring import pci_names
from orchestrator.plan import Asked, compare, explain, next_steps, offers, parse_gpu, plan, profile_hardware
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
    #: What is known of the bytes before anything is locked.
    sizes: Sizes | None = None

    def document(self) -> dict[str, Any]:
        """Give the document of ``plan``."""
        offered = {"offers": list(self.offers), "sizes": self.sizes.document() if self.sizes else None}
        return {"profile": self.profile.name, "hardware": self.hardware, **_apart(self.deployment), **offered}

    @property
    def offers(self) -> tuple[str, ...]:
        """Give a sentence for each endpoint that already answers on this machine and could be built upon."""
        usable = self.hardware == THIS_MACHINE and self.deployment.runtime_url is None
        return offers(self.snapshot) if usable else ()

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
        if self.sizes and self.sizes.place:
            free = f", of {readable(self.sizes.free)} free there" if self.sizes.free is not None else ""
            lines.append(f"  {readable(self.sizes.place)} of weights to fetch and to place on its disk{free}")
        lines += [f"  {offer}" for offer in self.offers]
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
    asked = _asked(names, pretended, catalog, here)
    return tuple(_planned(profile, machine, hardware, wishes, catalog) for profile, machine, hardware in asked)


def _asked(
    names: tuple[str, ...], pretended: Pretended, catalog: Catalog, here: HostSnapshot | None
) -> tuple[tuple[Profile, HostSnapshot, str], ...]:
    """Give each profile that is asked about, the machine that it is decided for, and whose that is."""
    base = _machine(pretended, catalog, here)
    if names:
        profiles = [profile_named(catalog, name) for name in dict.fromkeys(names)]
    else:
        profiles = [profile_named(catalog, matching_profile(base, catalog) or ANY_CARDS)]
    return tuple((profile, *_hardware(profile, base, pretended, catalog)) for profile in profiles)


def suppose(
    planned: Planned, others: tuple[str, ...], pretended: Pretended, wishes: Wishes, catalog: Catalog
) -> tuple[Supposed, ...]:
    """Decide the same for other cards, each set written as ``2x RTX 3090`` or ``RTX 5090 + RTX 3090:24576``.

    The profile's wishes hold and its cards do not. Raises UsageError for cards that nobody has heard of.
    """
    return _suppose(planned.profile, planned.snapshot, others, pretended, wishes, catalog)


def suppose_instead(
    names: tuple[str, ...], others: tuple[str, ...], pretended: Pretended, wishes: Wishes, catalog: Catalog
) -> tuple[tuple[str, tuple[Supposed, ...]], ...]:
    """Decide for other cards where these serve nothing: for each profile these cards, and what others would serve."""
    found = []
    for profile, snapshot, _ in _asked(names, pretended, catalog, None):
        outcome = Supposed(_counted(snapshot), _outcome(snapshot, profile, wishes, catalog))
        found.append((profile.name, (outcome, *_suppose(profile, snapshot, others, pretended, wishes, catalog))))
    return tuple(found)


def _suppose(  # noqa: PLR0913, PLR0917 - what a decision takes, and for which cards
    profile: Profile,
    snapshot: HostSnapshot,
    others: tuple[str, ...],
    pretended: Pretended,
    wishes: Wishes,
    catalog: Catalog,
) -> tuple[Supposed, ...]:
    wanted = catalog.profiles[ANY_CARDS] if profile.demonstration else profile
    free = wanted.model_copy(update={"hardware": Hardware()})
    return tuple(_supposed(text, free, snapshot, pretended, wishes, catalog) for text in others)


def _supposed(  # noqa: PLR0913, PLR0917 - what a decision takes, and for which cards
    text: str, profile: Profile, snapshot: HostSnapshot, pretended: Pretended, wishes: Wishes, catalog: Catalog
) -> Supposed:
    cards = _cards(text, catalog)
    machine = snapshot.model_copy(update={"gpus": cards, "cuda": None, "links": ()})
    if not pretended.snapshot:
        machine = machine.model_copy(update={"driver": None})
    return Supposed(text, _outcome(machine, profile, wishes, catalog))


def _outcome(snapshot: HostSnapshot, profile: Profile, wishes: Wishes, catalog: Catalog) -> Deployment | str:
    try:
        return _decide(snapshot, profile, wishes, catalog)
    except NoFit as nothing:
        return nothing.what


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
    now = (f"{_counted(planned.snapshot)} (now)", planned.deployment)
    return compare([now, *((one.gpus, one.outcome) for one in others)])


def side_by_side_instead(found: tuple[Supposed, ...]) -> str:
    """Give decisions for other cards beside the outcome that these have none."""
    now, *others = found
    return compare([(f"{now.gpus} (now)", now.outcome), *((one.gpus, one.outcome) for one in others)])


def _counted(snapshot: HostSnapshot) -> str:
    cards = [gpu.name for gpu in snapshot.usable_gpus()]
    return " + ".join(f"{cards.count(name)}x {name}" for name in dict.fromkeys(cards)) or "no card"


def explained(planned: Planned, catalog: Catalog, wishes: Wishes) -> str:
    """Give the page that one would send to a colleague."""
    asked = Asked(wishes.llm, wishes.quant, wishes.runtime, wishes.context, wishes.users)
    steps = next_steps(planned.snapshot, planned.profile, catalog, planned.deployment, asked)
    return explain(planned.deployment, catalog, steps)


def _hardware(profile: Profile, base: HostSnapshot, pretended: Pretended, catalog: Catalog) -> tuple[HostSnapshot, str]:
    if pretended.anything:
        return base, "a pretended machine's"
    if not base.usable_gpus() and (cards := profile_hardware(profile, catalog)):
        return _as_the_profile_expects(base, profile, cards), "the profile's own"
    return base, THIS_MACHINE


def _planned(profile: Profile, snapshot: HostSnapshot, hardware: str, wishes: Wishes, catalog: Catalog) -> Planned:
    deployment = _decide(snapshot, profile, wishes, catalog)
    measured = snapshot if hardware == THIS_MACHINE else snapshot.model_copy(update={"disk_free_mib": None})
    weights = expected(deployment, measured, catalog, in_store=lambda _: False)
    return Planned(profile, snapshot, deployment, hardware, weights)


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
