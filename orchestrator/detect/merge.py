"""All cards of a host from all that told of them, in the order of the bus, and what is wrong with them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orchestrator.card_health import CardHealth, parse_health, parse_xids, with_xids
from orchestrator.detect import amd, apple, ours, smi
from orchestrator.detect.cards import UNIFIED, VIRTUAL, Cards, PciCard, by_pci, parse_pci
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.detect.system import Memory

T = TypeVar("T")


class Told(Protocol):
    """What the probes of one host printed: read by a parse, looked at, or there at all."""

    mac: bool
    kernel: str

    def read(self, name: str, parse: Callable[[str], T], otherwise: T) -> T:
        """Give what a parse makes of an output, ``otherwise`` where it can't."""

    def maybe(self, name: str, parse: Callable[[str], T]) -> T | None:
        """Give what a parse makes of an output, None where it can't."""

    def peek(self, name: str) -> str:
        """Give an output as it is."""

    def there(self, name: str) -> bool:
        """Tell whether the command is there."""


def all_cards(
    told: Told,
    memory: Memory,
    packages: Mapping[str, str],
    pci_names: Mapping[str, tuple[str, int, str | None]],
    nvml: Cards | None,
) -> Cards:
    """Give all cards: NVIDIA's from their driver where it answers, AMD's with rocm-smi, the rest from the bus."""
    if told.mac:
        return told.read("mac_cards", lambda text: apple.parse_cards(text, memory), Cards())
    nothing: tuple[PciCard, ...] = ()
    on_bus = told.read("pci", parse_pci, nothing)
    driven = nvml or _by_smi(told, memory)
    module = told.maybe("nvidia_module", smi.parse_module)
    problems = _problems(told, on_bus, driven, module, smi.parse_installed(told.peek("nvidia_installed"), packages))
    asked = {gpu.bus_id for gpu in driven.gpus}
    rest = by_pci([card for card in on_bus if card.bus_id not in asked and not _lost(card, asked)], pci_names)
    rocm = told.read("rocm_smi", amd.parse_rocm, amd.Rocm())
    gpus = sorted((*driven.gpus, *_with_rocm(rest.gpus, rocm, on_bus, pci_names)), key=lambda gpu: gpu.bus_id)
    order = {gpu.bus_id: index for index, gpu in enumerate(gpus)}
    unified = {card.bus_id for card in on_bus if card.pci_id in UNIFIED}
    apps = driven.apps or ours.parse_apps(told.peek("nvidia_apps"))
    held = ours.held(told.peek("ours"), apps, unified)
    gpus = _with_health(told, gpus)
    links = (*_in_order(driven.links, driven.gpus, order), *_in_order(rocm.links, rocm.gpus, order))
    return Cards(
        gpus=tuple(_numbered(gpu, order[gpu.bus_id], held.get(gpu.bus_id, 0)) for gpu in gpus),
        driver=driven.driver or module,
        cuda=driven.cuda,
        links=tuple(sorted(links, key=lambda link: (link.first, link.second))),
        problems=(*problems, *rest.problems),
    )


def _lost(card: PciCard, asked: Iterable[str]) -> bool:
    """Tell whether the driver answers for other cards and not for this one."""
    return bool(asked) and card.vendor == "nvidia" and card.driver != VIRTUAL


def _with_rocm(
    found: Sequence[Gpu],
    rocm: amd.Rocm,
    on_bus: Sequence[PciCard],
    pci_names: Mapping[str, tuple[str, int, str | None]],
) -> list[Gpu]:
    """Give the cards of the bus with the names that rocm-smi knows, and those that it alone tells of."""
    tool = {gpu.bus_id: gpu for gpu in rocm.gpus}
    named = {card.bus_id for card in on_bus if card.pci_id in pci_names}
    known = {card.bus_id for card in on_bus}
    by_both = [
        gpu.model_copy(update={"name": tool[gpu.bus_id].name})
        if gpu.bus_id in tool and gpu.bus_id not in named
        else gpu
        for gpu in found
    ]
    return [*by_both, *(gpu for place, gpu in tool.items() if place not in known)]


def _in_order(links: Iterable[Link], gpus: Iterable[Gpu], order: Mapping[str, int]) -> list[Link]:
    """Give a reader's links by the order of the bus instead of the reader's own."""
    at = {gpu.index: order[gpu.bus_id] for gpu in gpus if gpu.bus_id in order}
    pairs = [
        (link, sorted((at[link.first], at[link.second]))) for link in links if {link.first, link.second} <= at.keys()
    ]
    return [Link(first=ends[0], second=ends[1], kind=link.kind, p2p=link.p2p) for link, ends in pairs]


