"""Lays an agent's tree and its rendered files where ``tests.lab.alone`` runs it; the tree is kept for the next time."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.loader import load, profile
from orchestrator.files import data
from orchestrator.lock import Store, npm
from orchestrator.lock.npm_lock import Machine
from orchestrator.lock.wanted import Target
from orchestrator.nouns import digest_of
from orchestrator.plan import plan
from orchestrator.render.agents import agent_files
from orchestrator.snapshot import HostSnapshot
from tests.lab.alone.__main__ import WHO

if TYPE_CHECKING:
    from types import ModuleType

    from orchestrator.catalog.rows import AgentRow
    from orchestrator.deployment import Deployment

ROOT = Path(__file__).resolve().parents[3]
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentrig/agents"
CATALOG = load()
#: Networks, mounts and processes of its own: what an agent leaves running ends with it.
ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
WINDOW, ANSWER = 65536, 8192
FILES = {"greeting.py": 'def greet(name):\n    return "Hello, " + name\n'}
TASK = "Change greeting.py so that it greets with Good morning."


def deployment(agent: str, **changes: Any) -> Deployment:
    """Give a decision that has one agent and a window worth the name."""
    text = (ROOT / "tests/fixtures/snapshots/debian12_4cpu_16gib_no_gpu.json").read_text(encoding="utf-8")
    asked = profile(CATALOG, "cpu-agents").model_copy(update={"agents": ()})
    decided = plan(HostSnapshot.from_json(text), asked, CATALOG)
    plain = {"agents": (agent,), "context_tokens": WINDOW, "output_tokens": ANSWER}
    return decided.model_copy(update=plain | changes)


def tree(row: AgentRow) -> Path:
    """Give the folder of an agent's tree, built as a host builds it; from the cache where it was built before."""
    kept = KEPT / f"{row.name}-{digest_of(row.install.model_dump(mode='json'))[:16]}"
    if kept.is_dir():
        return kept
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as room:
        built = Path(room) / "tree"
        built.mkdir()
        if row.install.kind == "npm":
            _npm_tree(row, Path(room), built)
        else:
            _venv(row, built)
        built.rename(kept)
    return kept


def _npm_tree(row: AgentRow, room: Path, built: Path) -> None:
    store = Store(room / "store")
    target = Target("3.11.2", platform.machine(), (2, 36))
    machine = Machine(target.arch, frozenset(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))
    found = npm.resolve_tree(row, target, machine, store)
    digests = {part.id: str(part.digest).removeprefix("sha256:") for part in found.parts}
    module = _module()
    module.STAGING = room / "staging"
    module.STAGING.mkdir()
    for digest in digests.values():
        os.link(store.path(digest), module.STAGING / digest)
    places = {place: digests[part] for place, part in found.top.places.items()}
    parts = [{"digest": digest, "file": f"{place}.tgz"} for place, digest in places.items()]
    name = f"{found.top.name} {found.top.version}"
    module.build_npm_tree({"name": name, "parts": parts, "places": places, "commands": found.top.commands}, built)


def _venv(row: AgentRow, built: Path) -> None:
    """Install what the row asks for with pip, by no lock: what is proved of it here is how it behaves."""
    python = shutil.which("python3.11") or sys.executable
    subprocess.run([python, "-m", "venv", str(built)], check=True)
    pip = [str(built / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *row.install.requirements], check=True)


def _module() -> ModuleType:
    """Give the role's module that builds trees, as hosts run it."""
    for name, path in (
        ("ansible.module_utils.agentrig", "host_base/module_utils/agentrig.py"),
        ("agentrig_trees", "artefacts/library/agentrig_trees.py"),
    ):
        specification = importlib.util.spec_from_file_location(name, data("roles") / path)
        assert specification is not None
        assert specification.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[name])
    return sys.modules["agentrig_trees"]


def released(agent: str, folder: Path, *, walled: bool = False, **changes: Any) -> Path:
    """Lay a release with one agent in a folder that stands in for ``/opt/agentrig``, with a token that is none."""
    row, current = CATALOG.agents[agent], folder / "current"
    for file in agent_files(deployment(agent, **changes), CATALOG, walled=walled):
        path = current / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a-token\n" if "/tokens/" in file.path else file.content, encoding="utf-8")
        path.chmod(int(file.mode, 8))
        if "/tokens/" in file.path:
            os.chown(path, pwd.getpwnam(WHO).pw_uid, -1)
    (current / "artefacts").mkdir(exist_ok=True)
    (current / "artefacts" / agent).mkdir(exist_ok=True)
    (folder / "tree").write_text(str(tree(row)), encoding="utf-8")
    folder.chmod(0o755)
    return folder


def alone(agent: str, folder: Path, turns: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Run an agent's own command headless on its task, alone with a script; give what came of it."""
    row = CATALOG.agents[agent]
    command = changes.pop("command", None) or [word.format(task=TASK, file="greeting.py") for word in row.headless]
    question = {
        "release": str(folder),
        "tree": [(folder / "tree").read_text(encoding="utf-8"), f"/opt/agentrig/current/artefacts/{agent}"],
        "command": [f"/opt/agentrig/current/agents/{agent}/{row.command}", *command],
        "files": FILES,
        "environment": {},
        "seconds": 120,
        "port": 8080,
        "llm": deployment(agent).served_name,
        "turns": turns,
        **changes,
    }
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            sys.executable,
            "-m",
            "tests.lab.alone",
            json.dumps(question),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
