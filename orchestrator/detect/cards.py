"""What all readers of graphics cards share, and the cards as the PCI bus shows them: no driver is needed for that."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: One line a display controller or accelerator (classes 03 and 12 of the PCI code and ID assignment). What only some
#: drivers tell stands behind it as ``key=value``: a connected display, the memory of Intel's cards (xe by tile, Intel's
#: own i915 by card; what is free there xe tells root alone, in debugfs), the system's memory that an AMD processor's
#: graphics may take, the name in libdrm's list.
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
grep -qsx connected "$card"/drm/card*/card*-*/status && printf ' display=1'
for about in mem_info_gtt_total mem_info_gtt_used; do
test -r "$card/$about" && read -r value <"$card/$about" && printf ' %s=%s' "${about#mem_info_}" "$value"
done
cat "$card"/tile*/physical_vram_size_bytes "$card"/drm/card*/lmem_total_bytes | awk '{ all += $1 }
END { if (all) printf " local_total=%.0f", all }'
set --
for table in "/sys/kernel/debug/dri/${card##*/}"/tile*/vram_mm "/sys/kernel/debug/dri/${card##*/}"/vram*_mm; do
test -r "$table" && set -- "$@" "$table"
done
test $# -gt 0 && awk '$1 == "size:" { all += $2 } $1 == "usage:" { all -= $2; told = 1 }
END { if (told && all >= 0) printf " local_free=%.0f", all }' "$@"
if test -r "$card/revision" && test -r /usr/share/libdrm/amdgpu.ids; then
read -r revision <"$card/revision"
read -r device <"$card/device"
sed -n "s/^${device#0x},[[:space:]]*${revision#0x},[[:space:]]*//Ip" /usr/share/libdrm/amdgpu.ids |
head -n1 | tr ' ' _ | sed 's/^/ name=/' | tr -d '\\n'
fi
echo
done
:"""

Vendor = Literal["nvidia", "amd", "intel"]

