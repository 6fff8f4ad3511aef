"""Units: systemd's quoting, and the text of our two services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.render.runtimes.shared import CREDENTIALS
from orchestrator.render.texts import filled
from orchestrator.rendered import CURRENT, RenderedFile, RenderedLink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.deployment import Deployment
    from orchestrator.render.runtimes.shared import RuntimeParts

RUNTIME_UNIT = "agentrig-runtime.service"
GATEWAY_UNIT = "agentrig-gateway.service"
RUNTIME_USER = "agentrig-runtime"
GATEWAY_USER = "agentrig-gateway"

SECRET_ENVIRONMENT = "runtime/environment"  # noqa: S105 - a path, not a secret
SYSTEMD = "/etc/systemd/system"

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@+")


def quoted(word: str) -> str:
    """Give one word as systemd reads it back: specifiers and variables doubled, quotes where they are needed."""
    head, rest = (CREDENTIALS, word.removeprefix(CREDENTIALS)) if word.startswith(f"{CREDENTIALS}/") else ("", word)
    if rest and _SAFE.issuperset(rest):
        return head + rest
    escaped = rest.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    return f'"{head}{escaped}"'


def command_line(argv: Sequence[str]) -> str:
    """Give an argument list as ``ExecStart=`` takes it: a flag and its value a line."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("-"):
            lines.append([])
        lines[-1].append(quoted(word))
    return " \\\n    ".join(" ".join(line) for line in lines if line)


def assignment(name: str, value: str) -> str:
    """Give one ``Environment=`` word; variables are not expanded there, so ``$`` stays as it is."""
    return quoted(f"{name}={value}").replace("$$", "$")


def runtime_files(deployment: Deployment, parts: RuntimeParts) -> tuple[RenderedFile, ...]:
    """Give the runtime's unit, and the files with secrets that it is started with."""
    unit = filled(
        f"units/{RUNTIME_UNIT}.j2",
        deployment=deployment,
        user=RUNTIME_USER,
        exec_start=command_line(parts.argv),
        before=[" ".join(map(quoted, words)) for words in parts.before],
        after=[" ".join(map(quoted, words)) for words in parts.after],
        environment=[assignment(name, value) for name, value in sorted(parts.environment.items())],
        environment_file=f"{CURRENT}/{SECRET_ENVIRONMENT}" if parts.secret_environment else None,
        credentials={name: f"{CURRENT}/runtime/{name}" for name in sorted(parts.credentials)},
        parts=parts,
    )
    secrets = [
        RenderedFile(path=f"runtime/{name}", content=content, mode="0600")
        for name, content in sorted(parts.credentials.items())
    ]
    if parts.secret_environment:
        lines = "".join(f"{name}={value}\n" for name, value in sorted(parts.secret_environment.items()))
        secrets.append(RenderedFile(path=SECRET_ENVIRONMENT, content=lines, mode="0600"))
    return (RenderedFile(path=f"units/{RUNTIME_UNIT}", content=unit), *parts.files, *secrets)


def links_of(unit: str) -> tuple[RenderedLink, RenderedLink]:
    """Give the two links by which systemd finds a unit of ours, and starts it with the machine."""
    return (
        RenderedLink(path=f"{SYSTEMD}/{unit}", target=f"{CURRENT}/units/{unit}"),
        RenderedLink(path=f"{SYSTEMD}/multi-user.target.wants/{unit}", target=f"{SYSTEMD}/{unit}"),
    )
