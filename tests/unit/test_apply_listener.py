"""What Ansible tells while it runs becomes progress, and a failure that a person understands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.apply.runner import CARRY, Play, Played, _carrying, _Listener
from orchestrator.errors import ApplyError, PrivilegeError
from orchestrator.inventory import Host
from orchestrator.progress import Event

if TYPE_CHECKING:
    from pathlib import Path

HOST = Host(name="ada")
PLAY = Play("up.yml", {})


def listened(tmp_path: Path, kind: str, task: str, **result: Any) -> tuple[Played, list[Event], list[str]]:
    told: list[Event] = []
    written: list[str] = []
    played = Played(tmp_path / "log")
    listener = _Listener(HOST, PLAY, told.append, written.append, played)
    about = {"task": task, "duration": 7.25, "resolved_action": "agentrig_trees", "res": result}
    assert listener({"event": kind, "event_data": about}) is False
    return played, told, written


def test_a_task_that_changed_something_is_told_with_its_seconds(tmp_path: Path) -> None:
    played, told, written = listened(
        tmp_path, "runner_on_ok", "Build the artefacts", changed=True, changes=["build xllamacpp"]
    )
    assert told == [Event("apply", "Build the artefacts", "ada", state="changed", seconds=7.25)]
    assert played.changes == ["build xllamacpp"]
    assert "build xllamacpp" in written[1]


@pytest.mark.parametrize(
    "said",
    [
        {"msg": "[Errno 28] No space left on device: '/opt/agentrig/store/x'"},
        {"msg": "cat on the host: cat: write error: No space left on device"},
        {"msg": "apt-get -q -y: E: You don't have enough free space in /var/cache/apt/archives/."},
        {"msg": "pip: failed", "module_stderr": "OSError: [Errno 122] Disk quota exceeded"},
    ],
)
def test_a_full_disk_is_called_so(tmp_path: Path, said: dict[str, str]) -> None:
    played, told, _ = listened(tmp_path, "runner_on_failed", "Build the artefacts", **said)
    assert isinstance(played.failure, ApplyError)
    assert played.failure.what.startswith("its disk is full: Build the artefacts")
    assert "make room" in played.failure.do
    assert [event.state for event in told] == ["failed"]


@pytest.mark.parametrize(("said", "kind"), [("sudo: a password is required", PrivilegeError), ("odd", ApplyError)])
def test_other_failures_keep_their_words(tmp_path: Path, said: str, kind: type[Exception]) -> None:
    played, _, _ = listened(tmp_path, "runner_on_failed", "Make folders and users", msg=said)
    assert type(played.failure) is kind
    assert said in str(played.failure)


def test_how_far_the_carrying_is_becomes_progress(tmp_path: Path) -> None:
    told: list[Event] = []
    expected = Event("apply", CARRY, "ada", 16, 130)
    with _carrying(HOST, PLAY, tmp_path / "carried", told.append):
        (tmp_path / "carried").write_text("16 130\n")
        end = time.monotonic() + 20
        while expected not in told and time.monotonic() < end:
            time.sleep(0.02)
    assert told == [expected], "what did not move is not told again"
