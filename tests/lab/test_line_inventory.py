"""Hosts of an inventory, over SSH: here they are the lab's, but nothing tells the command so."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Asks the gateway's list of llms from the host itself.
ASK = """
import sys, urllib.request
headers = {"Authorization": "Bearer " + sys.stdin.read().strip()}
request = urllib.request.Request(sys.argv[1] + "/models", headers=headers)
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


@pytest.fixture(scope="module")
def rig(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two hosts, with a state of their own beside the command's: the command knows of no lab."""
    there = Rig(tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("hosts"), (str(installed),))
    there.document("lab", "up", "2")
    yield there
    assert there.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def person(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The command with a state of its own, in a folder with the inventory."""
    person = Rig(tmp_path_factory.mktemp("inventory"), tmp_path_factory.mktemp("state"), rig.command)
    person.small()
    write_inventory(person.folder / "rigs.ini", rig, f"-o UserKnownHostsFile={rig.state / 'lab/known_hosts'}")
    return person


def write_inventory(path: Path, rig: Rig, arguments: str) -> None:
    """Write both hosts as a person would who has their key."""
    lines = [
        f"{name} ansible_host={host.address} ansible_port={host.ssh_port}"
        for name, host in zip(("alpha", "beta"), Lab(rig.state / "lab").hosts(), strict=True)
    ]
    common = f"ansible_ssh_common_args='{arguments}'\nansible_ssh_private_key_file={rig.state / 'lab/key'}\n"
    path.write_text("[rigs]\n" + "\n".join(lines) + f"\n\n[rigs:vars]\nagentrig_profile=small\n{common}")


@pytest.fixture(scope="module")
def alpha(person: Rig) -> dict[str, Any]:
    """The first ``up``, of one of the two."""
    (host,) = person.document("up", "-i", "rigs.ini", "--limit", "alpha", "--yes")["hosts"]
    return host


def test_every_host_is_read_at_once(person: Rig) -> None:
    hosts = person.document("detect", "-i", "rigs.ini")["hosts"]
    assert [host["name"] for host in hosts] == ["alpha", "beta"]
    assert {host["os"]["id"] for host in hosts} == {"debian"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("", 1, "its host key is not known"),
        ("-o StrictHostKeyChecking=no", 2, "StrictHostKeyChecking"),
        ("-o ProxyJump=gate.example", 2, "proxyjump"),
    ],
)
def test_whom_to_believe_is_never_left_open(person: Rig, rig: Rig, arguments: str, code: int, said: str) -> None:
    """Without a known key there is no connection, and no inventory may switch that off."""
    write_inventory(person.folder / "open.ini", rig, arguments)
    document = person.document("up", "-i", "open.ini", "--yes", code=code)
    assert said in document["error"]["what"]
    assert document["error"]["do"]


def test_a_host_with_another_s_key_is_refused(person: Rig, rig: Rig) -> None:
    known = (rig.state / "lab/known_hosts").read_text().split()
    (person.folder / "known").write_text(f"{known[0]} {known[4]} {known[5]}\n{known[3]} {known[1]} {known[2]}\n")
    write_inventory(person.folder / "swapped.ini", rig, f"-o UserKnownHostsFile={person.folder / 'known'}")
    done = person.run("detect", "-i", "swapped.ini")
    assert done.returncode == 1
    assert done.stdout.count("its host key has changed") == 2


def test_it_asks_before_it_changes_a_real_host(person: Rig, rig: Rig) -> None:
    error = person.document("up", "-i", "rigs.ini", "--limit", "alpha", code=2)["error"]
    assert "--yes" in error["do"]
    assert rig.read("host-1", "ls /opt").strip() == ""


def test_it_ends_accepted_through_the_tunnel(rig: Rig, alpha: dict[str, Any]) -> None:
    assert (alpha["name"], alpha["result"], alpha["stand_ins"]) == ("alpha", "changed", [])
    evidence = json.loads(Path(alpha["evidence"]).read_text())
    assert {check["result"] for check in evidence["checks"]} == {"passed"}
    assert {"host", "endpoint", "tools"} <= {check["area"] for check in evidence["checks"]}
    assert alpha["endpoint"]["openai"] == "http://127.0.0.1:8080/v1", "as it is on that host"
    assert any("ssh -N -L 8080:127.0.0.1:8080" in note for note in alpha["notes"])
    token = Path(alpha["endpoint"]["token_file"]).read_text()
    command = shlex.join(["python3", "-c", ASK, alpha["endpoint"]["openai"]])
    done = rig.run("lab", "ssh", "host-1", command, input=token)
    assert json.loads(done.stdout)["data"][0]["id"] == "smollm2-135m"


def test_the_lock_lies_beside_the_inventory_and_names_who_was_asked_for(person: Rig, alpha: dict[str, Any]) -> None:
    del alpha
    lock = json.loads((person.folder / "deploy.lock").read_text())
    assert list(lock["hosts"]) == ["alpha"]
    assert not (person.state / "lab").exists()


def test_no_connection_is_left(person: Rig, rig: Rig, alpha: dict[str, Any]) -> None:
    del alpha, person
    key = str(rig.state / "lab/key").encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        assert key not in words, words


def test_each_host_is_told_for_itself(person: Rig, rig: Rig, alpha: dict[str, Any]) -> None:
    """Of two hosts one has all it should; what the other lacks is said, and nothing is put there."""
    hosts = {host["name"]: host for host in person.document("up", "-i", "rigs.ini", "--check")["hosts"]}
    assert (hosts["alpha"]["result"], hosts["alpha"]["deployment_id"]) == ("unchanged", alpha["deployment_id"])
    assert (hosts["beta"]["result"], hosts["beta"]["error"]) == ("changed", None)
    assert rig.read("host-2", "ls /opt").strip() == ""
    status = person.document("status", "-i", "rigs.ini", "--check")["hosts"]
    assert [(host["name"], host["serving"], host["drift"]) for host in status] == [
        ("alpha", True, []),
        ("beta", False, []),
    ]
    assert [host["deployment_id"] for host in status] == [alpha["deployment_id"], None]
    (one,) = person.document("status", "-i", "rigs.ini", "--limit", "b*")["hosts"]
    assert one["name"] == "beta"
    error = person.document("status", "-i", "rigs.ini", "--limit", "gamma", code=2)["error"]
    assert "alpha, beta" in error["do"]
