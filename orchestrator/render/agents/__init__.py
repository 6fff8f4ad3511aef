"""One builder for each agent: a new agent is a row, a builder, a golden case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.people import AGENT_USER, clients_of
from orchestrator.render.agents import aider, claude_code, cline, continue_cli, opencode, qwen_code
from orchestrator.render.agents.shared import BIN, FOLDER, TOKENS, wrapper
from orchestrator.rendered import CURRENT, RenderedFile, RenderedLink, RenderedUser

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.catalog.rows import AgentRow, Catalog
    from orchestrator.deployment import Deployment
    from orchestrator.render.agents.shared import AgentParts

__all__ = ["FOLDER", "agent_files", "agent_links", "agent_packages", "agent_users", "parts_of_agent"]

BUILDERS: dict[str, Callable[[Deployment, Catalog], AgentParts]] = {
    "aider": aider.build,
    "claude_code": claude_code.build,
    "cline": cline.build,
    "continue": continue_cli.build,
    "opencode": opencode.build,
    "qwen_code": qwen_code.build,
}


def agent_files(deployment: Deployment, catalog: Catalog, *, walled: bool = False) -> tuple[RenderedFile, ...]:
    """Give the settings and the command of every agent, and a file with his token for everybody who has one.

    ``walled``: as they are in a sandbox, where an agent may run the project's own commands. Raises UsageError for an
    agent that no builder knows.
    """
    files: list[RenderedFile] = []
    for row in rows_of(deployment, catalog):
        parts = parts_of_agent(row, deployment, catalog, walled=walled)
        files += [*parts.files, wrapper(row, parts)]
    files += [
        RenderedFile(
            path=f"{TOKENS}/{client.slug}",
            content=f"{{{{secret:{client.secret}}}}}\n",
            mode="0400",
            owner=client.account,
        )
        for client in clients_of(deployment)
    ]
    return tuple(files)


def agent_links(deployment: Deployment, catalog: Catalog) -> tuple[RenderedLink, ...]:
    """Give the links by which people of the host find the commands."""
    return tuple(
        RenderedLink(path=f"{BIN}/{row.command}", target=f"{CURRENT}/{FOLDER}/{row.name}/{row.command}")
        for row in rows_of(deployment, catalog)
    )


def agent_users(deployment: Deployment) -> tuple[RenderedUser, ...]:
    """Give the system user that agents are tried as, where there is an agent."""
    return (RenderedUser(name=AGENT_USER),) if deployment.agents else ()


def agent_packages(deployment: Deployment, catalog: Catalog) -> set[str]:
    """Give the apt packages that the agents need."""
    rows = rows_of(deployment, catalog)
    venv = {"python3-venv"} if any(row.install.kind == "venv" for row in rows) else set()
    return venv.union(*(row.install.packages for row in rows))


def rows_of(deployment: Deployment, catalog: Catalog) -> tuple[AgentRow, ...]:
    """Give the rows of a deployment's agents; raises UsageError for one that has none."""
    for name in deployment.agents:
        if name not in catalog.agents or name not in BUILDERS:
            raise UsageError(
                f"nothing sets up the agent {name} yet",
                where=f"deployment of {deployment.host}",
                do="choose among " + ", ".join(sorted(BUILDERS)),
            )
    return tuple(catalog.agents[name] for name in deployment.agents)


def parts_of_agent(row: AgentRow, deployment: Deployment, catalog: Catalog, *, walled: bool = False) -> AgentParts:
    """Give how one agent is started; outside of a sandbox it is granted no command."""
    sandbox = deployment.sandbox
    if sandbox and not walled:
        deployment = deployment.model_copy(update={"sandbox": sandbox.model_copy(update={"commands": ()})})
    return BUILDERS[row.name](deployment, catalog)