def _numbered(gpu: Gpu, index: int, held: int) -> Gpu:
    """Give a card its number, and what our units hold there: never more than is in use."""
    used = held if gpu.vram_free_mib is None else max(0, gpu.vram_mib - gpu.vram_free_mib)
    changes: dict[str, Any] = {"index": index, "vram_ours_mib": min(held, used)}
    return gpu.model_copy(update=changes)


def _with_health(told: Told, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Give cards with how they are, where their driver tells, and the Xid errors that the kernel wrote of them."""
    nothing: dict[str, CardHealth] = {}
    known = told.read("nvidia_health", parse_health, nothing)
    known |= {gpu.bus_id: gpu.health for gpu in gpus if gpu.health is not None}
    cards = with_xids(known, parse_xids(told.peek("nvidia_xids")))
    return [gpu.model_copy(update={"health": cards.get(gpu.bus_id)}) for gpu in gpus]


def _by_smi(told: Told, memory: Memory) -> Cards:
    found = told.read("nvidia_smi", lambda text: smi.parse_smi(text, memory), Cards())
    if not found.gpus:
        return found
    parts = smi.parse_parts(told.peek("nvidia_parts"))
    whole = [smi.divided(gpu.bus_id, parts.get(gpu.index, ())) for gpu in found.gpus if gpu.mig]
    return replace(
        found,
        cuda=smi.parse_cuda(told.peek("nvidia_cuda")),
        links=smi.parse_topology(told.peek("nvidia_topology")),
        problems=(*found.problems, *whole),
    )


def _problems(
    told: Told, on_bus: Sequence[PciCard], driven: Cards, module: str | None, disk: smi.Installed
) -> list[Problem]:
    """Give the driver's own complaints, and what is wrong between the cards, the loaded module and the disk."""
    cards = [card for card in on_bus if card.vendor == "nvidia" and card.driver != VIRTUAL]
    said = {problem.kind for problem in driven.problems}
    found = _mismatch(module, disk)
    if cards and not driven.gpus and not module and said <= {"driver_not_loaded"}:
        found.append(_not_loaded(told, cards[0], disk, installed=bool(said)))
    elif cards and not driven.gpus and not said and module and not told.there("nvidia_smi"):
        what = f"the NVIDIA module {module} is loaded, and nvidia-smi is not there to ask it"
        found.append(Problem(kind="driver_unasked", what=what, do="install nvidia-smi (Ubuntu: nvidia-utils)"))
    if driven.gpus and not said & {"gpu_lost", ProbeGarbled.kind}:
        seen = {gpu.bus_id for gpu in driven.gpus}
        found += [
            Problem(kind="gpu_lost", what=f"the driver does not answer for the card at {place}", do="see dmesg for Xid")
            for place in (card.bus_id for card in cards)
            if place not in seen
        ]
    known = {problem.kind for problem in found}
    return [*(problem for problem in driven.problems if problem.kind not in known), *found]


def _mismatch(module: str | None, disk: smi.Installed) -> list[Problem]:
    """Hold the loaded module against the library and against the module that the next start would load."""
    if module and disk.library and module != disk.library:
        what = f"the loaded NVIDIA module is {module}, the installed driver {disk.library}"
    elif module and disk.module and module != disk.module:
        what = f"the loaded NVIDIA module is {module}, the one on the disk {disk.module}"
    else:
        return []
    return [Problem(kind="driver_mismatch", what=what, do="reboot, and hold the driver's packages")]


def _not_loaded(told: Told, card: PciCard, disk: smi.Installed, *, installed: bool) -> Problem:
    """Say why no module serves a card: none installed, none made for this kernel, or one that was not let in."""
    if not installed and not disk.library and not disk.module:
        by = f", and {card.driver} has it" if card.driver == "nouveau" else ""
        what = f"no NVIDIA driver is installed for the card at {card.bus_id}{by}"
        return Problem(kind="driver_missing", what=what, do="install the distribution's NVIDIA driver")
    what = "the NVIDIA driver is installed and its module is not loaded"
    do = "reboot; under Secure Boot sign the module"
    if not disk.module and disk.module is not None:
        what = f"the NVIDIA driver is installed, and no module of it is made for the kernel {told.kernel}"
        do = "install that kernel's headers and let dkms make it, or start the kernel that it is made for"
    elif disk.module and not disk.signed:
        what, do = f"the NVIDIA module {disk.module} is not loaded, and it is not signed", "under Secure Boot sign it"
    return Problem(kind="driver_not_loaded", what=what, do=f"{do}; then reboot" if "reboot" not in do else do)
