"""How each agent's own program is asked what it reads of its settings, offline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab.alone.cases import CASES
from tests.lab.alone.stage import ANSWER, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Parser:
    """What is asked; what is wrong with the answer; and how its settings are spoiled, which must be found."""

    question: dict[str, Any]
    faults: Callable[[dict[str, Any]], list[str]]
    file: str
    spoil: Callable[[str], str]


def _doctor(outcome: dict[str, Any]) -> list[str]:
    """Read what Claude Code's doctor says of its settings; its exit code is always 0."""
    said: str = outcome["said"]
    if "Claude Code doctor" not in said:
        return [f"it did not run: {said}"]
    _, invalid, rest = said.partition("Invalid settings")
    return [line for line in rest.split("\n\n")[0].splitlines() if line.startswith("-")] if invalid else []


def _changed(*path: str, value: object) -> Callable[[str], str]:
    """Give what sets one value of a JSON file to another."""

    def spoil(text: str) -> str:
        document = json.loads(text)
        inner = document
        for key in path[:-1]:
            inner = inner[int(key) if isinstance(inner, list) else key]
        inner[path[-1]] = value
        return json.dumps(document)

    return spoil


def _cline(outcome: dict[str, Any]) -> list[str]:
    """Read what Cline took of its settings: it says nothing of a wrong value and takes its own instead."""
    body = next((one["body"] for one in outcome["requests"] if one["body"].get("tools")), {"tools": []})
    tools = tuple(sorted(tool["function"]["name"] for tool in body["tools"]))
    window = f'"info":{{"contextWindow":{WINDOW},'
    faults = [] if tools == CASES["cline"].tools else [f"it has other tools: {', '.join(tools)}"]
    return faults if window in outcome["said"] else [*faults, "it knows another window"]


def _continue(outcome: dict[str, Any]) -> list[str]:
    """Read whether cn took its settings: it holds them against its own schema and asks nothing where they are wrong."""
    caps = {one["body"].get("max_tokens") for one in outcome["requests"] if "messages" in one["body"]}
    return [] if caps == {ANSWER} else [f"it asked for {caps or 'nothing'}: {outcome['said'][-300:]}"]


def _qwen(outcome: dict[str, Any]) -> list[str]:
    """Read what Qwen Code took of its settings: it says nothing of a wrong key, so what it asks for tells."""
    bodies = [one["body"] for one in outcome["requests"] if one["body"].get("tools")]
    tools = {tuple(sorted(tool["function"]["name"] for tool in body["tools"])) for body in bodies}
    caps = {body.get("max_tokens") for body in bodies}
    faults = [] if tools == {CASES["qwen_code"].tools} else [f"it has other tools: {tools}"]
    return faults if caps == {ANSWER} else [*faults, f"it asks for answers of {caps}"]


PARSERS = {
    "qwen_code": Parser({}, _qwen, "settings.json", lambda text: text.replace("max_tokens", "max_token")),
    "continue": Parser(
        {},
        _continue,
        "config.yaml",
        _changed("models", "0", "defaultCompletionOptions", "contextLength", value="many"),
    ),
    "cline": Parser({}, _cline, "global-settings.json", lambda text: text.replace("disabledTools", "deniedTools")),
    "claude_code": Parser(
        {"command": ["doctor"]}, _doctor, "settings.json", _changed("permissions", "defaultMode", value="perhaps")
    ),
}
