"""What is to be accepted, and how one check of it is written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.evidence import Area, Check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.catalog.rows import AgentRow
    from orchestrator.deployment import Deployment
    from orchestrator.inventory import Host
    from orchestrator.manifest import Manifest, Reading
    from orchestrator.verify.gateway import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One host as it was set up: what was declared for it, what was read of it, and its one door.

    ``deployment`` is the one that was applied, stand-ins and all. ``reading`` is None where the host could not be
    read. ``base_url`` is the gateway as it is reached from here, without a path. ``ca_file`` is None without TLS.
    """

    host: Host
    deployment: Deployment
    manifest: Manifest
    reading: Reading | None
    base_url: str
    token: str = field(repr=False)
    ca_file: str | None = None
    runtime_port: int = 18080
    #: The rows of the deployment's agents.
    agents: tuple[AgentRow, ...] = ()
    #: Wire forms that what serves does not speak, each with the reason.
    lacking: Mapping[Form, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: its value, its unit, and the limit it is held against, if there is one."""

    value: float
    unit: str
    limit: float | None = None


def check(area: Area, name: str, faults: Iterable[str], detail: str = "", figure: Figure | None = None) -> Check:
    """Give a check that passed where there are no faults; else one that failed and names each of them."""
    found = tuple(faults)
    return Check(
        area=area,
        name=name,
        result="failed" if found else "passed",
        figure=figure.value if figure else None,
        unit=figure.unit if figure else None,
        limit=figure.limit if figure else None,
        detail="; ".join(found) if found else detail,
    )


def skipped(area: Area, name: str, why: str) -> Check:
    """Give a check that was not tried, with the reason; it never counts as passed."""
    return Check(area=area, name=name, result="skipped", detail=why)
