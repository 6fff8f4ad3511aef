"""Aider: one file of options, one of settings and one of sizes for the llm; it sends text and gets text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from orchestrator.render.agents.shared import (
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

NAME = "aider"
OPTIONS, SETTINGS, SIZES = "aider.conf.yml", "settings.yml", "sizes.json"
#: Tokens of the map of the repository that goes into every request: Aider's own default, but for a short window.
MAP_TOKENS, MAP_SHARE = 1024, 16


def build(deployment: Deployment, catalog: Catalog) -> AgentParts:
    """Give how Aider is started for a deployment."""
    llm = f"openai/{deployment.served_name}"
    sampling = sampling_of(deployment, catalog)
    options = {
        "model": llm,
        "weak-model": llm,
        "editor-model": llm,
        "openai-api-base": address(deployment),
        "model-settings-file": here(NAME, SETTINGS),
        "model-metadata-file": here(NAME, SIZES),
        "timeout": PATIENCE_SECONDS,
        "map-tokens": min(MAP_TOKENS, deployment.context_tokens // MAP_SHARE),
        "analytics": False,
        "analytics-disable": True,
        "check-update": False,
        "show-release-notes": False,
        "show-model-warnings": False,
        "detect-urls": False,
        "disable-playwright": True,
        "suggest-shell-commands": False,
        "gitignore": False,
    }
    about = {
        "name": llm,
        "edit_format": "diff",
        "weak_model_name": llm,
        "editor_model_name": llm,
        "use_repo_map": True,
        "use_temperature": sampling.get("temperature", True),
        "extra_params": {"max_tokens": deployment.output_tokens},
    }
    sizes = {
        llm: {
            "max_input_tokens": deployment.context_tokens,
            "max_output_tokens": deployment.output_tokens,
            "max_tokens": deployment.output_tokens,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "litellm_provider": "openai",
            "mode": "chat",
        }
    }
    return AgentParts(
        # What stands in the command goes before a repository's own settings and its .env.
        program=(
            *(artefact(NAME, "bin/aider"), "--config", here(NAME, OPTIONS)),
            *("--openai-api-base", address(deployment), "--no-auto-lint", *tests(deployment)),
        ),
        files=(settings(NAME, OPTIONS, options), settings(NAME, SETTINGS, [about]), settings(NAME, SIZES, sizes)),
        token_variable="OPENAI_API_KEY",  # noqa: S106 - a variable's name
        environment={
            "AIDER_CHAT_HISTORY_FILE": "$state/chat.md",
            "AIDER_INPUT_HISTORY_FILE": "$state/input",
            # Without it a table of prices is asked of the internet at every start.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            # The tree in the store is nobody's to write to, root's neither: its digest is declared.
            "PYTHONPYCACHEPREFIX": "$cache/bytecode",
        },
    )


def tests(deployment: Deployment) -> tuple[str, ...]:
    """Give the options by which it runs the project's commands after each edit, one after the other, and reads them."""
    commands = granted(deployment)
    return ("--auto-test", "--test-cmd", shlex.quote(" && ".join(commands))) if commands else ("--no-auto-test",)
