"""A lab's host seen from outside: its files, its processes, its network, also while SSH does not answer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.lab import Lab, cgroups
from orchestrator.lab.client import group_of

OURS = "opt/agentrig"
#: Drops, without a word, what goes to or comes from the host's SSH server: a cable that was pulled.
CUT = "add table inet cut; add chain inet cut in {{ type filter hook input priority -200; }}; {rules}"
_RULES = "add rule inet cut in tcp dport 22 drop; add rule inet cut in tcp sport 22 drop"


@dataclass(frozen=True)
class Inside:
    """One host of a lab."""

    lab: Path
    name: str

    def processes(self) -> list[Path]:
        """Give the host's processes, as /proc has them here."""
        group = f"{group_of(self.lab)}/{self.name}"
        pids = {pid for hierarchy in cgroups.hierarchies() for pid in cgroups.members(hierarchy / group)}
        return [Path("/proc", str(pid)) for pid in sorted(pids)]

    def init(self) -> Path | None:
        """Give the host's first process; None while it is down."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                status = (process / "status").read_text(encoding="utf-8")
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                if numbers[-1] == "1" and (process / "comm").read_text(encoding="utf-8").strip() == "systemd":
                    return process
        return None

    def wait(self, seconds: float = 60) -> Path:
        """Give the host's first process, once it is there and SSH answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for host in [one for one in Lab(self.lab).hosts() if one.name == self.name]:
                settled = [*host.ssh(), "systemctl is-system-running --wait"]
                done = subprocess.run(settled, capture_output=True, stdin=subprocess.DEVNULL, check=False)
                if done.returncode != 255 and (init := self.init()):
                    return init
            time.sleep(0.2)
        raise TimeoutError(f"{self.name} does not answer")

    def cut(self, *, off: bool) -> None:
        """Cut the way that SSH takes into the host, or mend it. Nothing is told to either end."""
        rules = CUT.format(rules=_RULES) if off else "delete table inet cut"
        subprocess.run(["nsenter", f"--net={self.up_now()}/ns/net", "nft", rules], check=True)

    def reboot(self) -> None:
        """Start the host anew as its reset button does, and wait until it is there again."""
        before = self.up_now()
        self.run("systemctl reboot --force --force")
        while before.exists():
            time.sleep(0.05)
        self.wait()

    def run(self, line: str) -> None:
        """Run a shell line on the host without SSH; how it goes is not looked at."""
        enter = ["nsenter", f"--target={self.up_now().name}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        subprocess.run([*enter, "--", "sh", "-c", line], capture_output=True, check=False)

    def up_now(self) -> Path:
        """Give the host's first process; raises where it is down."""
        init = self.init()
        if init is None:
            raise TimeoutError(f"{self.name} is down")
        return init


@dataclass(frozen=True)
class Behind:
    """What stands behind ``current`` at one moment: the release, the digest of all of it, when it was pointed at."""

    release: str
    digest: str


def behind(root: Path) -> Behind | None:
    """Read what ``current`` of a host points at; None where it points at nothing yet. ``root`` is its root folder."""
    try:
        target = str((root / OURS / "current").readlink())
    except OSError:
        return None
    return Behind(target.removeprefix("releases/"), digest(root, root / OURS / target))


def digest(root: Path, release: Path) -> str:
    """Give the sha256 of a release: every path of it, content, and all that its links lead to, by name and size."""
    whole = hashlib.sha256()
    for path in sorted(release.rglob("*")):
        whole.update(f"{path.relative_to(release)}\n".encode())
        if path.is_symlink():
            target = str(path.readlink())
            whole.update(f"{target}\n{_look(root / target.lstrip('/'))}\n".encode())
        elif path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


def _look(artefact: Path) -> str:
    """Give how many files an artefact has and how large they are: reading the weights would take too long."""
    if artefact.is_file():
        return f"1 {artefact.stat().st_size}"
    sizes = [os.lstat(Path(folder, name)).st_size for folder, _, names in os.walk(artefact) for name in names]
    return f"{len(sizes)} {sum(sizes)}"
