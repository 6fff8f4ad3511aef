"""`make up` and `make check` from a clone, on fresh hosts of other systems: each with its own lab host inside.

The hosts are the lab's. What a lab host has not, and these are given: a folder of this machine's disk, since no overlay
lies over another, and a proxy that leads to the servers of packages alone. Whose they are is read from this machine's
and the host's apt sources, from pip's settings and from the lock of the development environment.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from orchestrator.lab import Lab, base
from orchestrator.lab.namespaces import Network
from tests.relay import Relay, relaying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.lab import LabHost
    from tests.soak.conftest import Record

ROOT = Path(__file__).resolve().parents[2]
NAME = "outer"
#: The proxy's port on the host's 127.0.0.1.
PORT = 3128
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
#: Numbers of system calls, the same on every architecture since Linux 5.2 (asm-generic/unistd.h).
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _CLONE_NEWNS = -100, 1, 4, 0x20000


class Outer(NamedTuple):
    """A host that is a control machine itself, and its folder on this machine's disk, which it has as ``/desk``."""

    host: LabHost
    work: Path

    def run(self, script: str) -> str:
        """Run a script there; gives what it printed, and it must succeed."""
        command = [*self.host.ssh(), f"bash -eo pipefail -c {shlex.quote(PROXIED + script)}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        sys.stdout.write(f"$ {script}\n{done.stdout}{done.stderr}\n")
        assert done.returncode == 0, f"exit {done.returncode}: {script}"
        return done.stdout


#: How the host is told of the proxy and of this machine's certificates, each tool by its own name for it.
PROXIED = "".join(
    f"export {name}={value}; "
    for name, value in {
        **dict.fromkeys(("http_proxy", "https_proxy"), f"http://127.0.0.1:{PORT}"),
        "no_proxy": "127.0.0.1,localhost",
        **dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), CERTIFICATES),
        "DEBIAN_FRONTEND": "noninteractive",
        "AGENTRIG_STATE": "/desk/state",
        "XDG_CACHE_HOME": "/desk/cache",
    }.items()
)


@pytest.fixture
def outer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outer]:
    """A host of the system that the case names."""
    lab = Lab(tmp_path / "lab")
    (host,) = lab.up({NAME: request.param})
    try:
        work = tmp_path / "work"
        work.mkdir()
        bind(work, "/desk", first_process(lab))
        yield Outer(host, work)
    finally:
        lab.down()


def first_process(lab: Lab) -> int:
    """Give the process that the host has as its first: three pid namespaces deep, and number 1 in the last."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            numbers = re.search(r"^NSpid:\s+(.*)$", status.read_text(), re.MULTILINE)
            parent = re.search(r"^PPid:\s+(\d+)$", status.read_text(), re.MULTILINE)
            starter = Path("/proc", parent[1], "cmdline").read_bytes() if parent else b""
        except OSError:
            continue
        if numbers and numbers[1].split()[-1] == "1" and f"--machine={NAME}".encode() in starter.split(b"\0"):
            holder = Path("/proc", parent[1] if parent else "", "cgroup").read_text()
            if lab_group(lab) in holder:
                return int(status.parent.name)
    raise AssertionError("the host has no first process")


def lab_group(lab: Lab) -> str:
    """Give the control group of the lab's own processes, by its supervisor's."""
    words = Path("/proc", str(lab.supervisor()), "cgroup").read_text()
    found = re.search(r"agentrig-lab-[0-9a-f]+", words)
    assert found
    return found[0]


def bind(folder: Path, inside: str, pid: int) -> None:
    """Show a folder of this machine inside the mounts of a process (open_tree(2), move_mount(2)); in a child."""
    child = os.fork()
    if child == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            tree = libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(folder), _OPEN_TREE_CLONE)
            mounts, root = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY), os.open(f"/proc/{pid}/root", os.O_RDONLY)
            assert tree >= 0
            assert libc.setns(mounts, _CLONE_NEWNS) == 0
            os.fchdir(root)
            os.chroot(".")
            Path(inside).mkdir(parents=True)
            assert libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(inside), _MOVE_MOUNT_F_EMPTY_PATH) == 0
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must end here, whatever it was
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"{folder} is not shown as {inside}"


def servers(outer: Outer) -> set[str]:
    """Give the servers of packages: those of both machines' apt, of pip, and of what is locked for development."""
    show = "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || :"
    texts = [outer.run(show), subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True).stdout]
    texts.append((ROOT / "uv.lock").read_text(encoding="utf-8"))
    pip = [sys.executable, "-m", "pip", "config", "list"]
    texts.append(subprocess.run(pip, capture_output=True, text=True, check=True).stdout)
    found = (urlsplit(url).hostname for text in texts for url in re.findall(r"https?://[^\s\"'<>]+", text))
    return {name for name in found if name}


