"""What goes into the line and what comes out of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import EXIT_DONE, AgentrigError, exit_code_of_many
from orchestrator.line import beside

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.deployment import Deployment, StandIn
    from orchestrator.evidence import Evidence
    from orchestrator.inventory import Host
    from orchestrator.kept import Left
    from orchestrator.line.sizes import Sizes
    from orchestrator.lockfile import Lock, PackageChange
    from orchestrator.manifest import Drift, Manifest, Reading
    from orchestrator.profile import Profile
    from orchestrator.releases import DiskUse
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import HostSnapshot

Result = Literal["unchanged", "changed", "failed", "rolled_back"]


@dataclass(frozen=True, slots=True)
class Wish:
    """How ``up`` was asked to go about it."""

    lock_file: Path
    lab: bool = False
    locked: bool = False
    replan: bool = False
    full: bool = False
    check: bool = False
    reboot: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """One host on its way: what it is, what was decided for it, what it has now."""

    host: Host
    profile: Profile
    snapshot: HostSnapshot
    deployment: Deployment
    rehearsal: Deployment | None
    stand_ins: tuple[StandIn, ...]
    rendered: Rendered
    #: True where the lock's decision was taken over unchanged.
    kept: bool
    former: Manifest | None
    reading: Reading | None
    #: What was changed by itself since its runtime did not come up, and after what.
    tried: str | None = None

    @property
    def applied(self) -> Deployment:
        """Give the deployment that is really put on the host."""
        return self.rehearsal or self.deployment

    @property
    def notes(self) -> tuple[str, ...]:
        """Give what the owner should know of what serves."""
        host, port, notes = self.host, self.applied.gateway_port, []
        if self.applied.agentic_class == "demonstration":
            notes.append(f"demonstration: {self.applied.llm} is below the floor for agents")
        if host.connection == "ssh" and not host.lab:
            way = f"ssh -N -L {port}:127.0.0.1:{port} -p {host.port} {shlex.quote(f'{host.user}@{host.address}')}"
            notes.append(f"it answers on {host.name} itself; to reach it from here: {way}")
        notes += [f"{one.what}; {one.do}" for one in self.snapshot.problems if one.kind == "clock"]
        notes += [f"changed by itself: {self.tried}"] if self.tried else []
        notes += beside.notes(self.snapshot, self.applied)
        return tuple(notes)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What ``up`` is about to do to real hosts, for the question that it asks. Sizes in bytes."""

    drafts: tuple[Draft, ...]
    lock: Lock
    bytes_to_place: int
    upgrades: tuple[PackageChange, ...]
    #: Of each host what is carried and placed, and what its disk has left.
    sizes: tuple[Sizes, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a rig answers. ``openai`` ends in ``/v1``; ``anthropic`` doesn't, and is None where it is not spoken."""

    openai: str
    anthropic: str | None
    token_file: Path
    ca_file: Path | None = None

    def document(self) -> dict[str, str | None]:
        """Give the ``endpoint`` key of the contract."""
        return {
            "openai": self.openai,
            "anthropic": self.anthropic,
            "token_file": str(self.token_file),
            "ca_file": str(self.ca_file) if self.ca_file else None,
        }


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """How it ended for one host. ``phases`` holds seconds by phase."""

    name: str
    result: Result
    changed: int = 0
    deployment_id: str | None = None
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    evidence_file: Path | None = None
    evidence: Evidence | None = None
    stand_ins: tuple[StandIn, ...] = ()
    error: AgentrigError | None = None
    log: Path | None = None
    #: What was changed, or with ``check`` would be, in the words of the tasks that did it.
    changes: tuple[str, ...] = ()
    #: What its owner should know of it, a sentence each.
    notes: tuple[str, ...] = ()
    #: Things that stay on the host after ``down``, and why.
    left: tuple[str, ...] = ()
    #: The signed statement of what was accepted.
    attestation: Path | None = None

    def document(self) -> dict[str, Any]:
        """Give one element of ``hosts[]`` of the contract."""
        return {
            "name": self.name,
            "result": self.result,
            "changed": self.changed,
            "deployment_id": self.deployment_id,
            "seconds": round(self.seconds, 2),
            "phases": {name: round(seconds, 2) for name, seconds in self.phases.items()},
            "endpoint": self.endpoint.document() if self.endpoint else None,
            "evidence": str(self.evidence_file) if self.evidence_file else None,
            "stand_ins": [stand_in.document() for stand_in in self.stand_ins],
            "error": self.error.document() if self.error else None,
            "log": str(self.log) if self.log else None,
            "changes": list(self.changes),
            "notes": list(self.notes),
            "left": list(self.left),
            "attestation": str(self.attestation) if self.attestation else None,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for all."""

    hosts: tuple[HostOutcome, ...]

    @property
    def exit_code(self) -> int:
        """Give the exit code of the contract: the first of 2, 1, 5, 3, 4 that occurs."""
        return exit_code_of_many(host.error.exit_code if host.error else EXIT_DONE for host in self.hosts)

    def document(self) -> dict[str, Any]:
        """Give the document of ``up``, ``down`` and ``rollback``."""
        failed = next((host.error for host in self.hosts if host.error), None)
        document: dict[str, Any] = {"hosts": [host.document() for host in self.hosts]}
        return document | ({"error": failed.document()} if failed else {})


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What one host runs, and whether it is still what was put there."""

    name: str
    deployment_id: str | None
    manifest_digest: str | None
    drift: tuple[Drift, ...]
    serving: bool
    snapshot: HostSnapshot | None
    evidence: Evidence | None
    endpoint: Endpoint | None
    error: AgentrigError | None = None
    #: What is locked for the host and was put there; in the lab what really serves. None where nothing of ours runs.
    deployment: Deployment | None = None
    #: True where the host takes only locks that its own file of signers knows; None where it was not read.
    asks_for_signature: bool | None = None

    @property
    def trusts(self) -> str | None:
        """Give whom the host believes: its own file of signers, or the control machine; None where it was not read."""
        return {True: "allowed_signers", False: "control machine", None: None}[self.asks_for_signature]

    #: The release that a roll-back left and that the lock still asks for.
    left: Left | None = None
    #: What our folder takes of the host's disk.
    disk: DiskUse | None = None
    #: The host that this one was held against, and what this one has otherwise.
    against: str | None = None
    differences: tuple[Drift, ...] = ()

    @property
    def accepted(self) -> str | None:
        """Give when the host was accepted, as its evidence says; None where the last acceptance failed, or none was."""
        return self.evidence.began if self.evidence and self.evidence.accepted else None

    def document(self) -> dict[str, Any]:
        """Give one element of ``hosts[]`` of the contract."""
        return {
            "name": self.name,
            "deployment_id": self.deployment_id,
            "manifest_digest": self.manifest_digest,
            "drift": [drift.document() for drift in self.drift],
            "serving": self.serving,
            "gpus": [gpu.document() for gpu in self.snapshot.gpus] if self.snapshot else [],
            "endpoint": self.endpoint.document() if self.endpoint else None,
            "accepted": self.accepted,
            "trusts": self.trusts,
            "profile": self.deployment.profile if self.deployment else None,
            "llm": self.deployment.llm if self.deployment else None,
            "runtime": self.deployment.runtime if self.deployment else None,
            "context_tokens": self.deployment.context_tokens if self.deployment else None,
            "left": self.left.document() if self.left else None,
            "disk": self._disk(),
            "against": self._against(),
            "error": self.error.document() if self.error else None,
        }

    def _disk(self) -> dict[str, Any] | None:
        """Give bytes: all of ours there, what serves, and what the former releases take together and each alone."""
        if self.disk is None:
            return None
        present, former, own = self.disk.shares(self.deployment_id)
        releases = [{"id": release, "bytes": size} for release, size in own.items()]
        return {"bytes": self.disk.total, "present_bytes": present, "former_bytes": former, "former": releases}

    def _against(self) -> dict[str, Any] | None:
        if self.against is None:
            return None
        return {"host": self.against, "differences": [one.document() for one in self.differences]}
