"""Away again: a host is as it was before, what was its own stays and is named, and this machine keeps nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from orchestrator.lab import Lab
from orchestrator.lab.cgroups import hierarchies
from orchestrator.lab.client import group_of
from tests.lab.rig import Rig
from tests.lab.test_lab_hosts import neighbours, processes

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "lab-small"
UP = ("up", "--lab", "--profile", "small")

#: Kind, mode, owner, group, path and target of all that lies on the host's own disk.
FILES = r"find / -xdev -printf '%y %m %U:%G %p %l\n' | sort"
#: What the files of the configuration and of the interpreter hold.
CONTENTS = r"find /etc /opt /root /usr/lib/python3* /usr/local -xdev -type f -exec sha256sum {} + | sort -k2"
TABLES = {
    "passwd": "cat /etc/passwd",
    "group": "cat /etc/group",
    "packages": "dpkg -l",
    "holds": "apt-mark showhold; dpkg --get-selections",
    "units": "systemctl list-unit-files --no-legend --no-pager",
    "ours": "systemctl list-units --all --plain --no-legend --quiet 'agentrig*'",
    "failed": "systemctl --failed --no-legend --plain",
    "firewall": "command -v nft >/dev/null && nft list ruleset || true",
    "sockets": "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" {print $2}' | sort",
    "volatile": "find /run -maxdepth 2 -name '*agentrig*' -o -maxdepth 2 -name '*nginx*'",
}
#: What dpkg, apt, ldconfig, shadow and systemd write for themselves whenever a package or user comes and goes.
KEPT_BY_THE_SYSTEM = re.compile(
    r"/var/log/(dpkg\.log|alternatives\.log|apt(/.*)?|journal/.*|wtmp|btmp|lastlog|faillog)$"
    r"|/var/lib/dpkg/(available|status|lock.*|triggers(/.*)?|.*-old)$"
    r"|/var/lib/apt/(extended_states|lists/lock)$"
    r"|/var/cache/(ldconfig(/aux-cache)?|debconf/.*|apt/(pkgcache|srcpkgcache)\.bin)$"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$"
    r"|/etc/(\.pwd\.lock|ld\.so\.cache)$"
    r"|/var/lib/systemd/(deb-systemd-helper-.*|timers/.*|random-seed)$"
    r"|/tmp/systemd-private-.*$|/var/tmp/systemd-private-.*$"
)


@pytest.fixture(scope="module")
def own(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig of this module's own, on one fresh host."""
    rig = Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"), (str(installed),))
    rig.small()
    Lab(rig.state / "lab").up({HOST: "debian-12"})
    yield rig
    assert rig.run("lab", "down").returncode == 0


def everything(rig: Rig) -> dict[str, list[str]]:
    """List all that a host has."""
    listed = {name: rig.read(HOST, command).splitlines() for name, command in TABLES.items()}
    for name, command in (("files", FILES), ("contents", CONTENTS)):
        lines = rig.on(HOST, command).stdout.splitlines()
        listed[name] = [line for line in lines if not KEPT_BY_THE_SYSTEM.search(line.split(" -> ")[0].rstrip())]
    assert len(listed["files"]) > 5000
    return listed


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    """Name what is there more (+) or less (-) than before."""
    found = {}
    for name, had in before.items():
        less, more = set(had) - set(after[name]), set(after[name]) - set(had)
        if less or more:
            found[name] = [f"-{line}" for line in sorted(less)] + [f"+{line}" for line in sorted(more)]
    return found


def up(rig: Rig) -> dict[str, Any]:
    """Bring the rig up; it must be accepted."""
    (host,) = rig.document(*UP)["hosts"]
    assert host["error"] is None
    assert isinstance(host, dict)
    return host


def down(rig: Rig, *options: str) -> dict[str, Any]:
    """Take the rig away; it must be done."""
    (host,) = rig.document("down", "--lab", *options)["hosts"]
    assert host["error"] is None
    assert host["result"] == "changed"
    assert isinstance(host, dict)
    return host


