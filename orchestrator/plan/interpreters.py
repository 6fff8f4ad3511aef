"""Whether the host's own Python runs what is asked for: another is never brought, nor an older version for its sake."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.catalog.rows import AgentRow, Catalog, RuntimeRow
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot

#: Distribution and version -> the Python that its package ``python3`` is. From each one's package index.
SYSTEM_PYTHONS = {("debian", "12"): "3.11", ("debian", "13"): "3.13", ("ubuntu", "24.04"): "3.12"}


def python_of(snapshot: HostSnapshot) -> str | None:
    """Give the version of the Python that the host has or its distribution brings; None where nobody knows."""
    if snapshot.python:
        return snapshot.python.version
    return SYSTEM_PYTHONS.get((snapshot.os.id, snapshot.os.version_id))


def cannot_interpret(row: RuntimeRow, snapshot: HostSnapshot) -> str | None:
    """Give why the host's Python cannot run a runtime, None where it can or nobody knows."""
    python = python_of(snapshot)
    if runs_on(row.install.python, python):
        return None
    return f"{row.title} needs Python {row.install.python}, and the host has {python}"


def require_interpreters(snapshot: HostSnapshot, profile: Profile, catalog: Catalog) -> None:
    """Raise UsageError for the first agent of the profile that the host's Python cannot run."""
    python = python_of(snapshot)
    for name in profile.agents:
        row = catalog.agents.get(name)
        if row is None or runs_on(row.install.python, python):
            continue
        others = [one.title for one in catalog.agents.values() if runs_on(one.install.python, python)]
        raise UsageError(
            f"{row.title} {row.version} needs Python {row.install.python}, and the host has {python}",
            where=f"agents of the profile {profile.name} on {snapshot.name}",
            do=f"{_instead(others)}, or give {row.title} a host with {_systems(row)}",
        )


@lru_cache(maxsize=256)
def runs_on(specifiers: str | None, python: str | None) -> bool:
    """Tell whether a Python is among a set of them (``>=3.10,<3.13``); so is one that nobody knows."""
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - only where a row says what it needs

    return not specifiers or not python or SpecifierSet(specifiers).contains(python, prereleases=True)


def _instead(titles: Iterable[str]) -> str:
    names = " or ".join(sorted(titles))
    return f"name {names} instead, which runs there" if names else "take it out of the profile's agents"


def _systems(row: AgentRow) -> str:
    """Give the systems whose own Python runs an agent."""
    fitting = [key for key, python in SYSTEM_PYTHONS.items() if runs_on(row.install.python, python)]
    named = [f"{system.capitalize()} {version}" for system, version in fitting]
    return " or ".join(named) or f"Python {row.install.python}"
