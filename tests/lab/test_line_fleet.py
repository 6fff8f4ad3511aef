"""Three hosts of one inventory in one run: one is fine, one has no room, one is not there; then they are mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Lab host -> its name in the inventory.
NAMES = {"host-1": "alpha", "host-2": "beta", "host-3": "gamma"}
CLOSED_PORT = 9
#: Enough bytes for everything and too few files for a venv: it is full in the middle, and ``df`` cannot foresee it.
TOO_FEW_FILES = "mount -o remount,size=2g,nr_inodes=45 /opt"


@pytest.fixture(scope="module")
def there(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The hosts, in a state of their own beside the command's: the command knows of no lab."""
    there = Rig(tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("hosts"), (str(installed),))
    there.document("lab", "up", "3")
    yield there
    assert there.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def person(there: Rig, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """The command in a folder with an inventory in Ansible's form of a folder; gamma's port is closed."""
    person = Rig(tmp_path_factory.mktemp("fleet"), tmp_path_factory.mktemp("state"), there.command)
    hosts = {NAMES[host.name]: {"ansible_port": host.ssh_port} for host in Lab(there.state / "lab").hosts()}
    hosts["gamma"] = {}
    files = {
        "inv/hosts.yml": {
            "desks": {"hosts": {name: hosts[name] for name in ("alpha", "beta")}},
            "racks": {"hosts": {"gamma": {}}},
        },
        "inv/group_vars/all.yml": {
            "ansible_host": "127.0.0.1",
            "ansible_ssh_private_key_file": str(there.state / "lab/key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={there.state / 'lab/known_hosts'}",
            "agentrig_profile": "small",
        },
        "inv/group_vars/racks.yml": {"agentrig_profile": "elsewhere"},
        "inv/profiles/small.yml": {"extends": "cpu", "llm": {"context_tokens": 1024}},
        "inv/profiles/elsewhere.yml": {"extends": "cpu", "llm": {"context_tokens": 1024}, "gateway": {"port": 8090}},
    }
    for name, content in files.items():
        path = person.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    set_gamma(person, CLOSED_PORT)
    return person


def set_gamma(person: Rig, port: int) -> None:
    """Say where gamma is."""
    path = person.folder / "inv/host_vars/gamma.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"ansible_port: {port}\n")


def real_port(there: Rig, name: str) -> int:
    """Give the port at which a host really is."""
    return next(host.ssh_port for host in Lab(there.state / "lab").hosts() if NAMES[host.name] == name)


def logs(person: Rig, name: str) -> list[str]:
    """Give the logs of Ansible's runs on a host."""
    return sorted(path.name for path in (person.state / f"hosts/{name}/work/logs").glob("*"))


def of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in document["hosts"]}


@pytest.fixture(scope="module")
def first(person: Rig, there: Rig) -> dict[str, dict[str, Any]]:
    """The first run: beta's disk has 64 MiB, gamma is not there."""
    there.read("host-2", "mount -t tmpfs -o size=64m,mode=755 tmpfs /opt")
    return of(person.document("up", "-i", "inv", "--yes", code=1))


def test_one_is_done_and_two_fail_alone_each_with_its_reason(first: dict[str, dict[str, Any]], there: Rig) -> None:
    assert {name: host["result"] for name, host in first.items()} == {
        "alpha": "changed",
        "beta": "failed",
        "gamma": "failed",
    }
    assert first["alpha"]["error"] is None
    assert first["gamma"]["error"]["kind"] == "unreachable"
    error = first["beta"]["error"]
    assert "too small" in error["what"]
    assert "64 MiB" in error["what"] or "63 MiB" in error["what"]
    assert "make" in error["do"]
    assert there.read("host-2", "ls -A /opt").strip() == "", "it was refused before anything was put there"


def test_the_summary_tells_what_was_changed_by_name(first: dict[str, dict[str, Any]]) -> None:
    words = " ".join(first["alpha"]["changes"])
    for name in ("nginx", "xllamacpp", "agentrig-runtime.service"):
        assert name in words
    assert Path(first["alpha"]["log"]).is_file()


@pytest.fixture(scope="module")
def second(person: Rig, there: Rig, first: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The second run: there is room on beta as ``df`` counts, and too little in the middle."""
    del first
    there.read("host-2", TOO_FEW_FILES)
    return of(person.document("up", "-i", "inv", "--limit", "desks", "--yes", code=1))


def test_a_disk_that_fills_in_the_middle_leaves_nothing_half_made(
    second: dict[str, dict[str, Any]], there: Rig
) -> None:
    assert list(second) == ["alpha", "beta"]
    assert second["alpha"]["result"] == "unchanged"
    error = second["beta"]["error"]
    assert "its disk is full" in error["what"]
    assert "make room" in error["do"]
    assert there.on("host-2", "ls -d /opt/agentrig/current /etc/systemd/system/agentrig-*").stdout == ""
    half = "find /opt/agentrig -name '*.part' -o -name '.*.agentrig' -o -name 'wheels-*' -o -path '*/releases/*'"
    assert there.read("host-2", half).strip() == ""
    unmarked = (
        "for tree in /opt/agentrig/store/*; do [ ! -d $tree ] || [ -e $tree/.agentrig-complete ] || echo $tree; done"
    )
    assert there.read("host-2", unmarked).strip() == "", "a tree is whole or it is not there"
    assert there.on("host-2", "ss -Hltn | grep -c ':8080 '").stdout.strip() == "0"


@pytest.fixture(scope="module")
def third(person: Rig, there: Rig, second: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The third run, all mended; alpha's logs are as they were."""
    del second
    there.read("host-2", "mount -o remount,nr_inodes=0 /opt")
    set_gamma(person, real_port(there, "gamma"))
    before = logs(person, "alpha")
    hosts = of(person.document("up", "-i", "inv", "--yes"))
    assert logs(person, "alpha") == before, "what is done meets no Ansible"
    return hosts


def test_up_again_takes_what_is_left(third: dict[str, dict[str, Any]]) -> None:
    assert {name: host["result"] for name, host in third.items()} == {
        "alpha": "unchanged",
        "beta": "changed",
        "gamma": "changed",
    }
    assert third["gamma"]["endpoint"]["openai"] == "http://127.0.0.1:8090/v1"
    for host in third.values():
        assert {check["result"] for check in json.loads(Path(host["evidence"]).read_text())["checks"]} <= {
            "passed",
            "skipped",
        }


def test_each_was_planned_for_itself_and_the_lock_names_all(person: Rig, third: dict[str, dict[str, Any]]) -> None:
    lock = json.loads((person.folder / "inv/deploy.lock").read_text())
    assert list(lock["hosts"]) == ["alpha", "beta", "gamma"]
    assert {host["deployment"]["profile"] for host in lock["hosts"].values()} == {"small", "elsewhere"}
    assert third["alpha"]["deployment_id"] != third["gamma"]["deployment_id"]


def test_status_shows_all_in_one_table(person: Rig, third: dict[str, dict[str, Any]]) -> None:
    del third
    done = person.run("status", "-i", "inv", "--check")
    assert done.returncode == 0, done.stderr
    heading, *rows = [line.split() for line in done.stdout.splitlines()]
    assert heading == ["HOST", "SERVES", "PROFILE", "WINDOW", "DRIFT", "ACCEPTED"]
    assert [row[:5] for row in rows] == [
        ["alpha", "smollm2-135m", "small", "1024", "none"],
        ["beta", "smollm2-135m", "small", "1024", "none"],
        ["gamma", "smollm2-135m", "elsewhere", "1024", "none"],
    ]


def test_a_host_that_is_not_there_has_a_row_with_the_reason(person: Rig, third: dict[str, dict[str, Any]]) -> None:
    set_gamma(person, CLOSED_PORT)
    hosts = of(person.document("status", "-i", "inv", code=1))
    assert hosts["gamma"]["error"]["kind"] == "unreachable"
    assert hosts["gamma"]["deployment_id"] == third["gamma"]["deployment_id"], "it is known what was put there"
    assert [hosts[name]["serving"] for name in ("alpha", "beta", "gamma")] == [True, True, False]
    assert hosts["alpha"]["llm"] == "smollm2-135m"
    told = person.run("status", "-i", "inv").stdout.splitlines()
    assert told[3].split()[:2] == ["gamma", "unreachable"]
    assert told[4].startswith("gamma: ")
    assert "refused" in told[4]
