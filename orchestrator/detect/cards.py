"""What all readers of graphics cards share, and the cards as the PCI bus shows them: no driver is needed for that."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: One line a display controller or accelerator (classes 03 and 12 of the PCI code and ID assignment).
PCI = """
for card in /sys/bus/pci/devices/*; do
test -r "$card/class" || continue
read -r class <"$card/class"
case $class in 0x03*|0x12*) ;; *) continue;; esac
driver=-
test -e "$card/driver" && driver=$(basename "$(readlink "$card/driver")")
printf '%s %s' "${card##*/}" "$driver"
for about in vendor device class boot_vga mem_info_vram_total mem_info_vram_used max_link_speed max_link_width; do
value=-
test -r "$card/$about" && read -r value <"$card/$about"
printf ' %s' "$(echo "$value" | tr ' ' _)"
done
echo
done
:"""

Vendor = Literal["nvidia", "amd", "intel"]

VENDORS: Mapping[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
#: The driver that holds a card for a virtual machine.
VIRTUAL = "vfio-pci"
_TITLES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
#: Graphics that share the machine's own memory (PCI ID Repository, "Advanced Micro Devices": the APUs since 2018).
_SHARED_MEMORY = re.compile(
    r"1002:(15dd|15d8|1636|1638|164c|164d|1681|163f|1435|1506|164e|13c0|15bf|15c8|15e7|150e|1586|1114|1900|1901)"
)
#: Intel's own graphics sit at this place of the bus in every machine; its cards sit behind a bridge.
_INTEL_SHARED = "00000000:00:02.0"
#: Transfer rate of a lane in GT/s -> PCIe generation (PCI Express Base Specification).
_GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
_MIB = 1 << 20
#: The widest link there is; a bridge that knows none says 255.
_LANES = 32
_ROW = re.compile(
    r"^(?P<slot>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<driver>\S+) 0x(?P<vendor>[0-9a-f]{4}) "
    r"0x(?P<device>[0-9a-f]{4}) 0x(?P<kind>[0-9a-f]{6}) (?P<boot>\S+) (?P<total>\S+) (?P<used>\S+) "
    r"(?P<speed>\S+) (?P<width>\S+)$"
)


@dataclass(frozen=True, slots=True)
class PciCard:
    """One display controller or accelerator. Memory in MiB, None where only a driver knows it."""

    bus_id: str
    vendor: Vendor
    pci_id: str
    driver: str
    boots_display: bool = False
    vram_mib: int | None = None
    vram_free_mib: int | None = None
    generation: int | None = None
    width: int | None = None

    @property
    def integrated(self) -> bool:
        """Tell whether it shares the machine's own memory."""
        return bool(_SHARED_MEMORY.fullmatch(self.pci_id)) or (self.vendor == "intel" and self.bus_id == _INTEL_SHARED)


@dataclass(frozen=True, slots=True)
class Cards:
    """What one reader of cards found. ``links`` are pairs of the reader's own indices."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    links: tuple[Link, ...] = ()
    problems: tuple[Problem, ...] = field(default=())


def bus_id(text: str) -> str:
    """Give a place on the bus with eight digits for its domain, lower case."""
    domain, _, rest = text.strip().lower().partition(":")
    return f"{int(domain, 16):08x}:{rest}"


def parse_pci(text: str) -> tuple[PciCard, ...]:
    """Read one line a card; those of other makers (a server's console) are left out."""
    found = []
    for line in text.splitlines():
        row = _ROW.match(line)
        if not row:
            raise ProbeGarbled("the PCI bus is not listed as it should be")
        vendor = VENDORS.get(row["vendor"])
        if vendor:
            found.append(_card(row, vendor))
    return tuple(sorted(found, key=lambda card: card.bus_id))


def _card(row: re.Match[str], vendor: Vendor) -> PciCard:
    # Intel's cards tell of a link inside the card (2.5 GT/s, one lane), not of theirs to the machine.
    told = vendor != "intel"
    total, used = (int(row[key]) // _MIB if row[key].isdecimal() else None for key in ("total", "used"))
    return PciCard(
        bus_id=bus_id(row["slot"]),
        vendor=vendor,
        pci_id=f"{row['vendor']}:{row['device']}",
        driver=row["driver"],
        boots_display=row["boot"] == "1",
        vram_mib=total,
        vram_free_mib=total - used if total is not None and used is not None else None,
        generation=_GENERATIONS.get(row["speed"].split("_")[0]) if told else None,
        width=int(row["width"]) if told and row["width"].isdecimal() and int(row["width"]) <= _LANES else None,
    )


def by_pci(cards: Sequence[PciCard], names: Mapping[str, tuple[str, int, str | None]]) -> Cards:
    """Give the cards that the bus shows; ``names`` is PCI id -> name, memory in MiB, compute capability.

    A card of which neither its driver nor ``names`` tells the memory is a problem, never a guess.
    """
    gpus, problems = [], []
    for card in cards:
        name, memory, capability = names.get(card.pci_id, ("", None, None))
        memory = card.vram_mib or memory
        if card.driver == VIRTUAL:
            problems.append(_passed_on(card))
        elif memory:
            gpus.append(_gpu(card, name, memory, capability))
        elif not card.integrated:
            problems.append(_unknown(card))
    return Cards(gpus=tuple(gpus), problems=tuple(problems))


def _gpu(card: PciCard, name: str, memory: int, capability: str | None) -> Gpu:
    return Gpu(
        index=0,
        vendor=card.vendor,
        name=name or f"{_TITLES[card.vendor]} {card.pci_id}",
        vram_mib=memory,
        vram_free_mib=card.vram_free_mib,
        compute_capability=capability,
        bus_id=card.bus_id,
        source="sysfs" if card.vram_mib else "pci",
        drives_display=card.boots_display,
        integrated=card.integrated,
        pcie_generation=card.generation,
        pcie_width=card.width,
    )


def _passed_on(card: PciCard) -> Problem:
    return Problem(
        kind="gpu_passed_on",
        what=f"the card {card.pci_id} at {card.bus_id} is set aside for virtual machines (vfio-pci)",
        do="bind it to its own driver to use it here",
    )


def _unknown(card: PciCard) -> Problem:
    return Problem(
        kind="gpu_unknown",
        what=f"the {_TITLES[card.vendor]} card {card.pci_id} at {card.bus_id} is not known, nor is its memory",
        do='install its driver, or give it by hand: --gpu "NAME:MIB"',
    )
