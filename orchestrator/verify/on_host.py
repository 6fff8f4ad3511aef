"""One command on a host, by testinfra in the child process of verify: its exit code and what it printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.verify.gateway import shown

if TYPE_CHECKING:
    from orchestrator.inventory import Host

#: The folder that holds the package: found from there whatever the current folder is.
_FROM = Path(__file__).resolve().parents[2]


class Unasked(Exception):  # noqa: N818 - an outcome that a check writes down, never one that a caller sees
    """The host gave no answer; the text says why, for a person."""


class Said(NamedTuple):
    """What a command printed, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str


def ask(host: Host, command: str, seconds: float) -> Said:
    """Run a shell line on a host as root; raises ``Unasked``, also where it has not ended in so many seconds."""
    files = {"private_key": host.private_key, "known_hosts": host.known_hosts}
    found = {key: str(Path(value).expanduser().absolute()) for key, value in files.items() if value}
    question = {"host": host.model_copy(update=found).document(), "command": command}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "orchestrator.verify.child"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            cwd=_FROM,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unasked(f"the host had not answered after {seconds:.0f} s") from None
    except OSError as error:
        raise Unasked(f"it could not be asked: {error.strerror}") from None
    try:
        return Said(**json.loads(child.stdout))
    except (ValueError, TypeError):
        last = next((line for line in reversed(child.stderr.splitlines()) if line.strip()), "no reason was given")
        raise Unasked(f"the host could not be asked: {shown(last)}") from None