VENDORS: Mapping[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
#: The driver that holds a card for a virtual machine.
VIRTUAL = "vfio-pci"
#: Strix Halo: graphics of a processor that people buy for their memory. Counts as a card.
UNIFIED = frozenset({"1002:1586"})
_TITLES = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
#: Graphics that share the machine's own memory (PCI ID Repository, "Advanced Micro Devices": the APUs since 2018).
_SHARED_MEMORY = re.compile(
    r"1002:(15dd|15d8|1636|1638|164c|164d|1681|163f|1435|1506|164e|13c0|15bf|15c8|15e7|150e|1114|1900|1901)"
)
#: Intel's own graphics sit at this place of the bus in every machine; its cards sit behind a bridge.
_INTEL_SHARED = "00000000:00:02.0"
#: Transfer rate of a lane in GT/s -> PCIe generation (PCI Express Base Specification).
_GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
_MIB = 1 << 20
#: The widest link there is; a bridge that knows none says 255.
_LANES = 32
_PLACE = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_ROW = re.compile(
    r"^(?P<slot>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<driver>\S+) 0x(?P<vendor>[0-9a-f]{4}) "
    r"0x(?P<device>[0-9a-f]{4}) 0x(?P<kind>[0-9a-f]{6}) (?P<boot>\S+) (?P<total>\S+) (?P<used>\S+) "
    r"(?P<speed>\S+) (?P<width>\S+)(?P<more>( [a-z_]+=\S*)*)$"
)


@dataclass(frozen=True, slots=True)
class PciCard:
    """One display controller or accelerator. Memory in MiB, None where only a driver knows it."""

    bus_id: str
    vendor: Vendor
    pci_id: str
    driver: str
    name: str = ""
    drives_display: bool = False
    vram_mib: int | None = None
    vram_free_mib: int | None = None
    generation: int | None = None
    width: int | None = None

    @property
    def integrated(self) -> bool:
        """Tell whether it shares the machine's own memory."""
        return is_integrated(self.pci_id) or (self.vendor == "intel" and self.bus_id == _INTEL_SHARED)


@dataclass(frozen=True, slots=True)
class Cards:
    """What one reader of cards found.

    ``links`` are pairs of the reader's own indices; ``apps`` is (bus id, process) -> MiB that it holds there.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    links: tuple[Link, ...] = ()
    problems: tuple[Problem, ...] = field(default=())
    apps: Mapping[tuple[str, int], int] = field(default_factory=dict)


def bus_id(text: str) -> str:
    """Give a place on the bus with eight digits for its domain, lower case; raises ValueError for no place."""
    place = _PLACE.fullmatch(text.strip().lower())
    if not place:
        message = "no place on the bus"
        raise ValueError(message)
    return f"{int(place[1], 16):08x}:{place[2]}"


def is_integrated(pci_id: str) -> bool:
    """Tell whether a PCI id is that of an AMD processor's own graphics."""
    return bool(_SHARED_MEMORY.fullmatch(pci_id))


def parse_pci(text: str) -> tuple[PciCard, ...]:
    """Read one line a card; those of other makers (a server's console) are left out."""
    found: dict[str, PciCard] = {}
    for line in text.splitlines(keepends=True):
        row = _ROW.match(line.removesuffix("\n"))
        if not row or not line.endswith("\n"):
            raise ProbeGarbled("the PCI bus is not listed as it should be")
        vendor = VENDORS.get(row["vendor"])
        if vendor:
            card = _card(row, vendor)
            found.setdefault(card.bus_id, card)
    return tuple(found[place] for place in sorted(found))


def _card(row: re.Match[str], vendor: Vendor) -> PciCard:
    # Intel's cards tell of a link inside the card (2.5 GT/s, one lane), not of theirs to the machine.
    told = vendor != "intel"
    more = dict(part.split("=", 1) for part in row["more"].split())
    pci_id = f"{row['vendor']}:{row['device']}"
    total, free = _memory(row["total"], row["used"])
    if pci_id in UNIFIED:
        total, free = max((total, free), _memory(more.get("gtt_total", ""), more.get("gtt_used", "")), key=_size)
    if free is None:
        free = _memory(more.get("local_free", ""), "")[0]
    return PciCard(
        bus_id=bus_id(row["slot"]),
        vendor=vendor,
        pci_id=pci_id,
        driver=row["driver"],
        name=more.get("name", "").replace("_", " "),
        drives_display=row["boot"] == "1" or more.get("display") == "1",
        vram_mib=total or _memory(more.get("local_total", ""), "")[0],
        vram_free_mib=free,
        generation=_GENERATIONS.get(row["speed"].split("_")[0]) if told else None,
        width=int(row["width"]) if told and row["width"].isdecimal() and int(row["width"]) <= _LANES else None,
    )


def _memory(total: str, used: str) -> tuple[int | None, int | None]:
    """Give what there is and what is free in MiB, from bytes."""
    all_of_it, taken = (int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None for text in (total, used))
    if all_of_it is None:
        return None, None
    return all_of_it // _MIB, max(0, all_of_it - taken) // _MIB if taken is not None else None


def _size(memory: tuple[int | None, int | None]) -> int:
    return memory[0] or 0


def by_pci(cards: Sequence[PciCard], names: Mapping[str, tuple[str, int, str | None]]) -> Cards:
    """Give the cards that the bus shows; ``names`` is PCI id -> name, memory in MiB, compute capability.

    A card of which neither its driver nor ``names`` tells the memory is a problem, never a guess. Intel's drivers tell
    of all that is on the card, ``names`` of what can be used: the smaller counts.
    """
    gpus, problems = [], []
    for card in cards:
        name, known, capability = names.get(card.pci_id, ("", None, None))
        memory = min(card.vram_mib, known) if card.vendor == "intel" and card.vram_mib and known else card.vram_mib
        if card.driver == VIRTUAL:
            problems.append(_passed_on(card))
        elif memory or known:
            gpus.append(_gpu(card, name, memory or known or 0, capability))
        elif not card.integrated:
            problems.append(_unknown(card))
    return Cards(gpus=tuple(gpus), problems=tuple(problems))


def _gpu(card: PciCard, name: str, memory: int, capability: str | None) -> Gpu:
    return Gpu(
        index=0,
        vendor=card.vendor,
        name=name or card.name or f"{_TITLES[card.vendor]} {card.pci_id}",
        vram_mib=memory,
        vram_free_mib=None if card.vram_free_mib is None else min(card.vram_free_mib, memory),
        compute_capability=capability,
        bus_id=card.bus_id,
        source="sysfs" if card.vram_mib else "pci",
        drives_display=card.drives_display,
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
