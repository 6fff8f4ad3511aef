"""The commands that the lab calls, the packages they come from, and how they are run."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from orchestrator.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Each command with the apt package that brings it.
PACKAGES = {
    "debootstrap": "debootstrap",
    "gcc": "gcc libc6-dev",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "tar": "tar",
    "unshare": "util-linux",
    "zstd": "zstd",
}

#: What a lab cannot do without.
FOR_HOSTS = ("debootstrap", "ip", "mount", "nsenter", "ssh", "ssh-keygen", "systemd-nspawn", "tar", "unshare", "zstd")
#: What make-believe cards need besides.
FOR_CARDS = ("gcc",)


def environment(**more: str) -> dict[str, str]:
    """Give this process's environment with the administrator's folders on PATH, and ``more``."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **more}


def need(commands: Sequence[str]) -> None:
    """Refuse to go on without these commands; raises ``UsageError`` that names the packages."""
    path = environment()["PATH"]
    missing = [command for command in commands if shutil.which(command, path=path) is None]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[command] for command in missing))
        raise UsageError(
            f"the lab needs commands that this machine does not have: {', '.join(missing)}",
            do=f"apt-get install {packages}",
        )


def run(
    argv: Sequence[str],
    *,
    what: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end and give its output; raises ``LabError`` with its last line of complaint."""
    done = subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        env=environment(**(variables or {})),
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LabError(f"{what}: {said[-1] if said else f'exit status {done.returncode}'}", where=argv[0])
    return done.stdout
