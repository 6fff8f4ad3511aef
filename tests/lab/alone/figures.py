"""``python -m tests.lab.alone.figures``: what was seen of each agent alone, written for the table in the reference."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.lab.alone.cases import CASES
from tests.lab.alone.stage import ANSWER, CATALOG, ROOT, alone, released, tree

KEPT = ROOT / "tests/fixtures/agents/alone.json"


def figures(agent: str) -> dict[str, Any]:
    """Run an agent's script once and give what was seen."""
    row, case = CATALOG.agents[agent], CASES[agent]
    folder = Path(tempfile.mkdtemp(prefix="agentrig-figures-"))
    try:
        found = alone(agent, released(agent, folder), case.turns)
    finally:
        shutil.rmtree(folder)
    asked = [one for one in found["requests"] if "messages" in one["body"]]
    caps = {one["body"].get("max_tokens") for one in asked}
    size = sum(path.lstat().st_size for path in tree(row).rglob("*") if path.is_file() and not path.is_symlink())
    return {
        "version": row.version,
        "licence": row.licence.partition(":")[0],
        "mib": round(size / 2**20),
        "first_request_tokens": asked[0]["characters"] // 4,
        "names": found["names"],
        "wrote_outside": "outside.txt" in found["outside"],
        "ran_a_shell": "shell.txt" in found["outside"],
        "asked_the_web": any("example.test" in name for name in found["names"]),
        "edit_done": '+    return "Good morning, " + name' in found["diff"],
        "cap_respected": caps == {ANSWER},
    }


if __name__ == "__main__":
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    seen = {agent: figures(agent) for agent in sorted(CASES)}
    KEPT.write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{KEPT.relative_to(ROOT)}\n")
