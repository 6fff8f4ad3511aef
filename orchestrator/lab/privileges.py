"""What a lab needs to be allowed, asked by trying it: namespaces, mounts, overlayfs, control groups."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from orchestrator.lab import cgroups
from orchestrator.lab.commands import environment

_HOW = "in docker or podman start the container with --privileged; in LXC use a nested, privileged container"

#: Bits of ``CapEff`` (linux/capability.h) without which a host cannot be made.
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}


def parse_capabilities(status: str) -> tuple[str, ...]:
    """Give the capabilities that are missing, from the text of ``/proc/self/status``."""
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    return tuple(name for name, bit in _CAPABILITIES.items() if not held >> bit & 1)


def missing_privileges(folder: Path | None = None) -> tuple[str, ...]:
    """Say what this process is not allowed that a lab needs, a sentence each; empty when nothing is missing.

    ``folder`` is where the lab's hosts would lie (any folder above it that exists is tried).
    """
    if os.geteuid() != 0:
        return ("the lab makes namespaces and mounts, which only root may: run it as root or with sudo",)
    missing = parse_capabilities(Path("/proc/self/status").read_text(encoding="utf-8"))
    if missing:
        return (f"root lacks {', '.join(missing)} here: {_HOW}",)
    return (*_without_namespaces(), *_without_groups(), *_without_overlay(folder))


def _without_namespaces() -> tuple[str, ...]:
    """Try the namespaces that the supervisor lives in."""
    tried = _try(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "true"])
    return (f"new namespaces are refused ({tried}): {_HOW}",) if tried else ()


def _without_groups() -> tuple[str, ...]:
    """Try to make a control group in each hierarchy, and look for version 2, which systemd in a host uses."""
    mounted = cgroups.hierarchies()
    if not any((hierarchy / "cgroup.controllers").exists() for hierarchy in mounted):
        return (f"no version 2 control groups are mounted below /sys/fs/cgroup: {_HOW}",)
    try:
        for group in cgroups.make(f"{cgroups.PREFIX}try-{os.getpid()}"):
            with contextlib.suppress(FileNotFoundError):  # another lab may have swept it
                group.rmdir()
    except OSError as error:
        return (f"control groups cannot be made ({error.strerror} at {error.filename}): {_HOW}",)
    return ()


def _without_overlay(folder: Path | None) -> tuple[str, ...]:
    """Try an overlay where the hosts would lie, inside a mount namespace that goes with it."""
    place = folder or Path(tempfile.gettempdir())
    while not place.is_dir():
        place = place.parent
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".agentrig-try-", dir=place))
    except OSError as error:
        return (
            f"the lab's folder cannot be written ({error.strerror} at {place}): set AGENTRIG_STATE to one that can",
        )
    try:
        for name in ("lower", "upper", "work", "merged"):
            (scratch / name).mkdir()
        mount = "mount -t overlay agentrig-try -o lowerdir=lower,upperdir=upper,workdir=work merged"
        tried = _try(["unshare", "--mount", "sh", "-c", mount], cwd=scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not tried:
        return ()
    where = "set AGENTRIG_STATE to a folder on ext4, xfs, btrfs or tmpfs (in a container: a volume)"
    return (f"overlayfs is refused below {place} ({tried}): {where}, or load the kernel module overlay",)


def _try(argv: list[str], cwd: Path | None = None) -> str:
    """Run a command; gives its last line of complaint, or nothing when it went well."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=environment(), check=False)
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()
    return said[-1] if said else f"exit status {done.returncode}"
