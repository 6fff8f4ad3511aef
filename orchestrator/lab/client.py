"""How a command speaks to a lab's supervisor, and how it starts one that outlives it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from orchestrator.errors import LabError, PrivilegeError
from orchestrator.lab import cgroups
from orchestrator.lab.commands import environment

#: ``--kill-child``: the end of unshare is the end of everything in its namespaces.
_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")

_START_SECONDS = 20.0
_END_SECONDS = 20.0


def group_of(root: Path) -> str:
    """Give the name of a lab's control group; two labs never share one."""
    return cgroups.PREFIX + hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def connect(root: Path) -> socket.socket | None:
    """Reach the supervisor of a lab; None where none lives."""
    try:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    reached = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A socket's address holds 107 bytes and a folder's path may be longer.
        reached.connect(f"/proc/self/fd/{folder}/control.sock")
    except PermissionError:
        reached.close()
        raise PrivilegeError(
            "this lab belongs to root", where=str(root), do="run the same command with sudo -E in front"
        ) from None
    except OSError:
        reached.close()
        return None
    finally:
        os.close(folder)
    return reached


def pid_of(root: Path) -> int | None:
    """Give the process id of the supervisor as this process counts; None where none lives."""
    with contextlib.ExitStack() as stack:
        if (reached := connect(root)) is None:
            return None
        stack.enter_context(reached)
        credentials = reached.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])


def ask(root: Path, **request: Any) -> dict[str, Any] | None:
    """Ask the supervisor; None where none lives. Raises ``LabError`` with what it complains of."""
    if (reached := connect(root)) is None:
        return None
    with reached, reached.makefile("rwb") as channel:
        channel.write(json.dumps(request).encode() + b"\n")
        channel.flush()
        line = channel.readline()
    if not line:
        raise LabError("the lab's supervisor ended in the middle of a request", where=str(root / "supervisor.log"))
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        error = reply["error"]
        raise LabError(error["what"], where=error.get("where", ""), do=error.get("do", ""))
    return reply


def start(root: Path) -> None:
    """Start the supervisor of a lab in namespaces of its own; it lives until it is told to end."""
    hears, tells = os.pipe()
    outer = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    package = str(Path(__file__).resolve().parent.parent.parent)
    argv = [
        *[*_NAMESPACES, sys.executable, "-m", "orchestrator.lab.supervisor", f"--root={root}"],
        *[f"--group={group_of(root)}", f"--outer-network={outer}", f"--ready={tells}"],
    ]
    log = root / "supervisor.log"
    try:
        with log.open("wb") as file:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd="/",
                env=environment(PYTHONPATH=package),
                pass_fds=(outer, tells),
                start_new_session=True,
            )
    finally:
        os.close(tells)
        os.close(outer)
    threading.Thread(target=process.wait, name="lab-supervisor", daemon=True).start()
    with os.fdopen(hears, "rb") as channel:
        readable, _, _ = select.select([channel], [], [], _START_SECONDS)
        if not readable or channel.readline() != b"ready\n":
            process.kill()
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise LabError(f"the lab's supervisor did not start: {said[-1] if said else 'silence'}", where=str(log))


def end(root: Path) -> None:
    """End the supervisor of a lab, by asking and then by force, and remove the lab's control groups."""
    pid = pid_of(root)
    if pid is not None:
        with contextlib.suppress(LabError):
            ask(root, op="down")
        deadline = time.monotonic() + _END_SECONDS
        while _lives(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            if _lives(pid):
                os.kill(pid, signal.SIGKILL)
    if not cgroups.clear(group_of(root)):
        raise LabError("the lab's control groups could not be removed", where=group_of(root))
    cgroups.sweep()


def _lives(pid: int) -> bool:
    """Say whether a process lives; a dead one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in {"Z", "X"}
