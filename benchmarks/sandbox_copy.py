"""A repository goes into a folder and its result comes back, timed in turn beside Git's own clone of the same.

    python benchmarks/sandbox_copy.py [--mib 1024] [--rounds 3] [--folder DIR]

The reference is `git clone --no-hardlinks --no-local`: the whole history packed, sent, indexed and checked out. The
copy is the same history with what is not committed, sent to a plain folder, one edit in it, and all checks on the way
back. A second line is the copy of the last commit alone, which is what a sandbox gets unless asked. Content is random,
so that nothing compresses, in files of 256 KiB and a sixteenth as small texts, over eight commits in one pack.
Prints seconds and the ratio clone / (in + back): 0.5 is half of the clone's speed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.catalog.loader import load
from orchestrator.sandbox.coming_back import bring_back
from orchestrator.sandbox.going_in import take_in
from orchestrator.sandbox.quarantine import Quarantine
from orchestrator.sandbox.reviewing import review
from orchestrator.sandbox.values import Wish

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILE, _COMMITS, _MIB = 256 << 10, 8, 1 << 20
_CLONE, _WHOLE, _LAST = "git clone --no-hardlinks --no-local", "in and back, whole history", "in and back, last commit"
_NAMES = (_CLONE, _WHOLE, _LAST)
_WHO = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@dataclass
class Folder:
    """A stand-in for a sandbox: a plain folder of this machine."""

    folder: str

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program in it."""
        return subprocess.Popen(list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def git(folder: Path, *words: str) -> None:
    """Ask Git; stops the benchmark where it fails."""
    subprocess.run(["git", "-C", str(folder), *words], check=True, env=os.environ | _WHO, stdout=subprocess.DEVNULL)


def made(folder: Path, mib: int) -> Path:
    """Make the repository: random files over several commits, in one pack."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "core.bigFileThreshold", "1")
    drawn = random.Random(1)  # noqa: S311 - content of a benchmark
    for number in range(_COMMITS):
        for file in range(mib * _MIB // _COMMITS // _FILE):
            path = folder / f"d{number}/{file % 16}/{file}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawn.randbytes(_FILE))
            if file % 16 == 0:
                path.with_suffix(".txt").write_text(f"{number} {file}\n" * 200, encoding="ascii")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"{number}")
    git(folder, "repack", "-q", "-a", "-d", "--window=0")
    git(folder, "config", "--unset", "core.bigFileThreshold")
    return folder


def clone(source: Path, into: Path) -> dict[str, float]:
    """Time Git's own clone."""
    began = time.monotonic()
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", "--no-local", str(source), str(into)], check=True)
    return {"whole": time.monotonic() - began}


def copied(source: Path, into: Path, *, history: bool) -> dict[str, float]:
    """Time one round: in, one edit, back and described."""
    inside = into / "inside"
    inside.mkdir(parents=True)
    quarantine, place = Quarantine(into / "quarantines", "box"), Folder(str(inside))
    began = time.monotonic()
    take_in(source, quarantine, place, Wish(history=history, uncommitted=True))
    went = time.monotonic()
    (inside / "edited.txt").write_text("edited\n", encoding="ascii")
    bring_back(quarantine, place)
    back = time.monotonic()
    seen = review(quarantine, load().flagged)
    if [change.path for change in seen.changes] != ["edited.txt"]:
        sys.exit("another change came back than the one that was made")
    return {"whole": back - began, "in": went - began, "back": back - went, "review": time.monotonic() - back}


def main() -> None:
    """Run the rounds in turn and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mib", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where to work: a folder with four times the room")
    asked = options.parse_args()
    root = Path(tempfile.mkdtemp(prefix="agentrig-copy-", dir=asked.folder))
    try:
        source = made(root / "source", asked.mib)
        took: dict[str, list[dict[str, float]]] = {}
        for _ in range(asked.rounds):
            for name in _NAMES:
                into = root / "round"
                one = clone(source, into) if name == _CLONE else copied(source, into, history=name == _WHOLE)
                took.setdefault(name, []).append(one)
                shutil.rmtree(into)
        reference = statistics.median(one["whole"] for one in next(iter(took.values())))
        print(f"{asked.mib} MiB, {asked.rounds} rounds, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; medians")
        for name, rounds in took.items():
            median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            parts = ", ".join(f"{key} {value:.2f} s" for key, value in median.items())
            print(f"{name:38} {parts}; clone / this = {reference / median['whole']:.2f}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
