"""What the control machine keeps: whole files, private secrets, one deploy at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import BusyError, UsageError
from orchestrator.line.unused import discard, unused
from orchestrator.lock import Store
from orchestrator.lockfile import Artefact, Lock
from orchestrator.state import State

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    host = State(tmp_path).host("lab-cpu", lab=True)
    secrets = host.secrets()
    assert secrets == host.secrets()
    assert len(set(secrets.values())) == len(secrets)
    assert host.token_file.read_text() == secrets["gateway_token"] + "\n"
    assert mode(host.token_file) == mode(host.folder / "secrets.json") == 0o600


def test_two_hosts_have_different_secrets_and_odd_names_stay_inside(tmp_path: Path) -> None:
    state = State(tmp_path)
    names = ["a", "../a", "a b", "ä", "a/b", ".."]
    tokens = {state.host(name).secrets()["gateway_token"] for name in names}
    assert len(tokens) == len(names)
    assert all((tmp_path / "hosts") in state.host(name).folder.resolve().parents for name in names)


def test_the_second_deploy_is_told_who_is_at_work(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.alone("up"), pytest.raises(BusyError) as refused, State(tmp_path).alone("down"):
        pass
    assert f"pid {os.getpid()}" in refused.value.what
    assert "since 20" in refused.value.what
    with state.alone("up"):
        pass


def test_a_killed_deploy_does_not_stay_at_work(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from orchestrator.state import State\n"
        "with State(Path(sys.argv[1])).alone('up'): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    with State(tmp_path).alone("up"):
        pass


def test_a_state_that_cannot_be_written_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as refused, State(tmp_path / "file" / "state").alone("up"):
        pass
    assert "AGENTRIG_STATE" in refused.value.do


def blob(state: State, text: str) -> Artefact:
    digest = Store(state.store).add_file(named(state.root / "file", text))
    return Artefact(kind="file", name=text, version="1", digest=digest, source="a test")


def named(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_no_known_lock_names_is_told_and_goes_when_asked(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.root.mkdir()
    used, elsewhere, gone = blob(state, "used"), blob(state, "elsewhere"), blob(state, "gone")
    for folder, artefact in (("here", used), ("there", elsewhere)):
        (tmp_path / folder).mkdir()
        named(tmp_path / folder / "deploy.lock", Lock(agentrig="0", artefacts=(artefact,)).to_json())
    state.remember_lock(tmp_path / "there/deploy.lock")
    state.remember_lock(tmp_path / "lost/deploy.lock")
    found = unused(state, tmp_path / "here/deploy.lock")
    assert [path.name for path in found.blobs] == [gone.key]
    assert found.lost == (tmp_path / "lost/deploy.lock",)
    store = Store(state.store)
    assert all(store.has(str(one.digest)) for one in (used, elsewhere, gone)), "nothing goes by being told"
    discard(found)
    assert [store.has(str(one.digest)) for one in (used, elsewhere, gone)] == [True, True, False]


def test_where_no_lock_is_known_nothing_counts_as_unused(tmp_path: Path) -> None:
    state = State(tmp_path)
    blob(state, "kept")
    with pytest.raises(UsageError):
        unused(state, tmp_path / "deploy.lock")
    (tmp_path / "deploy.lock").write_text("half a lo")
    with pytest.raises(UsageError):
        unused(state, tmp_path / "deploy.lock")
