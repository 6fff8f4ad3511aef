"""``detect``: this machine, or every host of an inventory at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.detect import Question, read_local
from orchestrator.errors import AgentrigError
from orchestrator.line.draft import read
from orchestrator.line.targets import already_up
from orchestrator.line.wiring import pci_names

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.lab import Lab
    from orchestrator.line.ports import Ports
    from orchestrator.line.targets import Asked
    from orchestrator.snapshot import HostSnapshot


@dataclass(frozen=True, slots=True)
class Read:
    """One host's snapshot, or the reason why there is none."""

    name: str
    snapshot: HostSnapshot | None
    error: AgentrigError | None = None

    def document(self) -> dict[str, Any]:
        """Give one element of ``hosts[]``: a snapshot that ``--snapshot`` reads again, or the name and the error."""
        if self.snapshot:
            return self.snapshot.document()
        return {"name": self.name, "error": self.error.document() if self.error else None}


def read_all(asked: Asked, catalog: Catalog, lab: Lab, ports: Ports) -> tuple[Read, ...]:
    """Read every host that is asked for, all at once."""
    if asked.inventory is None and not asked.lab:
        snapshot = read_local(pci_names=pci_names(catalog))
        return (Read(snapshot.name, snapshot),)
    hosts = already_up(asked, lab, known_here=False)
    answers = ports.ask([Question(host=host, snapshot=True, manifest=None) for host in hosts])
    found = []
    for host in hosts:
        try:
            found.append(Read(host.name, read(answers[host.name], host)))
        except AgentrigError as error:
            found.append(Read(host.name, None, error))
    return tuple(found)
