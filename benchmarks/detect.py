"""Reading a fleet: throwaway systemd hosts, asked all at once, beside one of them alone.

    sudo -E python benchmarks/detect.py [--hosts 16] [--rounds 3]

Needs root: the lab makes its hosts on this machine, in a folder of their own that is taken away at the end. Each
figure is taken in turn in one run. `ask` is the room alone, its child process included; `deploy detect` is the whole
command. Prints a table: median and worst in seconds, and the ratio of the median to `python -c pass`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.detect import Question, ask
from orchestrator.lab import Lab, as_host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.inventory import Host

DEPLOY = str(Path(sys.executable).parent / "deploy")
REFERENCE = "python -c pass (reference)"
#: The contract's limit for 16 hosts, in seconds.
LIMIT = 8


def started(command: Sequence[str], state: Path, hosts: int = 0) -> None:
    """Run a command; stops the benchmark where it fails, or where it does not read all hosts."""
    environment = os.environ | {"AGENTRIG_STATE": str(state)}
    done = subprocess.run(command, env=environment, cwd=state, capture_output=True, text=True, check=False)
    read = len(json.loads(done.stdout)["hosts"]) if hosts and done.returncode == 0 else hosts
    if done.returncode or read != hosts:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")


def asked(hosts: Sequence[Host]) -> None:
    """Ask hosts for their snapshots; stops the benchmark where one gives none."""
    answers = ask([Question(host=host) for host in hosts])
    failed = {name: answer.error for name, answer in answers.items() if answer.snapshot is None}
    if failed:
        sys.exit(f"not read: {failed}")


def measured(hosts: Sequence[Host], state: Path, rounds: int) -> dict[str, list[float]]:
    """Time each question in turn, after one round that nobody counts."""
    detect = [DEPLOY, "detect", "--lab", "--json"]
    many, one = f"{len(hosts)} hosts", "1 host"
    questions: dict[str, Callable[[], None]] = {
        REFERENCE: lambda: started([sys.executable, "-c", "pass"], state),
        f"ask, {one}": lambda: asked(hosts[:1]),
        f"ask, {many}": lambda: asked(hosts),
        f"deploy detect, {one}": lambda: started([*detect, "--limit", hosts[0].name], state, 1),
        f"deploy detect, {many}": lambda: started(detect, state, len(hosts)),
    }
    figures: dict[str, list[float]] = {name: [] for name in questions}
    for number in range(rounds + 1):
        for name, question in questions.items():
            began = time.monotonic()
            question()
            figures[name] += [time.monotonic() - began] if number else []
    return figures


def main() -> int:
    """Make the hosts, measure, print, take them away; 1 where the contract's limit is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="agentrig-detect-"))
    lab = Lab(state / "lab")
    try:
        made = lab.up({f"host-{number}": "debian-12" for number in range(1, wanted.hosts + 1)})
        figures = measured([as_host(one) for one in made], state, wanted.rounds)
    finally:
        lab.down()
        shutil.rmtree(state, ignore_errors=True)
    reference = statistics.median(figures[REFERENCE])
    print(f"{'':32}{'n':>3}{'median s':>10}{'worst s':>10}{'ratio':>9}")
    for name, taken in figures.items():
        median = statistics.median(taken)
        print(f"{name:32}{len(taken):3}{median:10.2f}{max(taken):10.2f}{median / reference:9.1f}")
    return int(wanted.hosts <= 16 and max(figures[f"deploy detect, {wanted.hosts} hosts"]) > LIMIT)  # noqa: PLR2004


if __name__ == "__main__":
    sys.exit(main())
