"""Times ``deploy lock``: cold (empty store, empty apt indexes, no cache of pip's), then warm.

``python benchmarks/locking.py [--profile cpu] [--runs N]``. The registries are those that this machine's pip, npm and
apt are set to; the hub is a closed port, so a profile whose weights lie there is not measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: A closed port.
NOBODY = "http://127.0.0.1:9"


def environment(root: Path) -> dict[str, str]:
    """Give an environment in which nothing was fetched before."""
    folders = {"AGENTRIG_STATE": root / "state", "XDG_CACHE_HOME": root / "cache", "PIP_CACHE_DIR": root / "cache/pip"}
    away = {"HF_ENDPOINT": NOBODY, "AGENTRIG_RELEASES": NOBODY}
    return os.environ | {name: str(folder) for name, folder in folders.items()} | away


def seconds(command: list[str], folder: Path, env: dict[str, str]) -> tuple[float, dict[str, object]]:
    """Give the seconds that one run took, and its lock."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return took, json.loads(done.stdout)["lock"]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--runs", type=int, default=1)
    wanted = parser.parse_args()
    command = [str(Path(sys.executable).parent / "deploy"), "lock", "--profile", wanted.profile, "--json"]
    print(f"{'profile':12}{'run':6}{'artefacts':>10}{'MiB':>7}{'seconds':>9}")
    for _ in range(wanted.runs):
        with tempfile.TemporaryDirectory(prefix="agentrig-locking-") as root:
            folder, env = Path(root), environment(Path(root))
            for run in ("cold", "warm"):
                took, lock = seconds(command, folder, env)
                artefacts = lock["artefacts"]
                if not isinstance(artefacts, list):
                    sys.exit("the lock lists no artefacts")
                size = sum(one["bytes"] or 0 for one in artefacts if not one["parts"])
                print(f"{wanted.profile:12}{run:6}{len(artefacts):10}{size >> 20:7}{took:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
