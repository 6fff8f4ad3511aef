"""Faults that a first ``up`` meets: one clear line, the right exit code, nothing half-installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.lab.refusals import refused
from tests.lab.rig import Rig

HOST = "lab-mine"
UP = ("up", "--lab", "--profile", "mine")
PORT = 8080
NOTHING_OF_OURS = "ls -d /opt/agentrig /etc/systemd/system/agentrig-*; getent passwd agentrig-runtime agentrig-gateway"


@pytest.fixture(scope="module")
def mine(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig of this module's own, on one fresh host."""
    rig = Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"), (str(installed),))
    rig.small("mine")
    Lab(rig.state / "lab").up({HOST: "debian-12"})
    yield rig
    assert rig.run("lab", "down").returncode == 0


def test_a_taken_port_is_named_and_the_stranger_stays(mine: Rig) -> None:
    stranger = f"systemd-run --unit=stranger --property=Type=exec python3 -m http.server {PORT} --bind 127.0.0.1"
    answers = f"python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:{PORT}\").status)'"
    mine.read(HOST, f"{stranger}; for i in $(seq 50); do {answers} 2>/dev/null && break; sleep 0.1; done")
    error = refused(mine, *UP, code=1, kind="apply")
    assert f"port {PORT} is taken" in error["what"]
    assert "gateway.port" in error["do"]
    assert mine.on(HOST, NOTHING_OF_OURS).stdout == ""
    assert mine.read(HOST, answers).strip() == "200"
    mine.read(HOST, "systemctl stop stranger")


def test_check_changes_nothing(mine: Rig) -> None:
    (host,) = mine.document(*UP, "--check")["hosts"]
    assert (host["result"], host["error"]) == ("changed", None)
    assert mine.on(HOST, NOTHING_OF_OURS).stdout == ""
    assert not (mine.state / "lab/deploy.lock").exists()


def weights(rig: Rig) -> Path:
    """Give the largest blob of the store: that of the weights."""
    return max((rig.state / "store/sha256").glob("*/*"), key=lambda path: path.stat().st_size)


def test_weights_with_other_bytes_are_never_placed(mine: Rig) -> None:
    """The blob in the store is damaged, its length kept; the next run fetches it anew."""
    blob = weights(mine)
    size = blob.stat().st_size
    with blob.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\0" * 64)
    done = mine.run(*UP, "--json", stdin=subprocess.DEVNULL)
    document = json.loads(done.stdout)
    if done.returncode:
        assert done.returncode == 1
        assert blob.name in document["error"]["what"]
        assert document["error"]["do"]
        placed = mine.read(HOST, "find /opt/agentrig -name '*.gguf'; ls -d /opt/agentrig/current 2>/dev/null; true")
        assert placed == ""
        assert not blob.exists() or digest(blob) == blob.name
    else:
        assert digest(blob) == blob.name
    assert "Traceback" not in done.stderr


def digest(path: Path) -> str:
    """Give a file's sha256 as coreutils count it."""
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_a_part_that_arrives_damaged_is_refused_by_the_host(mine: Rig) -> None:
    """What lies staged on the host has the right name and length, and other bytes."""
    lock = json.loads((mine.state / "lab/deploy.lock").read_text())
    (llm,) = [one for one in lock["artefacts"] if one["kind"] == "file"]
    name = llm["digest"].removeprefix("sha256:")
    staged = f"/opt/agentrig/staging/{name}"
    mine.read(HOST, f"mkdir -p /opt/agentrig/staging; head -c {llm['bytes']} /dev/zero > {staged}")
    error = refused(mine, *UP, code=1, kind="apply")
    assert ".gguf" in error["what"]
    assert f"sha256:{name}" in error["what"]
    assert error["where"] == HOST
    assert mine.on(HOST, f"ls /opt/agentrig/store/*/*.gguf {staged} /opt/agentrig/current").stdout == ""
