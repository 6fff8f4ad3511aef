"""What a fleet costs: a cold `up` of three hosts beside a cold `up` of one, in turn, in one run.

    python benchmarks/fleet.py [--rounds 3] [--hosts 3]

Cold means no store, no lab host and no lock: each run has a state of its own. The caches of pip and apt and the base
tree are warm for both. The hosts are alike: Debian 12, the profile `cpu` in a window of 2048 tokens. Prints the seconds
of each round by phase (the slowest host's), the processor seconds that the run and its hosts took, and the ratio of
the medians. Processor seconds by the number of processors are what a run takes at least; unlike wall seconds they stay
the same on a machine that others use too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestrator.lab import Lab

DEPLOY = str(Path(sys.executable).parent / "deploy")
PHASES = ("detect", "lock", "apply", "verify")
TICKS = os.sysconf("SC_CLK_TCK")


def fleet(folder: Path, count: int) -> Path:
    """Write an inventory of so many hosts alike."""
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles/small.yml").write_text("extends: cpu\nllm: {context_tokens: 2048}\n", encoding="utf-8")
    hosts: dict[str, dict[str, str]] = {f"rig-{number + 1}": {} for number in range(count)}
    listing = {"all": {"vars": {"agentrig_profile": "small"}, "hosts": hosts}}
    (folder / "hosts.yml").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def ours() -> float:
    """Give the processor seconds of all commands so far that have ended, and of what they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_hosts(state: Path) -> float:
    """Give the processor seconds of the lab's hosts: their processes, and those that ended there (proc(5))."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
            seconds[int(path.parent.name)] = sum(map(int, fields[11:15])) / TICKS
    family = {Lab(state / "lab").supervisor()}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(seconds.get(one, 0.0) for one in family if one)


def once(count: int) -> dict[str, float]:
    """Bring so many hosts up from nothing; give wall seconds, those of each phase, and processor seconds."""
    folder = Path(tempfile.mkdtemp(prefix="agentrig-fleet-"))
    environment = os.environ | {"AGENTRIG_STATE": str(folder / "state")}
    inventory = fleet(folder / "inventory", count)
    try:
        began, worked = time.monotonic(), ours()
        command = [DEPLOY, "up", "-i", str(inventory), "--lab", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        wall, worked = time.monotonic() - began, ours() - worked + of_hosts(folder / "state")
        if done.returncode:
            sys.exit(f"up of {count} failed with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        hosts: list[dict[str, Any]] = json.loads(done.stdout)["hosts"]
        slowest = {phase: max(float(host["phases"].get(phase, 0.0)) for host in hosts) for phase in PHASES}
        return {"wall": wall, **slowest, "processors": worked}
    finally:
        subprocess.run([DEPLOY, "lab", "down"], env=environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=3)
    asked = parser.parse_args()
    columns = ("wall", *PHASES, "processors")
    print(f"{'hosts':>5}" + "".join(f"{name:>12}" for name in columns), flush=True)
    taken: dict[int, list[dict[str, float]]] = {1: [], asked.hosts: []}
    for number in range(asked.rounds):
        for count in sorted(taken, reverse=bool(number % 2)):
            taken[count].append(once(count))
            print(f"{count:5}" + "".join(f"{taken[count][-1][name]:12.1f}" for name in columns), flush=True)
    medians = {
        count: {name: statistics.median(one[name] for one in runs) for name in columns} for count, runs in taken.items()
    }
    ratios = "".join(f"{medians[asked.hosts][name] / max(medians[1][name], 0.01):12.2f}" for name in columns)
    print(f"ratio{ratios}")


if __name__ == "__main__":
    main()
