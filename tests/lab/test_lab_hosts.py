"""Throwaway hosts, made for real: reached, cut off, killed, and gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from orchestrator.lab import Lab, as_host, cgroups, client
from orchestrator.snapshot import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.lab import LabHost

pytestmark = pytest.mark.lab

DRIP = """
import http.server, time
class Drip(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
        for number in range(3):
            self.wfile.write(b"4\\r\\nn=%d\\n\\r\\n" % number); self.wfile.flush()
            while not __import__("os").path.exists("/tmp/go-%d" % number): time.sleep(0.01)
        self.wfile.write(b"0\\r\\n\\r\\n")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Drip).serve_forever()
"""


def on(host: LabHost, command: str, *, check: bool = True, stdin: str = "") -> str:
    argv = [*host.ssh(), command]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def spaces(pid: int | str) -> set[str]:
    """The namespaces a process is in; none for a dead one."""
    with contextlib.suppress(OSError):
        return {str((Path("/proc") / str(pid) / "ns" / kind).readlink()) for kind in ("net", "mnt", "pid")}
    return set()


def processes() -> dict[int, int]:
    """Each living process of this machine with its parent."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(entry.parent.name)] = int(parent)
    return found


def family(pid: int) -> set[int]:
    """A process and all that it and its children started."""
    everyone, found = processes(), {pid}
    while more := {child for child, parent in everyone.items() if parent in found} - found:
        found |= more
    return found


def neighbours(root: Path) -> set[int]:
    """All processes of labs with another root: the kernel may have given them a namespace's number anew."""
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            said = entry.read_bytes().split(b"\0")
            if b"orchestrator.lab.supervisor" in said and f"--root={root}".encode() not in said:
                found |= family(int(entry.parent.name))
    return found


def left_of(root: Path, members: set[int], theirs: set[str]) -> list[str]:
    """What is left on this machine of a lab: processes, processes in its namespaces, mounts."""
    living = processes()
    return [
        *[f"process {pid}" for pid in members & set(living)],
        *[f"process {pid} in its namespaces" for pid in living if spaces(pid) & theirs and pid not in neighbours(root)],
        *[
            line
            for line in Path("/proc/mounts").read_text().splitlines()
            if str(root) in line or "agentrig-lab" in line
        ],
    ]


#: Sysctls of this machine that move by themselves: counters, and what the kernel draws by lot.
MOVING = {"random", "last_pid", "pty", "quota", "keys", "file-nr", "inode-nr", "inode-state", "dentry-state", "aio-nr"}


def machine() -> dict[str, str]:
    """The sysctls of this machine that can be read and stand still, its firewall, and its links."""
    kept = {}
    for entry in sorted(Path("/proc/sys").rglob("*")):
        with contextlib.suppress(OSError):
            if entry.is_file() and not MOVING & set(entry.parts) and "ns_last" not in entry.name:
                kept[str(entry)] = entry.read_text(errors="replace")
    if shutil.which("nft"):
        kept["nft"] = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    kept["links"] = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    return kept


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (
        tmp_path_factory.mktemp("a-lab-whose-folder-has-a-rather-long-name, with a comma: and a colon" + "-" * 40)
        / "lab"
    )


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Lab]:
    made = Lab(root)
    try:
        made.up({"one": "debian-12", "two": "debian-12"})
        yield made
    finally:
        made.down()


@pytest.fixture
def one(lab: Lab) -> LabHost:
    return next(host for host in lab.hosts() if host.name == "one")


def test_hosts_are_real_systemd_hosts_reached_by_ssh(lab: Lab) -> None:
    for host in lab.hosts():
        assert on(host, "hostname") == host.name
        assert on(host, "systemctl is-system-running") == "running"
        assert on(host, "cat /proc/1/comm") == "systemd"
    assert as_host(lab.hosts()[0]).lab


def test_hosts_are_not_each_other(lab: Lab) -> None:
    for command in ("cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub"):
        assert len({on(host, command) for host in lab.hosts()}) == 2


def test_asked_again_the_same_hosts_stay(lab: Lab) -> None:
    before, process = lab.hosts(), lab.supervisor()
    assert lab.up({"two": "debian-12", "one": "debian-12"}) == before
    assert lab.supervisor() == process


def test_a_forward_carries_http_and_does_not_hold_a_stream_back(lab: Lab, one: LabHost) -> None:
    on(one, "cat > /tmp/drip.py; rm -f /tmp/go-*; systemd-run --unit=drip python3 /tmp/drip.py", stdin=DRIP)
    port = lab.forward("one", 8080)
    assert lab.forward("one", 8080) == port
    assert until(lambda: "127.0.0.1:8080" in on(one, "ss -ltn"))
    with requests.get(f"http://127.0.0.1:{port}/", stream=True, timeout=10) as answer:
        lines = answer.iter_lines(chunk_size=1)
        for number in range(3):
            # The next line is written only after this one was read here.
            assert next(lines) == f"n={number}".encode()
            on(one, f"touch /tmp/go-{number}")
        assert list(lines) == []
    on(one, "systemctl stop drip")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=10)


def test_a_forward_passes_the_end_of_one_direction_on(lab: Lab, one: LabHost) -> None:
    count = "import socket; s=socket.create_server(('127.0.0.1',7000)); c,_=s.accept(); n=0\n"
    count += "while d:=c.recv(65536): n+=len(d)\nc.sendall(str(n).encode()); c.close()"
    on(one, "cat > /tmp/count.py; systemd-run --unit=count python3 /tmp/count.py", stdin=count)
    assert until(lambda: "127.0.0.1:7000" in on(one, "ss -ltn"))
    with socket.create_connection(("127.0.0.1", lab.forward("one", 7000)), timeout=20) as connection:
        connection.sendall(b"x" * 3_000_000)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"3000000"
        assert connection.recv(100) == b""


