"""A host that has a route is watched from outside while ``up`` works: it asks for no connection to anywhere.

The watch stands at the other end of the host's cable, in the lab's own network namespace, where not even the host's
root reaches. The lab's hosts have no route of their own, so the test gives this one.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from orchestrator.lab import Lab
from orchestrator.lab.client import pid_of
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "lab-watched"
UP = ("up", "--lab", "--profile", "watched")
#: RFC 5737 and RFC 3849: addresses that nobody has.
ELSEWHERE, ELSEWHERE_6 = "192.0.2.1", "2001:db8::1"
ROUTES = """
for way in "-4 198.18.0.254" "-6 fe80::fe"; do
  set -- $way
  ip "$1" neigh replace "$2" lladdr 02:00:00:00:01:fe dev eth0 nud permanent
  ip "$1" route replace default via "$2" dev eth0
done
"""
#: All that leaves the host but what looks for neighbours and routers (ARP, ICMPv6).
WATCH = """
table netdev watch {{
  chain leaving {{
    type filter hook ingress device "{cable}" priority 0;
    meta l4proto {{ tcp, udp, icmp, sctp }} counter
  }}
}}
"""


def outside(rig: Rig, *command: str, text: str | None = None) -> str:
    """Run a command in the lab's own network namespace, outside of every host."""
    pid = pid_of(rig.state / "lab")
    assert pid is not None
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net", *command]
    return subprocess.run(enter, input=text, capture_output=True, text=True, check=True).stdout


def left(rig: Rig) -> int:
    """Give how many packets have left the host for somewhere."""
    listing = json.loads(outside(rig, "nft", "--json", "list", "table", "netdev", "watch"))["nftables"]
    (rule,) = [one["rule"]["expr"] for one in listing if "rule" in one]
    return int(next(one["counter"]["packets"] for one in rule if "counter" in one))


@pytest.fixture(scope="module")
def watched(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A fresh host with a route, and the watch on its cable."""
    rig = Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"), (str(installed),))
    rig.small("watched")
    Lab(rig.state / "lab").up({HOST: "debian-12"})
    rig.read(HOST, ROUTES)
    number = int(rig.read(HOST, "cat /sys/class/net/eth0/address").strip().rpartition(":")[2], 16)
    outside(rig, "nft", "-f", "-", text=WATCH.format(cable=f"lab{number}"))
    yield rig
    assert rig.run("lab", "down").returncode == 0


@pytest.mark.parametrize("address", [ELSEWHERE, ELSEWHERE_6])
def test_the_watch_sees_one_that_is_made(watched: Rig, address: str) -> None:
    before = left(watched)
    reach = f"import socket; socket.create_connection(('{address}', 443), 0.5)"
    done = watched.on(HOST, f'python3 -c "{reach}"')
    assert "timed out" in done.stderr
    assert left(watched) > before


def test_a_host_with_a_route_asks_for_none_while_it_is_brought_up(watched: Rig) -> None:
    before = left(watched)
    (host,) = watched.document(*UP)["hosts"]
    assert (host["result"], host["error"]) == ("changed", None)
    assert set(host["phases"]) >= {"apply", "verify"}
    assert ELSEWHERE in watched.read(HOST, f"ip route get {ELSEWHERE}")
    assert left(watched) == before


def test_apt_and_those_who_run_it_leave_our_packages_alone(watched: Rig) -> None:
    """With newer versions of all of them on offer in an archive of the host's own."""
    ours = set(watched.read(HOST, "apt-mark showhold").split())
    assert "nginx" in ours
    watched.read(HOST, OFFER)
    simulated = watched.read(HOST, "apt-get --simulate dist-upgrade")
    assert [line for line in simulated.splitlines() if line.startswith("Inst ") and line.split()[1] in ours] == []
    assert "nginx" in simulated.partition("kept back:")[2]
    listed = watched.read(HOST, "apt-config dump Unattended-Upgrade::Package-Blacklist")
    patterns = [line.split('"')[1] for line in listed.splitlines() if '""' not in line]
    assert [name for name in ours if not any(re.match(one, name) for one in patterns)] == []
    assert not any(re.match(one, "nginx-of-others") for one in patterns)


#: An archive with a newer version of every package that is held, as text alone: nothing of it is ever fetched.
OFFER = r"""
mkdir -p /root/offer
for name in $(apt-mark showhold); do
  dpkg-query -W -f 'Package: ${Package}\nVersion: 9999:1\nArchitecture: ${Architecture}\n' "$name"
  printf 'Maintainer: nobody\nFilename: ./%s.deb\nSize: 1\nSHA256: %064d\nDescription: newer\n\n' "$name" 0
done > /root/offer/Packages
echo 'deb [trusted=yes] file:/root/offer ./' > /etc/apt/sources.list.d/offer.list
apt-get -qq -o Dir::Etc::SourceList=/etc/apt/sources.list.d/offer.list -o Dir::Etc::SourceParts=- update
"""
