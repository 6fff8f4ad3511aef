"""How each agent's own program is asked what it reads of its settings, offline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


PARSERS = {
    "claude_code": Parser(
        {"command": ["doctor"]}, _doctor, "settings.json", _changed("permissions", "defaultMode", value="perhaps")
    ),
}
