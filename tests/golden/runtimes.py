"""How every profile would be served by each runtime: the command line, or why that runtime is not for it.

``python -m tests.golden.runtimes`` writes ``runtimes.json`` anew.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from orchestrator.catalog.loader import load
from orchestrator.errors import AgentrigError
from orchestrator.plan import plan
from orchestrator.render import render
from orchestrator.render.runtimes import BUILDERS, parts_of
from tests.unit.planning import machine_of

KEPT = Path(__file__).with_suffix(".json")


def table() -> dict[str, dict[str, Any]]:
    """Give profile -> runtime -> how it is started there, or one sentence."""
    catalog = load()
    names = sorted(name for name, profile in catalog.profiles.items() if profile.use != "external")
    return {name: {runtime: _served(name, runtime) for runtime in sorted(BUILDERS)} for name in names}


def _served(name: str, runtime: str) -> Any:
    catalog = load()
    profile = catalog.profiles[name]
    try:
        deployment = plan(machine_of(name), profile, catalog, runtime=runtime)
        rendered = render(deployment, catalog)
    except AgentrigError as error:
        return error.what
    parts = parts_of(deployment, catalog)
    told = [file.path for file in rendered.files if file.path.startswith("runtime/")]
    return {
        "llm": f"{deployment.llm} {deployment.quant}",
        "argv": shlex.join(parts.argv),
        "environment": shlex.join(f"{key}={value}" for key, value in sorted(parts.environment.items())),
        "files": told,
    }


if __name__ == "__main__":
    KEPT.write_text(json.dumps(table(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{KEPT.name}\n")
