from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import LockError, UsageError
from orchestrator.lock import read, write
from orchestrator.lockfile import Artefact, HostLock, Lock
from orchestrator.state import State
from tests.unit.lock_stand_ins import deployment

if TYPE_CHECKING:
    from pathlib import Path

ONE = Artefact(kind="deb", name="nginx", version="1", digest="sha256:" + "a" * 64, source="apt:bookworm nginx=1")
HOST = HostLock(profile_digest="p", hardware_digest="h", deployment=deployment("a", "b", "vllm"), debs=(ONE.id,))
LOCK = Lock(agentrig="0", hosts={"one": HOST}, artefacts=(ONE,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rig" / "deploy.lock"
    write(path, LOCK, State(tmp_path / "state").sign)
    return path


def test_what_was_written_is_read(path: Path) -> None:
    assert read(path) == LOCK
    assert sorted(one.name for one in path.parent.iterdir()) == ["deploy.lock", "deploy.lock.sig"]


def test_no_file_is_no_lock(tmp_path: Path) -> None:
    assert read(tmp_path / "deploy.lock") is None


def test_text_that_is_no_json_is_told_by_line(path: Path) -> None:
    path.write_text(path.read_text().replace('"debs": [', '"debs": [[', 1))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if '"debs": [[' in text)
    with pytest.raises(UsageError) as raised:
        read(path)
    place, number = raised.value.where.rsplit(", line ", 1)
    assert place == str(path)
    assert int(number) >= line


def test_a_merge_that_was_left_half_done_is_told(path: Path) -> None:
    path.write_text("<<<<<<< ours\n" + path.read_text())
    with pytest.raises(UsageError) as raised:
        read(path)
    assert raised.value.where == f"{path}, line 1"


def test_a_value_that_cannot_be_is_told_with_the_artefact(path: Path) -> None:
    document = json.loads(path.read_text())
    document["artefacts"][0]["digest"] = "sha256:abc"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"artefacts\.0\.digest \(deb nginx\): string should match pattern"):
        read(path)


def test_a_digest_that_was_taken_out_needs_a_reason(path: Path) -> None:
    document = json.loads(path.read_text())
    document["artefacts"][0]["digest"] = None
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="digest is null and nothing says why"):
        read(path)


def test_a_name_that_leads_nowhere_is_told(path: Path) -> None:
    document = json.loads(path.read_text())
    document["artefacts"] = []
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"hosts\.one names deb/nginx/1/a{12}, which is not in it"):
        read(path)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"version": 2, "agentrig": "0"}', '{"agentrig": "0", "x": 1}']
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deploy.lock"
    path.write_text(text)
    with pytest.raises(UsageError, match="the lock is not one"):
        read(path)


def test_a_folder_that_cannot_be_written_is_told(path: Path) -> None:
    (path.parent / "file").write_text("")
    with pytest.raises(LockError, match="the lock cannot be written"):
        write(path.parent / "file" / "deploy.lock", LOCK, State(path.parent).sign)