def test_a_host_has_its_neighbours_and_no_way_out(lab: Lab, one: LabHost) -> None:
    two = next(host for host in lab.hosts() if host.name == "two")
    reach = "python3 -c 'import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)' "
    assert on(one, f"{reach} {two.inner_address} 22; echo $?") == "0"
    assert "default" not in on(one, "ip route; ip -6 route")
    assert "unreachable" in on(one, f"{reach} 192.0.2.1 80 2>&1 | tail -1")
    assert not on(one, "cat /etc/resolv.conf 2>/dev/null", check=False)


def test_walls_of_units_hold_inside(lab: Lab, one: LabHost) -> None:
    two = next(host for host in lab.hosts() if host.name == "two")
    code = f"import socket; socket.create_connection(('{two.inner_address}', 22), 3)"
    run = "systemd-run --quiet --wait --pipe"
    assert on(one, f'{run} python3 -c "{code}"; echo $?') == "0"
    assert on(one, f'{run} -p IPAddressDeny=any python3 -c "{code}" 2>/dev/null; echo $?').endswith("1")
    assert on(one, f"{run} -p DevicePolicy=strict sh -c 'echo > /dev/zero' 2>/dev/null; echo $?") != "0"


def test_the_machine_is_not_touched_by_what_a_host_does(lab: Lab, one: LabHost) -> None:
    before = machine()
    on(one, "nft add table inet mine; sysctl -q -w net.ipv4.ip_forward=1; chmod 666 /dev/fuse", check=False)
    assert "mine" in on(one, "nft list tables")
    on(one, "sysctl -q -w kernel.panic=77 vm.swappiness=3", check=False)
    lab.up({"three": "debian-12"})
    lab.remove("three")
    assert machine() == before
    assert [host.name for host in lab.hosts()] == ["one", "two"]


def test_make_believe_cards_are_seen_inside(lab: Lab, one: LabHost) -> None:
    card = {"vendor": "nvidia", "name": "NVIDIA GeForce RTX 3090", "vram_mib": 24576, "compute_capability": "8.6"}
    cards = [Gpu(index=at, bus_id=f"00000000:0{at + 1}:00.0", source="profile", **card) for at in range(2)]
    lab.put_gpus("one", cards)
    lab.put_gpus("one", cards)
    asked = on(one, "nvidia-smi --query-gpu=name,pci.bus_id --format=csv,noheader")
    assert asked.splitlines() == [f"{gpu.name}, {gpu.bus_id}" for gpu in cards]
    assert "CUDA Version: 13.0" in on(one, "nvidia-smi")
    code = "import ctypes; print(ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2())"
    assert on(one, f'python3 -c "{code}"') == "0"


def test_a_host_that_reboots_comes_back(lab: Lab, one: LabHost) -> None:
    on(one, "touch /root/kept; systemctl reboot", check=False)
    boot = "cat /proc/1/stat | cut -d' ' -f22"
    assert until(lambda: on(one, f"systemctl is-system-running && test -e /root/kept && {boot}", check=False) != "")
    assert [host.name for host in lab.hosts()] == ["one", "two"]


@pytest.mark.parametrize("victim", ["supervisor", "its parent"])
def test_killed_nothing_is_left_and_up_comes_up_clean(tmp_path: Path, victim: str) -> None:
    root = tmp_path / "lab"
    lab = Lab(root)
    members, theirs = set(), set()
    try:
        host = lab.up({"a": "debian-12"})[0]
        port = lab.forward("a", 8080)
        on(host, "echo kept > /root/kept; sync")
        pid = lab.supervisor()
        assert pid is not None
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        members = family(parent)
        theirs = set().union(*[spaces(member) for member in members]) - spaces("self")
        assert len(members) > 5
        assert len(theirs) >= 5
        os.kill(pid if victim == "supervisor" else parent, signal.SIGKILL)
        assert until(lambda: not left_of(root, members, theirs)), left_of(root, members, theirs)
        assert lab.hosts() == ()
        assert lab.supervisor() is None
        again = lab.up({"a": "debian-12"})[0]
        members |= family(lab.supervisor() or 0)
        assert (again.ssh_port, lab.forward("a", 8080)) == (host.ssh_port, port)
        assert on(again, "cat /root/kept") == "kept"
    finally:
        lab.down()
    assert until(lambda: not left_of(root, members, theirs)), left_of(root, members, theirs)
    assert not root.exists()
    group = client.group_of(root)
    assert not [hierarchy for hierarchy in cgroups.hierarchies() if (hierarchy / group).exists()]


def test_two_labs_live_side_by_side_and_the_command_may_end(lab: Lab, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    code = "import sys; from pathlib import Path; from orchestrator.lab import Lab\n"
    code += "Lab(Path(sys.argv[1])).up({'one': 'debian-12'})"
    other = Lab(root)
    try:
        subprocess.run([sys.executable, "-c", code, str(root)], cwd=Path(__file__).resolve().parents[2], check=True)
        assert [host.name for host in other.hosts()] == ["one"]
        assert other.hosts()[0].ssh_port != lab.hosts()[0].ssh_port
    finally:
        other.down()
    assert [host.name for host in lab.hosts()] == ["one", "two"]


def test_down_keeps_what_others_put_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "deploy.lock").write_text("{}")
    lab = Lab(tmp_path)
    try:
        lab.up({"a": "debian-12"})
    finally:
        lab.down()
    assert [file.name for file in tmp_path.iterdir()] == ["deploy.lock"]
