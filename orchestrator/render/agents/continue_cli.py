"""Continue's command line (cn): one file of settings, and its permissions in the command that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.render.agents.shared import (
    CLOSED,
    NO_MAKER,
    PATIENCE_SECONDS,
    AgentParts,
    address,
    artefact,
    here,
    sampling_of,
    settings,
)

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment

NAME = "continue"
SETTINGS, HOOKS = "config.yaml", "settings.json"
TOKEN = "AGENTRIG_TOKEN"  # noqa: S105 - a variable's name
#: What it may use without asking. The tool that edits is MultiEdit or Edit, by the llm's name.
ALLOWED = ("Read", "List", "Search", "Edit", "MultiEdit", "Write", "Checklist")
#: What is taken from it: what runs commands, asks the web, asks a person who is not there, or is never used here.
EXCLUDED = ("Bash", "CheckBackgroundJob", "Fetch", "Skills", "AskQuestion", "Subagent", "UploadArtifact", "mcp__*")


def build(deployment: Deployment, catalog: Catalog) -> AgentParts:
    """Give how Continue is started for a deployment."""
    return AgentParts(
        program=(
            *(artefact(NAME, "bin/node"), artefact(NAME, "bin/cn"), "--config", here(NAME, SETTINGS)),
            *(word for tool in EXCLUDED for word in ("--exclude", f"'{tool}'")),
            *(word for tool in ALLOWED for word in ("--allow", tool)),
        ),
        files=(
            settings(NAME, SETTINGS, configuration(deployment, catalog)),
            # Else the hooks in a repository's own settings are run: commands that nobody was asked about.
            settings(NAME, HOOKS, {"disableAllHooks": True}),
        ),
        token_variable=TOKEN,
        environment={
            # His own settings, sessions and account stay where they are.
            "CONTINUE_GLOBAL_DIR": "$state/",
            "CONTINUE_API_BASE": CLOSED,
            "CONTINUE_CLI_AUTO_UPDATED": "1",
            "CONTINUE_CLI_ENABLE_TELEMETRY": "0",
            "CONTINUE_METRICS_ENABLED": "0",
            "NODE_USE_ENV_PROXY": "1",
            "NODE_NO_WARNINGS": "1",
        },
        # No setting of its own ends its call to api.continue.dev.
        closed=NO_MAKER,
        links={HOOKS: here(NAME, HOOKS)},
    )


def configuration(deployment: Deployment, catalog: Catalog) -> dict[str, Any]:
    """Give its file of settings, as the command and its extensions for editors read it."""
    llm, sampling = deployment.served_name, sampling_of(deployment, catalog)
    completion: dict[str, Any] = {
        "contextLength": deployment.context_tokens,
        "maxTokens": deployment.output_tokens,
        "stream": True,
    }
    if "temperature" in sampling:
        completion["temperature"] = sampling["temperature"]
    served = {
        "name": llm,
        "provider": "openai",
        "model": llm,
        "apiBase": address(deployment),
        "apiKey": f"${{{{ secrets.{TOKEN} }}}}",
        "roles": ["chat", "edit", "apply", "summarize"],
        "capabilities": ["tool_use"],
        "defaultCompletionOptions": completion,
        # Milliseconds to the one that asks, and seconds to the one that fetches, of which more is only more patience.
        "requestOptions": {"timeout": PATIENCE_SECONDS * 1000},
    }
    return {"name": "the llm of this host", "version": "1.0.0", "schema": "v1", "models": [served]}
