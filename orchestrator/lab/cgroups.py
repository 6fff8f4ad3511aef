"""The control groups of a lab: made under each hierarchy that systemd needs, emptied and removed afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

PREFIX = "agentrig-lab-"


def parse_mountinfo(text: str) -> tuple[Path, ...]:
    """Give the mount points of systemd's own hierarchy (version 1) and of version 2, each once."""
    found: dict[str, Path] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        if len(words) < 5 or len(kind) < 3:  # noqa: PLR2004 - the fifth word is the mount point
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "name=systemd" in kind[2].split(",")):
            found.setdefault(kind[0], Path(words[4]))
    return tuple(found.values())


def hierarchies() -> tuple[Path, ...]:
    """Give the hierarchies of this machine in which a host needs a group of its own."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def make(name: str) -> tuple[Path, ...]:
    """Make the group ``name`` in every hierarchy."""
    groups = tuple(hierarchy / name for hierarchy in hierarchies())
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    return groups


def enter(name: str) -> None:
    """Move this process into the group ``name`` of every hierarchy."""
    for attempt in range(3):
        try:
            for group in make(name):
                (group / "cgroup.procs").write_text("0", encoding="ascii")
        except FileNotFoundError:
            # Another lab swept the group while it was still empty.
            if attempt == 2:  # noqa: PLR2004 - the last of three
                raise
        else:
            return


def members(group: Path) -> set[int]:
    """Give the process ids in a group and below it, as this process's pid namespace counts them."""
    found: set[int] = set()
    for folder, _, files in os.walk(group):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                found |= {int(word) for word in (Path(folder) / "cgroup.procs").read_text(encoding="ascii").split()}
    return found - {0}


def clear(name: str, *, seconds: float = 10.0) -> bool:
    """Kill what is in the group ``name`` of every hierarchy and remove it; say whether it is gone."""
    deadline = time.monotonic() + seconds
    groups = [group for group in (hierarchy / name for hierarchy in hierarchies()) if group.is_dir()]
    while groups:
        for group in groups:
            for pid in members(group):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _remove(group)
        groups = [group for group in groups if group.is_dir()]
        if time.monotonic() > deadline:
            break
        if groups:
            time.sleep(0.02)
    return not groups


def sweep() -> None:
    """Remove the groups of labs that no process is in any more; a living lab's supervisor is always in its own."""
    for hierarchy in hierarchies():
        for group in hierarchy.glob(f"{PREFIX}*"):
            if not members(group):
                _remove(group)


def _remove(group: Path) -> None:
    """Remove a group and those below it, deepest first, as far as they are empty."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
