"""Back to a former release on a real host: soon, whole or not at all; what nobody goes back to goes away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lab.rig import Rig

HOST, NAME = "lab-releases", "releases"
UP = ("up", "--lab", "--profile", NAME)
LIMIT = ("--lab", "--limit", HOST)
#: The gateway's port in each release: both units start anew for it.
FIRST, SECOND = 8101, 8102


def brought_up(rig: Rig, port: int) -> dict[str, Any]:
    rig.small(NAME, gateway={"port": port})
    (host,) = rig.document(*UP)["hosts"]
    assert host["error"] is None, host
    return dict(host)


def status(rig: Rig) -> dict[str, Any]:
    (host,) = rig.document("status", *LIMIT)["hosts"]
    return dict(host)


@pytest.fixture(scope="module")
def releases(rig: Rig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two accepted releases, one after the other."""
    return brought_up(rig, FIRST), brought_up(rig, SECOND)


def test_back_in_under_ten_seconds_more_than_the_llm_loads(rig: Rig, releases: tuple[Any, Any]) -> None:
    first, second = releases
    (host,) = rig.document("rollback", *LIMIT)["hosts"]
    assert (host["result"], host["deployment_id"]) == ("changed", first["deployment_id"])
    assert any("accepted 0 h" in note for note in host["notes"])
    assert any(second["deployment_id"] in note for note in host["notes"])
    there = status(rig)
    assert (there["drift"], there["serving"]) == ([], True)
    assert there["deployment_id"] == first["deployment_id"]
    kept = json.loads((rig.state / "lab/rigs" / HOST / "accepted" / f"{first['deployment_id']}.json").read_text())
    assert there["accepted"] == kept["evidence"]["began"]
    (checked,) = [
        one for one in rig.document("verify", *LIMIT, "--only", "host")["checks"] if "manifest" in one["name"]
    ]
    assert checked["result"] == "passed"


def test_one_that_is_not_whole_any_more_is_refused_by_name(rig: Rig, releases: tuple[Any, Any]) -> None:
    first, second = (one["deployment_id"] for one in releases)
    lost = f"/opt/agentrig/releases/{second}/gateway/nginx.conf"
    rig.read(HOST, f"mv {lost} /root/kept")
    document = rig.document("rollback", *LIMIT, "--to", second, code=1)
    assert lost in document["error"]["what"]
    assert (status(rig)["deployment_id"], status(rig)["serving"]) == (first, True)
    rig.read(HOST, f"mv /root/kept {lost}")
    document = rig.document("rollback", *LIMIT, "--to", "0" * 16, code=2)
    assert {first, second} <= set(document["error"]["do"].replace(";", "").split())


def test_up_goes_forward_to_the_lock_and_sweeps_what_nobody_goes_back_to(rig: Rig, releases: tuple[Any, Any]) -> None:
    """Many former releases are stood in for by folders that the state knows of; what sweeps them is the real one."""
    first, second = (one["deployment_id"] for one in releases)
    kept = rig.state / "lab/rigs" / HOST
    known = json.loads((kept / "manifests" / f"{first}.json").read_text())
    former = [f"{number:016x}" for number in range(1, 6)]
    for name in former:
        (kept / "manifests" / f"{name}.json").write_text(json.dumps(known | {"release": name, "deployment_id": name}))
    rig.read(
        HOST,
        f"cd /opt/agentrig/releases && for name in {' '.join(former)}; do cp -a {first} $name; done\n"
        f"install -d ../store/{7:064d} ../store/not-of-ours\n"
        f"systemd-run --unit=reader --property=Type=exec tail -f $PWD/{former[0]}/deployment.json",
    )
    done = rig.run(*UP, "--locked", "--json")
    assert done.returncode == 0, done.stderr
    (host,) = json.loads(done.stdout)["hosts"]
    assert f"going forward to the lock again: release {second}" in done.stderr
    there = set(rig.read(HOST, "ls /opt/agentrig/releases").split())
    assert there == {first, second, *former} - {former[1]}, "the two oldest may go, and one of them is being read"
    store = set(rig.read(HOST, "ls /opt/agentrig/store").split())
    assert "not-of-ours" in store
    assert f"{7:064d}" not in store
    assert any("swept 1 former releases away" in note for note in host["notes"])
    after = status(rig)
    assert (after["drift"], after["left"]) == ([], None)
    assert {one["id"] for one in after["disk"]["former"]} == there - {second}
    assert rig.document(*UP, "--full")["hosts"][0]["changed"] == 0
    rig.read(HOST, "mkdir -p /opt/agentrig/apt/lists/partial")  # as a reset leaves it after the last package
    (mended,) = rig.document(*UP, "--full")["hosts"]
    assert any("/opt/agentrig/apt/lists, which an interrupted installation left" in one for one in mended["changes"])
    assert rig.on(HOST, "test -e /opt/agentrig/apt/lists").returncode == 1
    rig.read(HOST, "systemctl stop reader")