@pytest.mark.parametrize("outer", ["ubuntu-24.04", "debian-13"], indirect=True)
def test_make_up_and_make_check_from_a_clone(outer: Outer, record: Record) -> None:
    prepare(outer)
    pid = first_process(Lab(outer.work.parent / "lab"))
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    network = Network(descriptor)
    listening = network.listener(PORT)
    listening.settimeout(None)
    with relaying(Relay(servers(outer)), listening) as relay:
        outer.run("apt-get update -q && apt-get install -y -q --no-install-recommends git make python3-venv")
        outer.run("git config --global --add safe.directory '*' && git clone -q /desk/origin /desk/clone")
        outer.run("cd /desk/clone && git rm -rq . && tar -xf /desk/tree.tar --no-same-owner && git add --all")
        record.figures(make_up_s=timed(outer, "cd /desk/clone && make up"))
        record.figures(make_check_s=timed(outer, "cd /desk/clone && make check"))
        asked = list(relay.refused)
        outer.run("! curl --silent --fail --max-time 5 http://elsewhere.invalid/")
        outer.run("! curl --silent --fail --max-time 5 --noproxy '*' http://192.0.2.1/")
    network.close()
    os.close(descriptor)
    assert asked == [], "only the servers of packages were asked"
    assert relay.refused == ["elsewhere.invalid"], "another one is refused, and there is no way past the proxy"
    inside = outer.run("cd /desk/clone && .venv/bin/deploy lab list && .venv/bin/deploy status --lab --check")
    assert "lab-cpu" in inside
    record.says(accepted=bool(list(outer.work.glob("state/lab/rigs/lab-cpu/accepted.json"))), nested=True)
    assert list(outer.work.glob("state/lab/rigs/lab-cpu/accepted.json"))


def prepare(outer: Outer) -> None:
    """Put into the host's folder what it clones, this machine's certificates, and the base tree of its lab host."""
    git = ["git", "-C", str(ROOT)]
    subprocess.run([*git, "clone", "--quiet", "--bare", str(ROOT), str(outer.work / "origin")], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    there = [name for name in listed.stdout.split("\0") if name and os.path.lexists(ROOT / name)]
    tar = ["tar", "--create", f"--file={outer.work / 'tree.tar'}", f"--directory={ROOT}", "--null", "--files-from=-"]
    subprocess.run(tar, input="\0".join(there), text=True, check=True)
    bases = outer.work / "cache/agentrig/bases"
    bases.mkdir(parents=True)
    for file in base.cache().glob("debian-12-*"):
        shutil.copy(file, bases)
    if CERTIFICATES.is_file():
        shutil.copy(CERTIFICATES, outer.work / "certificates")
        outer.run(f"cp /desk/certificates {CERTIFICATES}")


def timed(outer: Outer, script: str) -> float:
    """Run a script there; gives its seconds."""
    began = time.monotonic()
    outer.run(script)
    return round(time.monotonic() - began, 1)
