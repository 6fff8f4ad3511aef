"""``agents``: which agents a host has, and what one needs who starts an agent himself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.line.accept import endpoint
from orchestrator.line.status import served_lock
from orchestrator.render.agents import FOLDER, agent_files, parts_of_agent
from orchestrator.render.agents.shared import NO_MAKER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.catalog.rows import AgentRow
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports
    from orchestrator.lockfile import HostLock, Lock
    from orchestrator.rendered import RenderedFile


@dataclass(frozen=True, slots=True)
class HostAgent:
    """One agent of one host, as its lock has it; ``installed`` where the host's manifest names its command."""

    host: str
    row: AgentRow
    version: str
    installed: bool
    window_tokens: int
    output_tokens: int

    def document(self) -> dict[str, Any]:
        """Give one element of ``agents[]`` of the contract."""
        return {
            "name": self.row.name,
            "title": self.row.title,
            "host": self.host,
            "version": self.version,
            "installed": self.installed,
            "command": self.row.command,
            "wire": self.row.wire,
            "window_tokens": self.window_tokens,
            "output_tokens": self.output_tokens,
        }


def listed(hosts: Sequence[Host], lock: Lock | None, ports: Ports) -> tuple[HostAgent, ...]:
    """Give every agent of some hosts."""
    return tuple(one for host in hosts for one in _of(host, lock, ports))


def _of(host: Host, lock: Lock | None, ports: Ports) -> list[HostAgent]:
    locked, manifest = served_lock(host, lock, ports), ports.state_of(host).manifest()
    if locked is None:
        return []
    known, there = lock.by_id() if lock else {}, {link.target for link in manifest.links} if manifest else set()
    deployment = locked.applied
    rows = [ports.catalog.agents[name] for name in deployment.agents if name in ports.catalog.agents]
    return [
        HostAgent(
            host=host.name,
            row=row,
            version=known[locked.links[row.name]].version if locked.links.get(row.name) in known else row.version,
            installed=any(target.endswith(f"/{FOLDER}/{row.name}/{row.command}") for target in there),
            window_tokens=deployment.context_tokens,
            output_tokens=deployment.output_tokens,
        )
        for row in rows
    ]


def files(host: Host, name: str, lock: Lock | None, ports: Ports) -> tuple[RenderedFile, ...]:
    """Give the settings of one agent of a host, as they lie there; raises UsageError for one that it has not."""
    deployment, row = _locked(host, name, lock, ports).applied, ports.catalog.agents[name]
    own = f"{FOLDER}/{name}/"
    rendered = agent_files(deployment, ports.catalog)
    return tuple(file for file in rendered if file.path.startswith(own) and file.path != own + row.command)


def variables(host: Host, name: str, lock: Lock | None, ports: Ports) -> dict[str, str]:
    """Give the environment for one who starts an agent of his own: each value as a word of sh, no token in it.

    Raises UsageError for an agent that the host has not.
    """
    locked = _locked(host, name, lock, ports)
    deployment, row = locked.applied, ports.catalog.agents[name]
    parts, reached = parts_of_agent(row, deployment, ports.catalog), endpoint(host, deployment, ports)
    address = reached.openai if row.wire == "openai" else str(reached.anthropic)
    named = {"openai": "OPENAI_API_BASE", "anthropic": "ANTHROPIC_BASE_URL"}[row.wire]
    # What closes the way out around one program would close it for all of a shell.
    own = {
        key: value
        for key, value in parts.environment.items()
        if "$" not in value and "/current/" not in value and key not in NO_MAKER
    }
    words = {key: "'" + value.replace("'", "'\\''") + "'" for key, value in {**own, named: address}.items()}
    token = str(reached.token_file).replace("'", "'\\''")
    return {parts.token_variable: f"\"$(cat '{token}')\"", **dict(sorted(words.items()))}


def _locked(host: Host, name: str, lock: Lock | None, ports: Ports) -> HostLock:
    locked = served_lock(host, lock, ports)
    if locked is None:
        raise UsageError("nothing of ours is known to run there", where=host.name, do="bring it up first: deploy up")
    if name not in locked.applied.agents or name not in ports.catalog.agents:
        there = ", ".join(locked.applied.agents)
        raise UsageError(
            f"{host.name} has no agent {name}",
            where=locked.deployment.profile,
            do=f"choose among {there}" if there else "name it under agents in the profile",
        )
    return locked
