"""Imports run down only, and each library has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import orchestrator

PACKAGE = Path(orchestrator.__file__).parent
ROOMS = {"detect", "lock", "apply", "verify", "sandbox", "lab"}
PURE = {"plan", "render"}
ABOVE = {"line", "cli"}
#: Library -> the rooms (or modules) that may import it.
DOORS = {
    "pynvml": ("detect.nvidia",),
    "pyinfra": ("detect.remote",),
    "gevent": ("detect.remote",),
    "ansible_runner": ("apply",),
    "cryptography": ("apply",),
    "requests": ("verify", "lock"),
    "huggingface_hub": ("lock",),
    "keyring": ("lock.hub_token",),
    "jinja2": ("render",),
    "testinfra": ("verify",),
    "click": ("cli",),
    "rich": ("cli",),
}
#: What plan and render may import besides our own nouns and catalog.
PURE_LIBRARIES = {"plan": set(), "render": {"jinja2"}}
#: Render reads its templates, and nothing else; an address may be taken apart anywhere.
READS = {"render": {"pathlib.Path"}}
#: The standard library's doors to the outside.
EFFECTS = {"subprocess", "socket", "http", "requests", "shutil", "tempfile", "threading", "ssl", "asyncio"}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE).with_suffix("")
        if relative.parts[0] == "data":
            continue
        found[".".join(relative.parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """All names that a module imports, wherever in it, also for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


MODULES = modules()


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_down_only(module: str) -> None:
    here = room(module)
    ours = {name.split(".")[1] for name in imports(MODULES[module]) if name.startswith("orchestrator.")}
    if here in ROOMS:
        assert not ours & ((ROOMS | ABOVE | PURE) - {here}), f"{module} imports a room beside it or above"
    elif here in PURE:
        assert not ours & ((ROOMS | ABOVE | PURE) - {here}), f"{module} is pure and imports a room"
    elif here == "line":
        assert "cli" not in ours
    elif here not in ABOVE and here not in {"catalog", "__main__"}:
        assert not ours & (ROOMS | ABOVE | PURE), f"the noun {module} imports a room"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_one_library_one_door(module: str) -> None:
    for name in imports(MODULES[module]):
        doors = DOORS.get(name.split(".")[0])
        if doors:
            assert any(module == door or module.startswith(door + ".") for door in doors), f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) in PURE))
def test_what_decides_is_pure(module: str) -> None:
    names = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not names & EFFECTS
    assert not {"urllib.request", "os", "pathlib.Path"} & imports(MODULES[module]) - READS.get(room(module), set())
    foreign = {name for name in names if name in DOORS}
    assert foreign <= PURE_LIBRARIES[room(module)]


def test_the_check_can_fail(tmp_path: Path) -> None:
    guilty = tmp_path / "guilty.py"
    guilty.write_text("def late():\n    from orchestrator.lab import Lab\n    return Lab\n", encoding="utf-8")
    assert "orchestrator.lab" in imports(guilty)
