"""The line's figures: each command timed in turn beside a fixed reference, in one run.

    python benchmarks/line.py [--rounds 5] [--cold 5]

Cold means no `.venv`, no store, no lab host; pip's, uv's and apt's caches and the base tree are warm. Prints a table:
median and worst in seconds, and the ratio of the median to `python -c pass` of the same minute. The second reference is
a bare host of the lab: its base tree unpacked, systemd booted in nspawn until SSH answers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RINGS = "unit, golden, contract rings"
DEPLOY = str(Path(sys.executable).parent / "deploy")


def seconds(command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> float:
    """Run a command and give its wall seconds; stops the benchmark where it fails."""
    began = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return time.monotonic() - began


def warm(rounds: int, state: Path) -> dict[str, list[float]]:
    """Time what is asked of a rig that stands."""
    environment = os.environ | {"AGENTRIG_STATE": str(state)}
    up = [DEPLOY, "up", "--lab", "--profile", "cpu", "--json"]
    seconds(up, environment)
    commands = {
        "python -c pass (reference)": [sys.executable, "-c", "pass"],
        "deploy --help": [DEPLOY, "--help"],
        "deploy plan --profile cpu": [DEPLOY, "plan", "--profile", "cpu", "--json"],
        "deploy up, again": up,
        "deploy up --full, again": [*up, "--full"],
    }
    rings = [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests/unit", "tests/golden", "tests/contract"]
    figures: dict[str, list[float]] = {name: [] for name in (*commands, "a bare nspawn boot (reference)", RINGS)}
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(seconds(command, environment))
        figures["a bare nspawn boot (reference)"].append(boot())
        figures[RINGS].append(seconds(rings, folder=ROOT))
    return figures


def boot() -> float:
    """Time a lab with one bare host, from nothing to SSH; it goes away again outside the figure."""
    folder = Path(tempfile.mkdtemp(prefix="agentrig-boot-"))
    environment = os.environ | {"AGENTRIG_STATE": str(folder)}
    try:
        return seconds([DEPLOY, "lab", "up", "1"], environment)
    finally:
        seconds([DEPLOY, "lab", "down"], environment)
        shutil.rmtree(folder, ignore_errors=True)


def cold(rounds: int) -> list[float]:
    """Time `make up` from a fresh clone, an empty state and no `.venv`."""
    figures = []
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="agentrig-cold-"))
        environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "MAKEFLAGS")}
        environment |= {"AGENTRIG_STATE": str(folder / "state")}
        clone = folder / "agentrig"
        try:
            seconds(["git", "clone", "-q", str(ROOT), str(clone)])
            figures.append(seconds(["make", "up"], environment, clone))
        finally:
            subprocess.run([DEPLOY, "lab", "down"], env=environment, check=False, capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=int, default=5)
    asked = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="agentrig-benchmark-"))
    try:
        figures = warm(asked.rounds, state)
    finally:
        subprocess.run([DEPLOY, "lab", "down"], env=os.environ | {"AGENTRIG_STATE": str(state)}, check=False)
        shutil.rmtree(state, ignore_errors=True)
    figures |= {"make up, cold": cold(asked.cold)} if asked.cold else {}
    reference = statistics.median(figures["python -c pass (reference)"])
    print(f"{'':32}{'n':>3}{'median s':>10}{'worst s':>10}{'ratio':>9}")
    for name, taken in figures.items():
        median = statistics.median(taken)
        print(f"{name:32}{len(taken):3}{median:10.2f}{max(taken):10.2f}{median / reference:9.1f}")


if __name__ == "__main__":
    main()
