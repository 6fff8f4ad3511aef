"""The sandboxes of a host as they are asked for: through the client of its door, here or over SSH.

No right is needed beyond the caller's own on the host: the door sees who asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SandboxError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.inventory import Host

#: What the host has for it (``render/sandbox``), and where a copy lies inside.
CLIENT = "/usr/local/bin/agentrig-sandbox"
REPOSITORY = "/agent/repository"
CONNECT_SECONDS = 15
#: Exit code of ssh for its own failures (ssh(1)).
_SSH_FAILED = 255
#: Exit codes of the door's client for what the caller must change.
_USAGE = 2
#: Exit code of a command whose time was over (timeout(1)), as the door gives it.
LATE = 124


def command_of(host: Host, words: Sequence[str], *, terminal: bool = False) -> list[str]:
    """Give the command line that asks a host's door. Pure."""
    asked = [CLIENT, *words]
    if host.connection == "local":
        return asked
    options = {"BatchMode": "yes", "ConnectTimeout": str(CONNECT_SECONDS), "LogLevel": "ERROR"} | host.ssh_files()
    given = [f"-o{name}={value}" for name, value in options.items()]
    where = ["-p", str(host.port), *(["-t"] if terminal else []), f"{host.user}@{host.address}"]
    return ["ssh", "-F", "none", *given, *where, "--", shlex.join(asked)]


def asked(host: Host, *words: str) -> Any:
    """Ask a host's door and give its answer; raises UsageError, SandboxError with the door's own words."""
    try:
        done = subprocess.run(command_of(host, words), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise no_door(host) from None
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise _unasked(host, done.returncode, done.stderr) from None
    if error := told.get("error"):
        kind = UsageError if error.get("exit") == _USAGE else SandboxError
        raise kind(error["what"], where=host.name, do=error.get("do", ""))
    return told["answer"]


def no_door(host: Host) -> UsageError:
    """Give the error for a host without sandboxes."""
    return UsageError(
        f"{host.name} has no sandboxes", where=host.name, do="put sandbox: {kind: container} into its profile, then up"
    )


def _unasked(host: Host, code: int, said: str) -> SandboxError | UsageError:
    if "No such file" in said or "not found" in said:
        return no_door(host)
    lines = [line for line in said.splitlines() if line.strip()]
    where = "it could not be reached" if code == _SSH_FAILED else "its door gave no answer"
    return SandboxError(f"{where}: {lines[-1] if lines else f'ended with {code}'}", where=host.name)


class Child:
    """A program inside, as the process here that is joined to it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.stdin, self.stdout = process.stdin, process.stdout

    def wait(self) -> int:
        """Wait for its end and give its exit code."""
        return self._process.wait()

    def kill(self) -> None:
        """End it: the door sees that whoever asked has gone, and ends what he started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Reached:
    """One sandbox of a host, as a place for a copy. ``again``: start it although it was stopped."""

    host: Host
    name: str
    again: bool = False

    @property
    def folder(self) -> str:
        """Give where the copy lies inside."""
        return REPOSITORY

    def start(self, argv: Sequence[str]) -> Child:
        """Start a program inside, in the copy's folder; what it says besides goes nowhere."""
        return Child(self.open(argv, stderr=subprocess.DEVNULL))

    def open(self, argv: Sequence[str], *, stderr: int, seconds: float | None = None) -> subprocess.Popen[bytes]:
        """Start a program inside with pipes to it, and a limit in seconds."""
        return subprocess.Popen(
            command_of(self.host, self._words(argv, seconds)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )

    def joined(self, argv: Sequence[str], *, terminal: bool) -> int:
        """Run a program inside on this process' own terminal or pipes, and give its exit code."""
        words = self._words(argv, None, terminal=terminal)
        try:
            return subprocess.run(command_of(self.host, words, terminal=terminal), check=False).returncode
        except FileNotFoundError:
            raise no_door(self.host) from None

    def _words(self, argv: Sequence[str], seconds: float | None, *, terminal: bool = False) -> list[str]:
        limit = [f"--seconds={seconds:g}"] if seconds else []
        more = (["--terminal"] if terminal else []) + (["--again"] if self.again else [])
        return ["exec", self.name, f"--where={REPOSITORY}", *limit, *more, "--", *argv]
