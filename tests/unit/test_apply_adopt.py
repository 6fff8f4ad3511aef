"""The module that adopts weights on a host, as it runs there: its own folders, real files, links and pipes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.apply.values import ELSEWHERE
from orchestrator.files import data

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

CONTENT = b"weights " * (1 << 17) + b"and a rest"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PART = {"digest": DIGEST, "bytes": len(CONTENT), "file": "llm.gguf", "name": "llm", "version": "1"}


def loaded(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module with a staging folder of the test's own."""
    shared = loaded("ansible.module_utils.agentrig", data("roles") / "host_base/module_utils/agentrig.py")
    monkeypatch.setitem(sys.modules, "ansible.module_utils.agentrig", shared)
    found: Any = loaded("agentrig_adopt", data("roles") / "artefacts/library/agentrig_adopt.py")
    monkeypatch.setattr(found, "STAGING", tmp_path / "staging")
    (tmp_path / "staging").mkdir()
    return found


def staged(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "staging").iterdir())


def test_a_file_is_copied_under_its_digest_and_left_alone(module: Any, tmp_path: Path) -> None:
    source = tmp_path / f"theirs/sha256-{DIGEST}"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    before = source.stat()
    assert module.adopt(PART, [f"{tmp_path}/*/sha256-{{digest}}"], check=False) == str(source)
    copy = tmp_path / "staging" / DIGEST
    assert copy.read_bytes() == CONTENT
    assert (copy.stat().st_ino != before.st_ino, copy.stat().st_mode & 0o777) == (True, 0o600)
    after = source.stat()
    assert (after.st_nlink, after.st_mode, after.st_mtime_ns) == (1, before.st_mode, before.st_mtime_ns)


def test_check_mode_says_so_and_copies_nothing(module: Any, tmp_path: Path) -> None:
    (tmp_path / DIGEST).write_bytes(CONTENT)
    assert module.adopt(PART, [f"{tmp_path}/{{digest}}"], check=True) == str(tmp_path / DIGEST)
    assert staged(tmp_path) == []


def test_other_bytes_a_link_and_a_pipe_are_not_taken(module: Any, tmp_path: Path) -> None:
    for name in ("bytes", "link", "pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "bytes" / DIGEST).write_bytes(CONTENT[:-1] + b"X")
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    (tmp_path / "link" / DIGEST).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe" / DIGEST)
    places = [f"{tmp_path}/{name}/{{digest}}" for name in ("bytes", "link", "pipe", "none")]
    assert module.adopt(PART, places, check=False) is None
    assert staged(tmp_path) == []


def test_only_large_files_that_are_missing_are_looked_for(module: Any) -> None:
    small, other = PART | {"digest": "a" * 64, "bytes": 10}, PART | {"digest": "b" * 64}
    trees = [{"kind": "file", "parts": [PART, small, other]}, {"kind": "venv", "parts": [PART | {"digest": "c" * 64}]}]
    assert module.wanted({"trees": trees, "missing": [DIGEST, "a" * 64, "c" * 64]}) == {DIGEST: PART}


def test_the_places_hold_a_digest_and_nothing_that_ansible_would_fill_in() -> None:
    assert all(place.count("{digest}") == 1 and "{{" not in place for place in ELSEWHERE)