def test_purge_leaves_a_host_as_it_was(own: Rig) -> None:
    before = everything(own)
    up(own)
    there = differences(before, everything(own))
    assert {"files", "contents", "passwd", "group", "packages", "holds", "units", "sockets"} <= there.keys()
    gone = down(own, "--purge")
    assert differences(before, everything(own)) == {}
    assert gone["left"] == []
    kept = {path.name for path in (own.state / f"lab/rigs/{HOST}").iterdir()}
    assert not kept & {"token", "secrets.json", "manifest.json", "accepted.json"}
    assert own.document("down", "--lab", "--purge")["hosts"][0]["result"] == "unchanged"


def test_what_was_there_before_stays_and_is_named(own: Rig) -> None:
    """A package of the closure is on the host before us; it is ours neither to hold nor to take away."""
    lock = json.loads((own.state / "lab/deploy.lock").read_text())
    (deb,) = [one for one in lock["artefacts"] if one["kind"] == "deb" and one["name"] == "libgomp1"]
    digest = deb["digest"].removeprefix("sha256:")
    (host,) = Lab(own.state / "lab").hosts()
    with (own.state / "store/sha256" / digest[:2] / digest).open("rb") as blob:
        install = "cat > /tmp/it.deb && dpkg -i /tmp/it.deb && rm /tmp/it.deb"
        subprocess.run([*host.ssh(), install], stdin=blob, check=True, capture_output=True)
    before = everything(own)
    up(own)
    gone = down(own, "--purge")
    assert differences(before, everything(own)) == {}
    assert [words for words in gone["left"] if "libgomp1" in words and "was there before" in words], gone["left"]
    assert "libgomp1" in own.read(HOST, "dpkg-query -W -f '${Package} ${Status}\\n' libgomp1")


def test_down_keeps_the_store_and_up_builds_nothing_again(own: Rig) -> None:
    first = up(own)
    trees = own.read(HOST, "ls /opt/agentrig/store")
    down(own)
    assert own.on(HOST, "systemctl list-unit-files --no-legend 'agentrig-*'; ls -d /opt/agentrig/current").stdout == ""
    assert own.read(HOST, "cat /proc/net/tcp | awk '$4 == \"0A\" && $2 ~ /:(1F90|46A0)$/'") == ""
    assert own.read(HOST, "ls /opt/agentrig/store") == trees
    (status,) = own.document("status", "--lab")["hosts"]
    assert (status["deployment_id"], status["serving"]) == (None, False)
    again = up(own)
    assert again["deployment_id"] == first["deployment_id"]
    assert again["endpoint"] == first["endpoint"]
    log = Path(again["log"]).read_text()
    for task in ("Carry what the host lacks", "Install the packages", "Build the artefacts"):
        assert f"changed {task}" not in re.sub(r" +[0-9.]+ s +", " ", log), log


def test_lab_down_leaves_nothing_on_this_machine(own: Rig) -> None:
    host = up(own)
    supervisor = Lab(own.state / "lab").supervisor()
    assert supervisor is not None
    before = family(supervisor)
    spaces = {space for pid in before for space in namespaces(pid)} - namespaces(os.getpid())
    groups = [hierarchy / group_of(own.state / "lab") for hierarchy in hierarchies()]
    place = urlsplit(host["endpoint"]["openai"])
    assert len(before) > 5
    assert len(spaces) > 3
    assert any(group.is_dir() for group in groups)
    document = own.document("lab", "down")
    assert document["gone"] == [HOST]
    assert not {pid for pid in before if Path(f"/proc/{pid}").exists()}
    living = processes().keys() - neighbours(own.state / "lab")
    assert not [pid for pid in living if namespaces(pid) & spaces]
    assert not [group for group in groups if group.exists()]
    for table in ("/proc/self/mountinfo", "/proc/net/unix"):
        assert str(own.state) not in Path(table).read_text()
    with pytest.raises(ConnectionRefusedError), socket.create_connection((str(place.hostname), int(place.port or 0))):
        pass
    rest = {str(path.relative_to(own.state)) for path in own.state.rglob("*") if path.is_file()}
    assert {path for path in rest if not path.startswith(("store/", "keys/"))} == {
        "lab/deploy.lock",
        "lab/deploy.lock.sig",
        "busy",
        "locks.json",
    }


def family(pid: int) -> set[int]:
    """Give a process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def namespaces(pid: int) -> set[str]:
    """Give the namespaces that a process is in."""
    found = set()
    for path in Path(f"/proc/{pid}/ns").glob("*"):
        with contextlib.suppress(OSError):
            found.add(str(path.readlink()))
    return found
