"""Runs the host specs in a child process: pytest and testinfra are loaded there and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.evidence import Check
from orchestrator.verify.gateway import shown
from orchestrator.verify.subject import check

if TYPE_CHECKING:
    from orchestrator.inventory import Host
    from orchestrator.manifest import Manifest

#: Seconds for all specs of one host; a search through a large store is what may take long.
LIMIT_SECONDS = 180
NAME = "host specs"

#: The folder that holds the package: found from there whatever the current folder is.
_FROM = Path(__file__).resolve().parents[2]


def checks(host: Host, manifest: Manifest) -> tuple[Check, ...]:
    """Give a check for each spec; what keeps the specs from running is a failed check."""
    try:
        child = subprocess.run(
            [sys.executable, "-m", "orchestrator.verify.child"],
            input=json.dumps({"host": _absolute(host).document(), "manifest": manifest.document()}),
            capture_output=True,
            text=True,
            cwd=_FROM,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (check("host", NAME, [f"they did not end within {LIMIT_SECONDS} s"]),)
    except OSError as error:
        return (check("host", NAME, [f"they could not be started: {error.strerror}"]),)
    try:
        found = tuple(Check.from_json(line) for line in child.stdout.splitlines())
    except ValidationError:
        return (check("host", NAME, [f"they answered what is no check: {shown(child.stdout)}"]),)
    if child.returncode or not found:
        last = next((line for line in reversed(child.stderr.splitlines()) if line.strip()), "no reason was given")
        return (*found, check("host", NAME, [f"they broke off: {shown(last)}"]))
    return found


def _absolute(host: Host) -> Host:
    """Give the host with its key files named from the root: the child has another current folder."""
    files = {"private_key": host.private_key, "known_hosts": host.known_hosts}
    found = {key: str(Path(value).expanduser().absolute()) for key, value in files.items() if value}
    return host.model_copy(update=found)
