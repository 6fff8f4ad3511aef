"""Claude Code: one file of settings and the environment around it; it speaks Anthropic's form, through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.render.agents.shared import (
    PATIENCE_SECONDS,
    AgentParts,
    address,
    artefact,
    granted,
    here,
    settings,
)

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment

NAME = "claude_code"
SETTINGS = "settings.json"
RETRIES = 2
#: What it is given to work with: the prompt of each tool that it is not given stays out of the window.
TOOLS = ("Read", "Edit", "Write", "Glob", "Grep")
#: Read and write in the tree, and nothing else: no shell, no web, no tasks, no servers of others.
ALLOWED = ("Read(./**)", "Edit(./**)", "Glob", "Grep")
DENIED = ("WebFetch", "WebSearch", "Task", "mcp__*", "Read(./.env)")
SHELL = "Bash"
#: Each documented way to keep it silent (code.claude.com/docs/en/env-vars).
SILENT = {
    "CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_GROWTHBOOK": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_UPDATES": "1",
    "DO_NOT_TRACK": "1",
}


def build(deployment: Deployment, catalog: Catalog) -> AgentParts:  # noqa: ARG001 - builders share one form
    """Give how Claude Code is started for a deployment."""
    environment = {**SILENT, **told(deployment)}
    values = {
        "env": environment,
        "permissions": permissions(granted(deployment)),
        "attribution": {"commit": "", "pr": ""},
        "enableAllProjectMcpServers": False,
    }
    return AgentParts(
        # A file that it finds wrong is left aside, denials and all: what it may do is said in the command too.
        program=(
            *(artefact(NAME, "bin/claude"), "--settings", here(NAME, SETTINGS)),
            # A repository's own settings may name another address and commands to run.
            # The list of tools takes every word up to the next option: what the caller says must not follow it.
            *(
                "--tools",
                ",".join((*TOOLS, *((SHELL,) if granted(deployment) else ()))),
                "--restricted",
                "--strict-mcp-config",
            ),
        ),
        files=(settings(NAME, SETTINGS, values),),
        token_variable="ANTHROPIC_AUTH_TOKEN",  # noqa: S106 - a variable's name
        environment={
            **environment,
            # His own settings, history and account stay where they are.
            "CLAUDE_CONFIG_DIR": "$state/",
        },
    )


def permissions(commands: tuple[str, ...]) -> dict[str, Any]:
    """Give what it may do; of the shell the commands that were granted, word for word, and nothing else."""
    return {
        "defaultMode": "dontAsk",
        "allow": [*ALLOWED, *(f"{SHELL}({command})" for command in commands)],
        "deny": [*(() if commands else (SHELL,)), *DENIED],
        "disableBypassPermissionsMode": "disable",
    }


def told(deployment: Deployment) -> dict[str, str]:
    """Give what it is told of the endpoint, the llm and the window."""
    llm, window = deployment.served_name, deployment.context_tokens
    return {
        "ANTHROPIC_BASE_URL": address(deployment).removesuffix("/v1"),
        "ANTHROPIC_MODEL": llm,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": llm,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": llm,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": llm,
        "CLAUDE_CODE_SUBAGENT_MODEL": llm,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(window),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(deployment.output_tokens),
        "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE": str(100 * (window - deployment.output_tokens) // window),
        "MAX_THINKING_TOKENS": "0",
        "API_TIMEOUT_MS": str(PATIENCE_SECONDS * 1000),
        # Else a stream that is silent for five minutes is given up: a long prompt may take longer to read.
        "API_FORCE_IDLE_TIMEOUT": "0",
        "CLAUDE_ENABLE_STREAM_WATCHDOG": "0",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "DISABLE_PROMPT_CACHING": "1",
        # Else the head of every prompt changes from turn to turn, and the runtime reads all of it anew.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    }
