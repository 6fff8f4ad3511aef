"""The golden cases: a snapshot, a profile, and the tree that is rendered for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.catalog.loader import load, profile
from orchestrator.plan import plan
from orchestrator.render import render
from orchestrator.snapshot import HostSnapshot

HERE = Path(__file__).resolve().parent
SNAPSHOTS = HERE.parent / "fixtures" / "snapshots"

#: Beside the rendered files: what a rendering declares besides their content.
DECLARED = "rendered.json"


class Case(NamedTuple):
    """One case; its tree lies in the folder of its name."""

    name: str
    profile: str
    snapshot: str
    #: What is laid over the profile.
    more: dict[str, Any] = {}


CASES = (
    Case("cpu", "cpu", "debian12_4cpu_16gib_no_gpu.json"),
    Case("cpu-agents", "cpu-agents", "debian12_4cpu_16gib_no_gpu.json"),
    Case(
        *("cpu-walled", "cpu-agents", "debian12_4cpu_16gib_no_gpu.json"),
        {"people": ("ada",), "sandbox": {"kind": "container", "packages": ("ripgrep",), "commands": ("pytest -q",)}},
    ),
    Case("dual-3090", "dual-3090", "debian12_16cpu_64gib_2x_rtx3090.json"),
    Case("external", "external", "debian12_4cpu_16gib_ollama_answers.json"),
)


def expected(case: Case) -> dict[str, str]:
    """Give the tree of a case as the code renders it now: path -> content."""
    catalog = load()
    snapshot = HostSnapshot.from_json((SNAPSHOTS / case.snapshot).read_text(encoding="utf-8"))
    wanted = profile(catalog, case.profile)
    wanted = type(wanted).model_validate(wanted.model_dump() | case.more)
    rendered = render(plan(snapshot, wanted, catalog), catalog)
    declared = rendered.document()
    declared["files"] = [{key: value for key, value in file.items() if key != "content"} for file in declared["files"]]
    tree = {f"release/{file.path}": file.content for file in rendered.files}
    return tree | {DECLARED: json.dumps(declared, indent=2) + "\n"}


def kept(case: Case) -> dict[str, str]:
    """Give the tree of a case as it is kept: every file there is in its folder."""
    folder = HERE / case.name
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
