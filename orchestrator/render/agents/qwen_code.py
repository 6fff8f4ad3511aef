"""Qwen Code: one file of settings that goes before the caller's own and a repository's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.render.agents.shared import (
    NO_MAKER,
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

NAME = "qwen_code"
SETTINGS = "settings.json"
TOKEN = "OPENAI_API_KEY"  # noqa: S105 - a variable's name
RETRIES = 2
#: What it is given to work with: all else is not told to the llm.
TOOLS = ("read_file", "write_file", "edit", "glob", "grep_search", "list_directory", "todo_write")
#: Edits in the tree alone, without asking; a person is asked for any other, and where there is none it is refused.
ALLOWED = ("Edit(./**)",)
SHELL = "run_shell_command"
#: Denied by name: what runs commands, asks the web, starts others, or fills the window with what is never used here.
DENIED = (
    *(SHELL, "web_fetch", "web_search", "agent", "skill", "save_memory", "exit_plan_mode"),
    *("create_goal", "get_goal", "update_goal", "list_agents", "send_message", "task_stop", "tool_call", "tool_search"),
    *("enter_worktree", "exit_worktree", "notebook_edit", "record_artifact", "report_findings"),
)


def build(deployment: Deployment, catalog: Catalog) -> AgentParts:
    """Give how Qwen Code is started for a deployment."""
    llm, sampling = deployment.served_name, sampling_of(deployment, catalog)
    denied = [name for name in DENIED if name != SHELL or not granted(deployment)]
    generation: dict[str, Any] = {
        "timeout": PATIENCE_SECONDS * 1000,
        "maxRetries": RETRIES,
        "contextWindowSize": deployment.context_tokens,
        "enableCacheControl": False,
        "samplingParams": {**sampling, "max_tokens": deployment.output_tokens},
    }
    values: dict[str, Any] = {
        "$version": 3,
        "general": {"enableAutoUpdate": False, "gitCoAuthor": False, "checkpointing": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "security": {"auth": {"selectedType": "openai", "enforcedType": "openai"}, "folderTrust": {"enabled": False}},
        "model": {"name": llm, "generationConfig": generation},
        "fastModel": llm,
        "modelProviders": {
            "openai": [
                {
                    "id": llm,
                    "name": llm,
                    "baseUrl": address(deployment),
                    "envKey": TOKEN,
                    "generationConfig": generation,
                }
            ]
        },
        "memory": {"enableManagedAutoMemory": False, "enableManagedAutoDream": False, "enableAutoSkill": False},
        "skills": {"disabledLevels": ["project", "user", "extension", "bundled"]},
        "permissions": {"allow": [*ALLOWED, *(f"{SHELL}({one})" for one in granted(deployment))], "deny": denied},
        "tools": {
            "approvalMode": "default",
            "core": [*TOOLS, *((SHELL,) if granted(deployment) else ())],
            "disabled": denied,
            "toolSearch": {"enabled": False},
            "useRipgrep": False,
        },
        "mcp": {"allowed": []},
        "mcpServers": {},
        "context": {"autoCompactThreshold": compacts_at(deployment)},
        "disableAllHooks": True,
    }
    return AgentParts(
        program=(
            # The list of extensions takes every word up to the next option: what the caller says must not follow it.
            *(artefact(NAME, "bin/node"), artefact(NAME, "bin/qwen"), "--extensions", "none"),
            *("--auth-type", "openai", "--model", llm, "--openai-base-url", address(deployment)),
            *("--approval-mode", "default"),
        ),
        files=(settings(NAME, SETTINGS, values),),
        token_variable=TOKEN,
        environment={
            "QWEN_CODE_SYSTEM_SETTINGS_PATH": here(NAME, SETTINGS),
            # His own settings and sessions stay where they are.
            "QWEN_HOME": "$state/",
            "NODE_USE_ENV_PROXY": "1",
            "NODE_NO_WARNINGS": "1",
        },
        closed=NO_MAKER,
    )


def compacts_at(deployment: Deployment) -> float:
    """Give the share of the window at which it sums up what was said: where just one answer is left."""
    return round(1 - deployment.output_tokens / deployment.context_tokens, 2)
