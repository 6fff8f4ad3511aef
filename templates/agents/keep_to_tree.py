#!/usr/bin/python3 -I
"""Cline asks this before it uses a tool (its hook PreToolUse): it may read and write in its tree, and nothing else.

The event is JSON on standard input, the answer JSON on standard output. What cannot be read is refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TOOLS = {"read_files", "search_codebase", "editor"}
#: Below these a change would be run by others: hooks of the repository, and Cline's own rules.
KEPT = {".git", ".cline", ".clinerules"}


def refused(event: dict) -> str | None:  # type: ignore[type-arg]
    """Give why a tool may not be used, None where it may."""
    call = event["preToolUse"]
    name, parameters = call["toolName"], call["parameters"]
    roots = [Path(root).resolve() for root in event["workspaceRoots"]]
    if name not in TOOLS:
        return f"{name} is not granted here"
    for path in paths_of(parameters):
        place = (roots[0] / path).resolve()
        root = next((root for root in roots if place.is_relative_to(root)), None)
        if root is None:
            return f"{path} lies outside the tree"
        if name == "editor" and KEPT & set(place.relative_to(root).parts[:1]):
            return f"{path} is not an agent's to write"
    return None


def paths_of(value: object, key: str = "") -> list[str]:
    """Give every path that a call names, at any depth."""
    if isinstance(value, dict):
        return [path for inner, each in value.items() for path in paths_of(each, inner)]
    if isinstance(value, list):
        return [path for each in value for path in paths_of(each, key)]
    return [str(value)] if "path" in key.lower() or key.lower() in {"file", "files"} else []


def answer(text: str) -> dict:  # type: ignore[type-arg]
    """Give what Cline is told: a call without its input fails, and the llm reads why; a strange one stops the run."""
    try:
        event = json.loads(text)
        reason, known = refused(event), event["preToolUse"]["toolName"] in TOOLS
    except Exception as error:  # noqa: BLE001 - whatever is not understood is refused
        return {"cancel": True, "errorMessage": f"the call cannot be read: {error!r}"}
    if reason and not known:
        return {"cancel": True, "errorMessage": reason}
    return {"overrideInput": {}, "context": reason} if reason else {}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(sys.stdin.read())) + "\n")
