"""One SSH connection a run: how Ansible is told to keep it, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import PrivilegeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.inventory import Host

#: A master that nobody ended (the command was killed) ends itself after so many seconds without work.
PERSIST_SECONDS = 30
CONNECT_SECONDS = 15
#: A connection whose other end says nothing for so long is given up: a link that was cut tells nobody (ssh_config(5)).
ALIVE_SECONDS, ALIVE_TIMES = 5, 3
#: What Ansible calls the one host of a run: it reads names as patterns, and a host may be called anything.
ALIAS = "host"


@contextlib.contextmanager
def connection(host: Host) -> Iterator[dict[str, str]]:
    """Give the environment that makes Ansible keep one connection; end its master when the block ends."""
    if host.connection == "local":
        yield {}
        return
    folder = _socket_folder()
    socket = folder / "%C"
    options = [f"-o{name}={value}" for name, value in _options(host, socket).items()]
    try:
        yield {"ANSIBLE_SSH_ARGS": shlex.join(options), "ANSIBLE_SSH_CONTROL_PATH": str(socket).replace("%", "%%")}
    finally:
        _end(host, folder)


def _options(host: Host, socket: Path) -> dict[str, str]:
    options = {
        "ControlMaster": "auto",
        "ControlPersist": str(PERSIST_SECONDS),
        "ControlPath": str(socket),
        "ConnectTimeout": str(CONNECT_SECONDS),
        "BatchMode": "yes",
        "ServerAliveInterval": str(ALIVE_SECONDS),
        "ServerAliveCountMax": str(ALIVE_TIMES),
        "PreferredAuthentications": "publickey",
    }
    return options | host.ssh_files()


def _socket_folder() -> Path:
    """Give a folder with a short name for the master's socket; those of commands that were killed are swept."""
    for stale in Path("/tmp").glob("agentrig-ssh-*"):  # noqa: S108 - only this user's own are touched
        with contextlib.suppress(OSError, ValueError):
            if stale.stat().st_uid == os.geteuid() and not Path("/proc", str(int(stale.name.split("-")[2]))).exists():
                shutil.rmtree(stale)
    prefix = socket_prefix()
    return Path(tempfile.mkdtemp(prefix=prefix.name, dir=prefix.parent))


def socket_prefix() -> Path:
    """Give how the paths of this process' socket folders begin."""
    return Path("/tmp") / f"agentrig-ssh-{os.getpid()}-"  # noqa: S108 - mkdtemp makes the folders, for us alone


def _end(host: Host, folder: Path) -> None:
    """End the master, and take its folder away."""
    for path in folder.iterdir():
        command = ["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", host.address]
        subprocess.run(command, capture_output=True, check=False, timeout=10)
    shutil.rmtree(folder, ignore_errors=True)


def inventory(host: Host) -> dict[str, Any]:
    """Give Ansible's inventory of one host; raises PrivilegeError where this user may not become root.

    Its key is told to ssh alone (see ``_options``): Ansible would quote the path otherwise than ssh reads it.
    """
    variables: dict[str, Any] = {
        "ansible_connection": host.connection,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_become": needs_root(host),
    }
    if host.connection == "ssh":
        variables |= {"ansible_host": host.address, "ansible_port": host.port, "ansible_user": host.user}
    elif variables["ansible_become"]:
        _ask_sudo(host)
    return {"all": {"hosts": {ALIAS: variables}}}


def needs_root(host: Host) -> bool:
    """Tell whether Ansible must become root on the host."""
    return host.become or (os.geteuid() != 0 if host.connection == "local" else host.user != "root")


def no_root(host: Host, said: str) -> PrivilegeError:
    """Give the error for a user who may not become root."""
    user = host.user if host.connection == "ssh" else "you"
    return PrivilegeError(
        f"no right to become root: {said}",
        where=host.name,
        do=f"run it as root, or let {user} use sudo without a password there",
    )


def _ask_sudo(host: Host) -> None:
    try:
        done = subprocess.run(["sudo", "-n", "true"], capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        raise no_root(host, "sudo is not installed") from None
    if done.returncode:
        raise no_root(host, (done.stderr.strip().splitlines() or ["sudo says no"])[-1])
