"""What is rendered for each agent, for one decision: its settings and its command.

``python -m tests.golden.agents`` writes ``agents.json`` anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from orchestrator.catalog.loader import load, profile
from orchestrator.plan import plan
from orchestrator.render.agents import BUILDERS, agent_files
from orchestrator.snapshot import HostSnapshot
from tests.golden.cases import SNAPSHOTS

KEPT = Path(__file__).with_suffix(".json")


def table() -> dict[str, dict[str, list[str]]]:
    """Give agent -> path -> the lines of the file."""
    catalog = load()
    snapshot = HostSnapshot.from_json((SNAPSHOTS / "debian12_16cpu_64gib_2x_rtx3090.json").read_text(encoding="utf-8"))
    decided = plan(snapshot, profile(catalog, "dual-3090").model_copy(update={"agents": ()}), catalog)
    found = {}
    for agent in sorted(BUILDERS):
        files = agent_files(decided.model_copy(update={"agents": (agent,)}), catalog)
        found[agent] = {file.path: file.content.splitlines() for file in files if "/tokens/" not in file.path}
    return found


if __name__ == "__main__":
    KEPT.write_text(json.dumps(table(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{KEPT.name}\n")
