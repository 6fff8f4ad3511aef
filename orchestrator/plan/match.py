"""Which of the catalog's profiles a machine is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.plan.hardware import require_hardware, row_of

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot

#: The profile of a machine without a usable card.
WITHOUT_GPU = "cpu"


def matching_profile(snapshot: HostSnapshot, catalog: Catalog) -> str | None:
    """Give the profile whose cards are the machine's own, None where it has cards and no profile names them."""
    found = snapshot.usable_gpus()
    if not found:
        return WITHOUT_GPU
    fitting = [
        profile
        for profile in catalog.profiles.values()
        if profile.hardware.gpus and profile.use == "solo" and _is_made_for(profile, snapshot, catalog)
    ]
    named = [profile.name for profile in fitting if _names_match(profile, snapshot, catalog)]
    return next(iter([*named, *(profile.name for profile in fitting)]), None)


def _is_made_for(profile: Profile, snapshot: HostSnapshot, catalog: Catalog) -> bool:
    """Tell whether the machine has the cards that the profile expects, and no others."""
    if sum(expected.count for expected in profile.hardware.gpus) != len(snapshot.usable_gpus()):
        return False
    try:
        require_hardware(snapshot, profile, catalog)
    except UsageError:
        return False
    return True


def _names_match(profile: Profile, snapshot: HostSnapshot, catalog: Catalog) -> bool:
    wanted = {expected.name for expected in profile.hardware.gpus}
    rows = [row_of(card, catalog) for card in snapshot.usable_gpus()]
    return all(row is not None and row.name in wanted for row in rows)
