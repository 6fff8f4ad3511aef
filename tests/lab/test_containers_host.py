"""What containers for agents stand on, on a real host: Docker from the lock, an image of locked packages, and away."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.rig import Rig

HOST = "lab-sandbox"
UP = ("up", "--lab", "--profile", "sandbox")
LIMIT = ("--lab", "--limit", HOST)
DAEMON = "/etc/docker/daemon.json"
#: What the host's owner has set for a Docker of his own, as he wrote it: his log driver stays, and so does the rest.
THEIRS = '{"log-driver":   "local", "dns": ["192.0.2.53"]}\n'
#: What Docker would leave on a host: folders, links, its group, bridge, rules, mounts, forwarding, programs.
TRACES = """
find /var/lib/docker /var/lib/containerd /opt /run/docker* /run/containerd /etc/docker /etc/containerd /etc/cni \
/etc/systemd/system /run/systemd/system 2>/dev/null | sort
stat -c '%a %U' /etc/docker/daemon.json; cat /etc/docker/daemon.json
getent group docker; ls /sys/class/net; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward
grep -E 'docker|containerd' /proc/self/mountinfo | cut -d ' ' -f 5
command -v docker dockerd containerd runc
:
"""


@dataclass(frozen=True)
class Brought:
    """The rig, what its first ``up`` said, and what its host had before."""

    rig: Rig
    first: dict[str, Any]
    traces: str

    def read(self, command: str) -> str:
        return self.rig.read(HOST, command)

    def up(self, *arguments: str) -> dict[str, Any]:
        (host,) = self.rig.document(*UP, *arguments)["hosts"]
        assert isinstance(host, dict)
        return host

    def drift(self, code: int) -> list[tuple[str, str]]:
        (host,) = self.rig.document("status", *LIMIT, "--check", code=code)["hosts"]
        return [(row["kind"], row["name"]) for row in host["drift"]]

    @property
    def key(self) -> str:
        return self.read("basename $(readlink /opt/agentrig/current/artefacts/sandbox-image)").strip()

    @property
    def image(self) -> str:
        return f"agentrig-sandbox:{self.key[:16]}"


@pytest.fixture(scope="module")
def host(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brought]:
    """A host whose owner has set something for Docker already, brought up with a profile that has containers."""
    mine = replace(rig, folder=tmp_path_factory.mktemp("sandbox"))
    mine.small("sandbox", sandbox={"packages": ["tree"]})
    Lab(mine.state / "lab").up({HOST: "debian-12"})
    mine.read(HOST, f"mkdir /etc/docker && printf '%s' '{THEIRS}' > {DAEMON} && chmod 0640 {DAEMON}")
    traces = mine.read(HOST, TRACES)
    (first,) = mine.document(*UP)["hosts"]
    yield Brought(mine, first, traces)
    mine.run("down", *LIMIT, "--purge")


def test_it_ends_accepted_with_docker_running(host: Brought) -> None:
    assert (host.first["result"], host.first["error"]) == ("changed", None)
    assert host.read("systemctl is-active docker.service containerd.service").split() == ["active", "active"]
    assert host.read("stat -c '%a %U %G' /run/docker.sock").split() == ["660", "root", "docker"]
    assert host.read("getent group docker").strip().endswith(":"), "nobody is put into Docker's group"
    assert host.drift(0) == []


def test_docker_and_containerd_answer_on_no_tcp_port(host: Brought) -> None:
    """The control: the gateway's port is seen in the same list."""
    sockets = host.read("python3 - <<'E'\nimport pathlib\nfor pid in pathlib.Path('/proc').glob('[0-9]*'):\n"
                        "    held = [str(one.readlink()) for one in (pid / 'fd').glob('*') if one.is_symlink()]\n"
                        "    for name in ('tcp', 'tcp6'):\n"
                        "        for line in pathlib.Path('/proc/net', name).read_text().splitlines()[1:]:\n"
                        "            if f'socket:[{line.split()[9]}]' in held and line.split()[3] == '0A':\n"
                        "                print((pid / 'comm').read_text().strip())\nE\n").split()  # fmt: skip
    assert "nginx" in sockets
    assert not {"dockerd", "containerd"} & set(sockets)


def test_what_the_owner_has_set_stays(host: Brought) -> None:
    document = json.loads(host.read(f"cat {DAEMON}"))
    assert document == json.loads(THEIRS) | {"ip-forward": False, "live-restore": True}
    assert host.read(f"stat -c %a {DAEMON}").strip() == "640"
    assert host.read("docker info --format '{{.LoggingDriver}} {{.LiveRestoreEnabled}}'").split() == ["local", "true"]
    assert host.read("cat /proc/sys/net/ipv4/ip_forward").strip() == "0"


def test_a_container_of_the_image_runs_without_a_network(host: Brought) -> None:
    run = f"docker run --rm --network none {host.image}"
    assert host.read(f"{run} python3 -c 'print(6 * 7)'").strip() == "42"
    assert host.read(f"{run} sh -c 'git --version && tree --version && ps --version && ls /sys/class/net'").endswith(
        "\nlo\n"
    )
    suite = "sed -n 's/^VERSION_CODENAME=//p' /etc/os-release"
    assert host.read(f"{run} {suite}") == host.read(suite)
    labels = json.loads(host.read(f"docker image inspect --format '{{{{json .Config.Labels}}}}' {host.image}"))
    assert labels == {"agentrig.key": host.key}


def test_again_changes_nothing(host: Brought) -> None:
    again = host.up()
    assert (again["result"], again["changed"], "apply" in again["phases"]) == ("unchanged", 0, False)
    full = host.up("--full")
    assert (full["changed"], "apply" in full["phases"]) == (0, True), full["changes"]


def test_an_image_that_somebody_removed_is_put_back(host: Brought) -> None:
    host.read(f"docker image rm {host.image}")
    assert host.drift(4) == [("image", host.image)]
    checked = host.up("--check", "--locked")
    assert checked["changes"] == [f"import the image {host.image}"]
    assert host.drift(4) == [("image", host.image)], "a check changes nothing"
    mended = host.up()
    assert (mended["error"], mended["changes"]) == (None, [f"import the image {host.image}"])
    assert host.drift(0) == []


def test_a_docker_that_is_open_on_tcp_is_refused(host: Brought) -> None:
    host.read(f'cp -p {DAEMON} /root/kept && echo \'{{"hosts": ["tcp://127.0.0.1:2375"]}}\' > {DAEMON}')
    (refused,) = host.rig.document(*UP, code=1)["hosts"]
    assert "it listens on tcp://127.0.0.1:2375 without tlsverify" in refused["error"]["what"]
    assert "2375" in host.read(f"cat {DAEMON}"), "what its owner wrote is left for him to mend"
    host.read(f"mv /root/kept {DAEMON}")
    assert host.up()["result"] == "unchanged"


def test_away_without_a_trace(host: Brought) -> None:
    """What others keep in Docker is not taken along; then all of it is gone, and the owner's file is as he wrote it."""
    host.read("docker volume create others")
    (refused,) = host.rig.document("down", *LIMIT, "--purge", "--yes", code=1)["hosts"]
    assert "the container engine keeps volume others, which is not ours" in refused["error"]["what"]
    host.read("docker volume rm others")
    host.read(f"docker run --detach --name left --network none {host.image} sleep 1000")
    (gone,) = host.rig.document("down", *LIMIT, "--purge", "--yes")["hosts"]
    assert gone["error"] is None
    assert host.read(TRACES) == host.traces
    assert host.read("pgrep -xf 'sleep 1000' || :").strip() == ""
    assert host.read("systemctl --failed --no-legend").strip() == ""
