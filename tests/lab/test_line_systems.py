"""The systems beside Debian 12: brought up from one inventory in one run, each with its own Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Host -> the lab's system, and the series of its own Python.
HOSTS = {"noble": ("ubuntu-24.04", "3.12"), "trixie": ("debian-13", "3.13")}
INVENTORY = "systems.yml"


@pytest.fixture(scope="module")
def systems(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("systems"), tmp_path_factory.mktemp("state"), (str(installed),))
    hosts = {name: {"lab_os": system} for name, (system, _) in HOSTS.items()}
    inventory = {"rigs": {"hosts": hosts, "vars": {"agentrig_profile": rig.small()}}}
    (rig.folder / INVENTORY).write_text(json.dumps(inventory), encoding="utf-8")
    yield rig
    assert rig.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def first(systems: Rig) -> dict[str, Any]:
    """The run that makes the hosts and brings them up."""
    return systems.document("up", "--lab", "-i", INVENTORY, "--yes")


def test_both_come_up_accepted_from_one_run(first: dict[str, Any]) -> None:
    assert {host["name"]: (host["result"], host["error"]) for host in first["hosts"]} == dict.fromkeys(
        HOSTS, ("changed", None)
    )


def test_each_rig_runs_on_its_hosts_own_python(systems: Rig, first: dict[str, Any]) -> None:
    assert first["hosts"]
    for name, (_, series) in HOSTS.items():
        python = systems.read(name, "readlink -f /opt/agentrig/current/artefacts/runtime/bin/python").strip()
        assert python == f"/usr/bin/python{series}"


def test_the_lock_holds_wheels_and_packages_for_each(systems: Rig, first: dict[str, Any]) -> None:
    assert first["hosts"]
    (lock,) = (json.loads(path.read_text()) for path in {*systems.folder.glob("deploy.lock"), *_locks(systems)})
    for name, (_, series) in HOSTS.items():
        linked = lock["hosts"][name]["links"]["runtime"]
        (venv,) = (one for one in lock["artefacts"] if _id(one) == linked)
        assert f"for python {series}." in venv["source"]
    codenames = {one["source"].split(" ")[0] for one in lock["artefacts"] if one["kind"] == "deb"}
    assert codenames == {f"apt:{name}" for name in HOSTS}


def test_a_second_run_changes_nothing_and_check_mode_says_so(systems: Rig, first: dict[str, Any]) -> None:
    assert first["hosts"]
    for mode in ((), ("--full",), ("--check",)):
        again = systems.document("up", "--lab", "-i", INVENTORY, "--yes", *mode)
        assert {host["result"] for host in again["hosts"]} == {"unchanged"}, mode


def test_check_mode_tells_what_was_broken_and_the_next_run_heals_it(systems: Rig, first: dict[str, Any]) -> None:
    assert first["hosts"]
    for name in HOSTS:
        systems.read(name, "systemctl stop agentrig-gateway")
    told = systems.document("up", "--lab", "-i", INVENTORY, "--yes", "--check")
    assert {host["result"] for host in told["hosts"]} == {"changed"}
    assert {systems.on(name, "systemctl is-active agentrig-gateway").stdout.strip() for name in HOSTS} == {"inactive"}
    healed = systems.document("up", "--lab", "-i", INVENTORY, "--yes")
    assert {host["result"] for host in healed["hosts"]} == {"changed"}


def test_an_agent_that_the_hosts_python_cannot_run_is_refused(systems: Rig, first: dict[str, Any]) -> None:
    assert first["hosts"]
    systems.small("aided", agents=["aider"])
    (systems.folder / "aided.yml").write_text(
        json.dumps({"rigs": {"hosts": {"trixie": {"lab_os": "debian-13"}}, "vars": {"agentrig_profile": "aided"}}})
    )
    refused = systems.document("up", "--lab", "-i", "aided.yml", "--yes", "--check", code=2)
    error = refused["hosts"][0]["error"] if refused.get("hosts") else refused["error"]
    assert "Aider" in error["what"]
    assert "3.13" in error["what"]
    assert "OpenCode" in error["do"]


def _locks(rig: Rig) -> set[Path]:
    return set((rig.state / "lab").glob("deploy.lock"))


def _id(artefact: dict[str, Any]) -> str:
    head = artefact["digest"].removeprefix("sha256:")[:12]
    return f"{artefact['kind']}/{artefact['name']}/{artefact['version']}/{head}"
