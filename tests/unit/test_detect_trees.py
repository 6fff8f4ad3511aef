"""The digest that a host's shell computes is the one that the role wrote when it built the tree."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.detect import trees
from orchestrator.files import data

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def role() -> ModuleType:
    path = data("roles") / "host_base" / "module_utils" / "agentrig.py"
    spec = importlib.util.spec_from_file_location("agentrig_of_the_role", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROLE: Any = role()


def by_shell(command: str) -> str:
    script = f"export LC_ALL=C\n{trees.FUNCTIONS}\n{command}\n"
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout


def read(tree: Path, thorough: str = "no") -> str:
    return by_shell(f"tree '{tree}' {thorough}").partition(" ")[0]


def mark(tree: Path) -> str:
    digest: str = ROLE.tree_digest(tree)
    (tree / ROLE.MARKER).write_text(f"{digest}\n{ROLE.tree_look(tree)}\n", encoding="ascii")
    return digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    names = ("bin/tool", "a", "a b", "a.b/c", "a/b-not", "lib/deep/er/x", "é", "quote'd", "new\nline", "back\\slash")
    for name in names:
        path = folder / name.replace("a/b-not", "ab/c")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}", encoding="utf-8")
    (folder / "bin/tool").chmod(0o4755)
    (folder / "empty").mkdir(mode=0o700)
    (folder / "nothing").touch()
    (folder / "lib64").symlink_to("lib")
    (folder / "dangling").symlink_to("/no where")
    return folder


def test_both_give_the_same_digest(tree: Path) -> None:
    assert mark(tree) == read(tree) == read(tree, "yes")


def test_both_take_the_same_look(tree: Path) -> None:
    os.utime(tree / "a", ns=(1, 5))
    os.utime(tree / "a b", ns=(1, 1_700_000_000_000_000_000))
    look: str = ROLE.tree_look(tree)
    assert by_shell(f"cd '{tree}' && tree_look").strip() == look


def test_an_empty_tree_has_a_digest(tmp_path: Path) -> None:
    assert mark(tmp_path) == read(tmp_path)


@pytest.mark.parametrize("change", ["content", "mode", "link", "more", "less"])
def test_every_change_shows(tree: Path, change: str) -> None:
    digest = mark(tree)
    about = (tree / "a").stat()
    match change:
        case "content":
            (tree / "a").write_text("content of b", encoding="utf-8")
            os.utime(tree / "a", ns=(about.st_atime_ns, about.st_mtime_ns))
        case "mode":
            (tree / "a").chmod(0o600)
        case "link":
            (tree / "lib64").unlink()
            (tree / "lib64").symlink_to("bin")
        case "more":
            (tree / "lib/__pycache__").mkdir()
        case _:
            (tree / "nothing").unlink()
    assert read(tree) not in {digest, ""}


def test_a_tree_without_its_marker_is_no_tree(tree: Path) -> None:
    assert not read(tree)
    assert not read(tree / "absent")


def test_a_large_tree_is_believed_by_its_look_unless_read_thoroughly(tree: Path) -> None:
    with (tree / "weights").open("wb") as file:
        file.truncate(trees.LARGE + 1)
    (tree / ROLE.MARKER).write_text(f"{'0' * 64}\n{ROLE.tree_look(tree)}\n", encoding="ascii")
    assert read(tree) == "0" * 64


def test_a_large_tree_that_looks_different_is_read(tree: Path) -> None:
    digest = mark(tree)
    (tree / ROLE.MARKER).write_text(f"{digest}\n{'0' * 64}\n", encoding="ascii")
    small = f"{trees.FUNCTIONS}".replace(str(trees.LARGE), "10")
    said = subprocess.run(
        ["sh"], input=f"export LC_ALL=C\n{small}\ntree '{tree}' no\n", capture_output=True, text=True, check=True
    ).stdout
    assert said == f"{digest} {tree}\n"
