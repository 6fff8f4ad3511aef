"""The walls of sandboxes on a real host: every probe passes, and fails with exactly its wall down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig
from tests.walls.rows import asked, rows

HOST = "lab-pushed"
ONLY = ("verify", "--lab", "--limit", HOST, "--only", "walls")
TAKEN_DOWN = Path(__file__).parent.parent / "walls/taken_down.py"


@pytest.fixture(scope="module")
def pushed(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A host whose sandboxes have no agent: what is pushed at is the same."""
    mine = replace(rig, folder=tmp_path_factory.mktemp("pushed"))
    mine.small("pushed", sandbox={"kind": "container"})
    Lab(mine.state / "lab").up({HOST: "debian-12"})
    (host,) = mine.document("up", "--lab", "--profile", "pushed")["hosts"]
    assert (host["result"], host["error"]) == ("changed", None)
    yield mine
    mine.run("down", "--lab", "--limit", HOST, "--purge")


def put(rig: Rig, path: str, text: str) -> None:
    done = rig.run("lab", "ssh", HOST, f"cat > {path}", input=text)
    assert done.returncode == 0, done.stderr


def test_every_wall_holds_and_is_told(pushed: Rig) -> None:
    began = time.monotonic()
    checks = pushed.document(*ONLY)["checks"]
    assert [check["name"] for check in checks] == [row.name for row in rows()]
    limits = {row.name for row in rows() if row.wall == "control group"}
    assert {check["name"] for check in checks if check["result"] == "skipped"} == limits, "a lab host has no such limit"
    assert {check["result"] for check in checks if check["name"] not in limits} == {"passed"}
    assert time.monotonic() - began < 120, "the probes wait for silence side by side"
    assert pushed.document("sandbox", "list", "--lab", "--host", HOST) == {"sandboxes": []}


def test_each_wall_down_is_seen_by_its_probes(pushed: Rig) -> None:
    put(pushed, "/root/taken_down.py", TAKEN_DOWN.read_text())
    put(pushed, "/root/asked.json", json.dumps(asked()))
    said = pushed.read(HOST, "python3 /root/taken_down.py < /root/asked.json")
    found = [json.loads(line) for line in said.splitlines()]
    down = {each["name"]: each for each in found if each["about"] == "down"}
    assert down.keys() == {row.name for row in rows() if row.wall != "control group"}
    blind = [each for each in down.values() if each["result"] != "failed" or "could not be tried" in each["detail"]]
    assert blind == []
    for about in ("before", "after"):
        assert [each for each in found if each["about"] == about and each["result"] == "failed"] == []


def test_what_gets_past_the_first_wall_is_told_by_the_next_verify(pushed: Rig) -> None:
    pushed.read(
        HOST,
        """echo '[{"when": "2026-01-01T00:00:00Z", "who": "a", "what": "b"}]' > /run/agentrig-sandbox/alarms.json""",
    )
    try:
        (failed,) = [check for check in pushed.document(*ONLY, code=5)["checks"] if check["result"] == "failed"]
        assert failed["name"] == "nothing got past the first wall"
        assert "2026-01-01" in failed["detail"]
    finally:
        pushed.read(HOST, "rm /run/agentrig-sandbox/alarms.json")


def test_the_walls_are_pushed_at_by_night(pushed: Rig) -> None:
    """The hours of the night stand in for: every hour is one."""
    door, kept = "/opt/agentrig/current/sandbox/door.py", "/var/lib/agentrig-sandbox/walls.json"
    pushed.read(
        HOST, f"cp {door} /root/door.py; sed -i 's/^NIGHT, HALF_A_DAY = .*/NIGHT, HALF_A_DAY = range(24), 9/' {door}"
    )
    try:
        pushed.read(HOST, "systemctl restart agentrig-sandbox")
        until = time.monotonic() + 120
        while pushed.on(HOST, f"test -e {kept}").returncode and time.monotonic() < until:
            time.sleep(1)
        found = json.loads(pushed.read(HOST, f"cat {kept}"))["probes"]
    finally:
        pushed.read(
            HOST, f"cp /root/door.py {door}; systemctl restart agentrig-sandbox; systemctl stop agentrig-walls || :"
        )
    assert len(found) == len(rows())
    failed = {each["wall"] for each in found if each["result"] == "failed"}
    assert failed == {"control group"}, "which no lab host has; nobody told it that it is one"
