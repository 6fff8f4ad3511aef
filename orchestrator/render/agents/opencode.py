"""OpenCode: one file of settings; what it may do and what it may ask of the internet is said there and around it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.render.agents.shared import (
    CLOSED,
    PATIENCE_SECONDS,
    AgentParts,
    address,
    artefact,
    granted,
    here,
    sampling_of,
    settings,
)

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment

NAME = "opencode"
SETTINGS = "opencode.json"
TOKEN = "AGENTRIG_TOKEN"  # noqa: S105 - a variable's name
PROVIDER = "local"

#: Read and write in the tree, and nothing else: no shell, no web, nothing outside. The last pattern that matches holds.
PERMISSION: dict[str, Any] = {
    "*": "deny",
    "read": "allow",
    "edit": "allow",
    "glob": "allow",
    "grep": "allow",
    "list": "allow",
    "todowrite": "allow",
    "bash": {"*": "deny"},
    "external_directory": "deny",
    "task": "deny",
    "webfetch": "deny",
}


def permission(commands: tuple[str, ...]) -> dict[str, Any]:
    """Give what it may do; of the shell the commands that were granted, and nothing else."""
    return PERMISSION | {"bash": {"*": "deny", **dict.fromkeys(commands, "allow")}}


def build(deployment: Deployment, catalog: Catalog) -> AgentParts:
    """Give how OpenCode is started for a deployment."""
    llm = deployment.served_name
    sampling = sampling_of(deployment, catalog)
    values: dict[str, Any] = {
        "model": f"{PROVIDER}/{llm}",
        "small_model": f"{PROVIDER}/{llm}",
        "enabled_providers": [PROVIDER],
        "provider": {
            PROVIDER: {
                "npm": "@ai-sdk/openai-compatible",
                "name": "the llm of this host",
                "options": {
                    "baseURL": address(deployment),
                    "apiKey": f"{{env:{TOKEN}}}",
                    "timeout": PATIENCE_SECONDS * 1000,
                },
                "models": {
                    llm: {
                        "name": llm,
                        "tool_call": True,
                        "temperature": True,
                        "limit": {"context": deployment.context_tokens, "output": deployment.output_tokens},
                    }
                },
            }
        },
        "permission": permission(granted(deployment)),
        "compaction": {"auto": True, "prune": True},
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "lsp": False,
        "formatter": False,
        "plugin": [],
        "mcp": {},
    }
    if "temperature" in sampling:
        values["agent"] = {"build": {"temperature": sampling["temperature"]}}
    return AgentParts(
        program=(artefact(NAME, "bin/opencode"),),
        files=(settings(NAME, SETTINGS, values),),
        token_variable=TOKEN,
        environment={
            "OPENCODE_CONFIG": here(NAME, SETTINGS),
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            # A repository's own settings go before ours (opencode.ai/docs/config): another address, commands, plugins.
            "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
            "OPENCODE_DISABLE_SHARE": "1",
            # Over what a repository's own settings allow.
            "OPENCODE_PERMISSION": json.dumps(permission(granted(deployment))),
            # It asks npm for a package of its own at the start, and goes on where nobody answers.
            "npm_config_registry": CLOSED,
        },
    )
