"""The cards a decision rests on: a profile's own, those given by hand, and whether the expected ones are there."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from orchestrator.catalog.loader import find_gpu
from orchestrator.errors import UsageError
from orchestrator.snapshot import Gpu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.catalog.rows import Catalog, GpuRow
    from orchestrator.profile import ExpectedGpu, Profile
    from orchestrator.snapshot import HostSnapshot

#: Names of cards that are part of a machine and whose memory is the machine's own.
_PART_OF_A_MACHINE = re.compile(r"unified|\bApple\b|gfx115\d|\b80[56]0S\b|\bGB10\b|Strix Halo", re.IGNORECASE)
#: What drivers keep back of a card's memory: two cards of one size differ by less.
SAME_MEMORY = 0.05


def profile_hardware(profile: Profile, catalog: Catalog) -> tuple[Gpu, ...]:
    """Give the cards that a profile is made for, as detection would find them."""
    wanted = [expected for expected in profile.hardware.gpus for _ in range(expected.count)]
    return tuple(
        _card(index, expected.name, expected.vram_mib, catalog, "profile") for index, expected in enumerate(wanted)
    )


def parse_gpu(text: str, catalog: Catalog, index: int = 0) -> Gpu:
    """Give a card from ``NAME`` or ``NAME:MIB``; raises UsageError for a name nobody knows without its memory."""
    name, colon, memory = text.rpartition(":")
    if not colon:
        name, memory = text, ""
    if colon and not (memory.isdecimal() and 0 < int(memory) < 10**8):
        raise UsageError(f"{memory!r} is no memory in MiB", where=f"--gpu {text}", do='write it as "RTX 3090:24576"')
    return _card(index, name.strip(), int(memory) if colon else None, catalog, "given")


def require_hardware(snapshot: HostSnapshot, profile: Profile, catalog: Catalog) -> None:
    """Refuse a host that lacks what the profile expects; raises UsageError naming expected and found."""
    expected = [one for one in profile.hardware.gpus for _ in range(one.count)]
    if not expected:
        return
    left = list(snapshot.usable_gpus())
    for one in expected:
        match = next((card for card in left if _is(card, one, catalog)), None)
        if match is None:
            raise UsageError(
                f"the profile {profile.name} expects {expected_cards(profile)}; found {cards(snapshot.usable_gpus())}",
                where=snapshot.name,
                do="choose another profile, or see deploy detect",
            )
        left.remove(match)


def expected_cards(profile: Profile) -> str:
    """Give a profile's cards for a sentence."""
    return " and ".join(f"{one.count} x {one.name}" for one in profile.hardware.gpus) or "no card"


def cards(found: Sequence[Gpu]) -> str:
    """Give cards for a sentence: ``2 x NVIDIA GeForce RTX 3090 (24 GiB)``."""
    counted: dict[tuple[str, int], int] = {}
    for card in found:
        key = (card.name, round(card.vram_mib / 1024))
        counted[key] = counted.get(key, 0) + 1
    return " and ".join(f"{count} x {name} ({gib} GiB)" for (name, gib), count in counted.items()) or "no card"


def part_of_a_machine(vendor: str, name: str) -> bool:
    """Tell whether a card is part of a machine and reads its memory: Apple's, and integrated ones by their names."""
    return vendor == "apple" or bool(_PART_OF_A_MACHINE.search(name))


def row_of(card: Gpu, catalog: Catalog) -> GpuRow | None:
    """Give a card's catalog row, None for one that nobody has heard of."""
    return find_gpu(catalog, card.name)


def capability(card: Gpu, catalog: Catalog) -> tuple[int, int] | None:
    """Give a card's compute capability as numbers, None where it has none or nobody knows."""
    row = row_of(card, catalog)
    text = card.compute_capability or (row.compute_capability if row else None)
    return parse_capability(text) if text else None


def parse_capability(text: str) -> tuple[int, int]:
    """Give ``8.6`` as (8, 6)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _is(card: Gpu, expected: ExpectedGpu, catalog: Catalog) -> bool:
    wanted = find_gpu(catalog, expected.name)
    memory = expected.vram_mib or (wanted.vram_mib if wanted else 0)
    same_memory = abs(card.vram_mib - memory) <= SAME_MEMORY * memory
    if expected.by == "memory":
        return same_memory and (wanted is None or card.vendor == wanted.vendor)
    found = row_of(card, catalog)
    same = found is not None and wanted is not None and found.name == wanted.name
    return same_memory and (same or card.name == expected.name)


def _card(index: int, name: str, memory: int | None, catalog: Catalog, source: str) -> Gpu:
    row = find_gpu(catalog, name)
    if row is None and memory is None:
        near = get_close_matches(name, catalog.gpus, 1, 0.4)
        hint = f"did you mean {near[0]}? Or give" if near else "give"
        raise UsageError(
            f"no card {name} is known", where=f"--gpu {name}", do=f'{hint} its memory in MiB, as "{name}:24576"'
        )
    fields = {
        "index": index,
        "vendor": row.vendor if row else "nvidia",
        "name": row.name if row else name,
        "vram_mib": memory or (row.vram_mib if row else 0),
        "compute_capability": row.compute_capability if row else None,
        "bus_id": f"00000000:{index + 1:02x}:00.0",
        "source": source,
    }
    return Gpu.model_validate(fields)
