"""What the builders of agents give, and what they share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.render.gateway import SILENCE_SECONDS
from orchestrator.render.texts import filled
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import AgentRow, Catalog
    from orchestrator.deployment import Deployment

#: Where the agents' files lie in a release, and where people find the commands.
FOLDER = "agents"
TOKENS = f"{FOLDER}/tokens"
BIN = "/usr/local/bin"
#: A port of the host itself that nobody listens on (discard, RFC 863): for what an agent would ask of the internet.
CLOSED = "http://127.0.0.1:9/"
#: For an agent that calls its maker whatever it is told: no name is asked for, and nobody answers at once.
NO_MAKER = {"HTTPS_PROXY": CLOSED, "https_proxy": CLOSED, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
#: Seconds that an agent waits for the first word of an answer: as long as the gateway does.
PATIENCE_SECONDS = SILENCE_SECONDS


@dataclass(frozen=True, slots=True)
class AgentParts:
    """How one agent is started: its program, its settings, and the environment around it.

    ``token_variable`` names the variable that bears the caller's token. Values of ``environment`` are words of sh in
    double quotes, where ``$state`` and ``$cache`` are the caller's own folders. ``links`` are names in ``$state`` that
    lead to where they say, for what an agent looks for in its own folder and nowhere else.
    """

    program: tuple[str, ...]
    files: tuple[RenderedFile, ...]
    token_variable: str
    environment: dict[str, str]
    #: More of its environment, which closes the way out: for the program alone, never for a person's shell.
    closed: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def here(agent: str, name: str) -> str:
    """Give the path on the host of one of an agent's files."""
    return f"{CURRENT}/{FOLDER}/{agent}/{name}"


def artefact(agent: str, path: str) -> str:
    """Give the path on the host of what an agent's artefact holds."""
    return f"{CURRENT}/artefacts/{agent}/{path}"


def address(deployment: Deployment) -> str:
    """Give the gateway's address in the OpenAI form."""
    return f"http://{deployment.gateway_address}:{deployment.gateway_port}/v1"


def granted(deployment: Deployment) -> tuple[str, ...]:
    """Give the command lines that an agent may run: the project's own, in a sandbox; on the host itself none."""
    return deployment.sandbox.commands if deployment.sandbox else ()


def sampling_of(deployment: Deployment, catalog: Catalog) -> dict[str, float]:
    """Give how the llm is best sampled, as its row says; nothing for an llm that the catalog does not know."""
    row = catalog.llms.get(deployment.llm)
    return row.sampling if row else {}


def settings(agent: str, name: str, values: Any) -> RenderedFile:
    """Give a file of settings, dumped from values; JSON is YAML too."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return RenderedFile(path=f"{FOLDER}/{agent}/{name}", content=text)


def wrapper(row: AgentRow, parts: AgentParts) -> RenderedFile:
    """Give the command that people start: it puts token and settings around the program."""
    content = filled(
        "agents/wrapper.sh.j2",
        title=row.title,
        agent=row.name,
        command=row.command,
        tokens=f"{CURRENT}/{TOKENS}",
        token_variable=parts.token_variable,
        environment=[
            (name, in_double_quotes(value)) for name, value in sorted((parts.environment | parts.closed).items())
        ],
        links=sorted(parts.links.items()),
        program=" ".join(parts.program),
    )
    return RenderedFile(path=f"{FOLDER}/{row.name}/{row.command}", content=content, mode="0755")


def in_double_quotes(value: str) -> str:
    """Give a word of sh in which ``$state`` and ``$cache`` are filled in and nothing else is."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$", "\\$")
    for own in ("state", "cache"):
        escaped = escaped.replace(f"\\${own}/", f"${own}/")
    return f'"{escaped}"'
