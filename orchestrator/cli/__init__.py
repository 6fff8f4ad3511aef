"""The face: a file for each verb; parses, calls, prints; no decision."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``deploy``."""
    from orchestrator.cli.root import run

    sys.exit(run(sys.argv[1:]))
