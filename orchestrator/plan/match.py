"""Which of the catalog's profiles a machine is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot

#: The profile of a machine without a usable card.
WITHOUT_GPU = "cpu"


def matching_profile(snapshot: HostSnapshot, catalog: Catalog) -> str | None:
    """Give the profile whose cards are the machine's own, None where it has cards and no profile names them."""
    cards = snapshot.usable_gpus()
    if not cards:
        return WITHOUT_GPU
    found = sorted(card.vram_mib for card in cards)
    fitting = [
        profile.name
        for profile in catalog.profiles.values()
        if profile.hardware.gpus and profile.use == "solo" and _close(found, _expected(profile, catalog))
    ]
    named = [name for name in fitting if _names_match(catalog.profiles[name], snapshot, catalog)]
    return next(iter(named or fitting), None)


def _expected(profile: Profile, catalog: Catalog) -> list[int]:
    """Give the memory of each card the profile is made for, in MiB, smallest first."""
    cards = []
    for gpu in profile.hardware.gpus:
        row = catalog.gpus.get(gpu.name)
        memory = gpu.vram_mib or (row.vram_mib if row else 0)
        cards.extend([memory] * gpu.count)
    return sorted(cards)


def _close(found: list[int], expected: list[int]) -> bool:
    """Tell whether two lists of memory in MiB are the same within 5 %, which is what drivers keep back."""
    return len(found) == len(expected) and all(
        abs(one - other) <= 0.05 * other for one, other in zip(found, expected, strict=True)
    )


def _names_match(profile: Profile, snapshot: HostSnapshot, catalog: Catalog) -> bool:
    wanted = [gpu.name for gpu in profile.hardware.gpus]
    known = [{name, *(catalog.gpus[name].aliases if name in catalog.gpus else ())} for name in wanted]
    return all(any(name in card.name for names in known for name in names) for card in snapshot.usable_gpus())
