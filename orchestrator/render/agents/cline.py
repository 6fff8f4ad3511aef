"""Cline's command line: two files of settings, named by the environment, and a hook that keeps it to its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.render.agents.shared import (
    FOLDER,
    NO_MAKER,
    PATIENCE_SECONDS,
    AgentParts,
    address,
    artefact,
    here,
    settings,
)
from orchestrator.render.texts import verbatim
from orchestrator.rendered import RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment

NAME = "cline"
PROVIDER = "openai-compatible"
PROVIDERS, SETTINGS, HOOKS = "providers.json", "global-settings.json", "hooks"
#: It writes the day beside each provider that it is given; a rendering has no day of its own.
SINCE = "2026-01-01T00:00:00.000Z"
#: What is taken from it, by the names that its first request gave them: what is left reads, searches and edits.
TEAM = (
    *("attach_outcome_fragment", "await_runs", "broadcast", "cancel_run", "cleanup", "create_outcome"),
    *("finalize_outcome", "list_outcomes", "list_runs", "mission_log", "read_mailbox", "review_outcome_fragment"),
    *("run_task", "send_message", "shutdown_teammate", "spawn_teammate", "status", "task"),
)
DENIED = (
    *("apply_patch", "ask_question", "fetch_web_content", "run_commands", "skills", "spawn_agent", "web_search"),
    *(f"team_{name}" for name in TEAM),
)


def build(deployment: Deployment, catalog: Catalog) -> AgentParts:  # noqa: ARG001 - builders share one form
    """Give how Cline is started for a deployment."""
    llm = deployment.served_name
    provider = {
        "provider": PROVIDER,
        "model": llm,
        "baseUrl": address(deployment),
        "contextWindow": deployment.context_tokens,
        "timeout": PATIENCE_SECONDS * 1000,
    }
    known = {"settings": provider, "updatedAt": SINCE, "tokenSource": "manual"}
    providers = {"version": 1, "lastUsedProvider": PROVIDER, "modes": {}, "providers": {PROVIDER: known}}
    values: dict[str, Any] = {
        "telemetryOptOut": True,
        "autoUpdateEnabled": False,
        "compactionEnabled": True,
        "compactionStrategy": "agentic",
        "toolAutoApprove": True,
        "tools": {"web_search": {"enabled": False}},
        "disabledTools": list(DENIED),
    }
    hook = RenderedFile(
        path=f"{FOLDER}/{NAME}/{HOOKS}/PreToolUse", content=verbatim("agents/keep_to_tree.py"), mode="0755"
    )
    return AgentParts(
        program=(artefact(NAME, "bin/cline"), "--provider", PROVIDER, "--model", llm),
        files=(settings(NAME, PROVIDERS, providers), settings(NAME, SETTINGS, values), hook),
        token_variable="OPENAI_API_KEY",  # noqa: S106 - a variable's name
        environment={
            # His own settings and sessions stay where they are.
            "CLINE_DIR": "$state/",
            "CLINE_GLOBAL_SETTINGS_PATH": here(NAME, SETTINGS),
            "CLINE_PROVIDER_SETTINGS_PATH": here(NAME, PROVIDERS),
            "CLINE_NO_AUTO_UPDATE": "1",
            # Else a daemon of its own outlives it.
            "CLINE_SESSION_BACKEND_MODE": "local",
        },
        # No setting of its own ends its one call to data.cline.bot.
        closed=NO_MAKER,
        links={HOOKS: here(NAME, HOOKS)},
    )
