"""The containers of the sandboxes, by Docker's own command: what each may do, see and take is said here and only here.

Docker gives a container without any network; what network it has, ``network`` gives it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from network import Failed, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CURRENT = Path("/opt/agentrig/current")
#: Which system calls an agent has. Docker's own list, as of 20.10, lets it have io_uring and the hypervisor's sockets.
SYSTEM_CALLS = CURRENT / "sandbox/seccomp.json"
IMAGE_LINK = CURRENT / "artefacts/sandbox-image"
#: Letters of an image's key that its tag has.
TAG = 16
#: Where the copy lies inside, and the agent's home.
WORK = "/agent"
REPOSITORY, HOME = f"{WORK}/repository", f"{WORK}/home"
#: The name that every sandbox has for itself.
HOSTNAME = "sandbox"
#: How often what multiplies is killed before it is left to its limits.
ROUNDS = 50
#: Microseconds of the kernel's share-out of processors, its own default. Said as a quota, Docker leaves the limit
#: out on a host whose kernel has none, as it does with memory, where it would refuse ``--cpus``; ``held`` tells then.
PERIOD = 100000
#: The variable that every program of one session bears, so that all of them can be ended together.
SESSION = "AGENTRIG_SESSION"


def image() -> str:
    """Give the image of the present release; raises ``Failed`` where it has none."""
    try:
        key = IMAGE_LINK.resolve(strict=True).name
    except OSError:
        raise Failed("the release has no image for sandboxes") from None
    return f"agentrig-sandbox:{key[:TAG]}"


def docker(*words: str, fine: tuple[int, ...] = (0,)) -> str:
    """Run one command of Docker; raises ``Failed``."""
    return run("docker", *words, fine=fine)


def inspected(container: str) -> dict[str, Any] | None:
    """Give what Docker knows of a container; None where there is none. Raises ``Failed`` where Docker is down."""
    listed = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"name=^/{container}$").split()
    if not listed:
        return None
    found = json.loads(docker("inspect", listed[0]))
    return found[0] if found else None


def process_of(found: Mapping[str, Any] | None) -> int | None:
    """Give a container's first process as the host counts; None where it does not run."""
    state = found.get("State", {}) if found else {}
    return int(state["Pid"]) if state.get("Running") and state.get("Pid") else None


def start(record: Mapping[str, Any], folder: Path, limits: Mapping[str, Any], agents: list[str]) -> int:
    """Make a sandbox's container anew from the present release, and give its first process; raises ``Failed``."""
    docker("rm", "--force", record["container"], fine=(0, 1))
    docker("run", *arguments(record, limits, mounts(folder, agents)), image(), "sleep", "infinity")
    process = process_of(inspected(record["container"]))
    if process is None:
        raise Failed("the container ended as soon as it was started")
    return process


def mounts(folder: Path, agents: list[str]) -> list[tuple[str, str, bool]]:
    """Give what of the host is seen inside: (there, here, may be written)."""
    found = [
        (str(folder / "work"), WORK, True),
        (str(folder / "passwd"), "/etc/passwd", False),
        (str(folder / "group"), "/etc/group", False),
        (str(folder / "agents"), f"{CURRENT}/agents", False),
        (str(folder / "token"), f"{CURRENT}/agents/tokens/agent", False),
    ]
    for agent in agents:
        program = (CURRENT / "artefacts" / agent).resolve(strict=True)
        found += [(str(program), str(program), False), (str(program), f"{CURRENT}/artefacts/{agent}", False)]
    return found


def arguments(record: Mapping[str, Any], limits: Mapping[str, Any], seen: list[tuple[str, str, bool]]) -> list[str]:
    """Give the words of ``docker run`` for a sandbox. Pure."""
    words = [
        *("--detach", "--init", "--pull=never", "--restart=no", "--network=none"),
        f"--hostname={HOSTNAME}",
        *(f"--name={record['container']}", f"--label=agentrig.sandbox={record['id']}"),
        *(f"--label=agentrig.release={record['release']}", f"--user={record['uid']}:{record['uid']}"),
        *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--ipc=private"),
        f"--security-opt=seccomp={SYSTEM_CALLS}",
        *("--sysctl=net.ipv6.conf.all.disable_ipv6=1", f"--workdir={WORK}", "--log-driver=none"),
        *(f"--memory={limits['memory_mib']}m", f"--memory-swap={limits['memory_mib']}m"),
        *(f"--cpu-period={PERIOD}", f"--cpu-quota={limits['cpus'] * PERIOD:.0f}", "--oom-score-adj=500"),
        f"--pids-limit={limits['processes']}",
        *(f"--ulimit=nofile={limits['open_files']}:{limits['open_files']}", "--ulimit=core=0:0"),
        *(f"--ulimit=nproc={limits['processes']}:{limits['processes']}",),
        f"--ulimit=fsize={limits['disk_mib'] << 20}:{limits['disk_mib'] << 20}",
        f"--tmpfs=/tmp:rw,nosuid,nodev,exec,size={limits['memory_mib'] // 4}m,mode=1777",
        f"--env=HOME={HOME}",
    ]
    for there, here, written in seen:
        words.append(f"--mount=type=bind,source={there},target={here}" + ("" if written else ",readonly"))
    return words


def command(record: Mapping[str, Any], argv: list[str], session: str, *, terminal: bool, where: str) -> list[str]:
    """Give the command that runs a program inside as the agent. Pure."""
    environment = {"HOME": HOME, SESSION: session, "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    words = ["docker", "exec", "--interactive", *(["--tty"] if terminal else [])]
    words += [f"--env={name}={value}" for name, value in sorted(environment.items())]
    words += ["--env=TERM=xterm-256color"] if terminal else []
    return [*words, f"--workdir={where}", record["container"], *argv]


def end_session(session: str) -> None:
    """Kill every program that bears a session's mark, until there is none."""
    mark = f"{SESSION}={session}".encode()
    _kill_until_none(lambda: [pid for pid in _processes() if mark in _environment(pid)])


def end_all_but(process: int, container: str) -> None:
    """Kill every program of a container but its first and what that was started for, until there is none."""
    keep = {process, *_children(process)}
    keep = {pid for pid in keep if pid == process or _words(pid) == [b"sleep", b"infinity"]}
    _kill_until_none(lambda: [pid for pid in _inside(container) if pid not in keep])


def _inside(container: str) -> list[int]:
    listed = docker("top", container, "-eo", "pid", fine=(0, 1)).split()[1:]
    return [int(word) for word in listed if word.isdecimal()]


def _kill_until_none(found: Callable[[], list[int]]) -> None:
    for _ in range(ROUNDS):
        if not (processes := found()):
            return
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _words(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/cmdline").rstrip(b"\0").split(b"\0")


def _environment(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/environ").split(b"\0")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
