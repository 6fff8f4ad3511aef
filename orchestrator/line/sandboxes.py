"""``sandbox``: a walled place on a host, an agent at work on a copy in it, and what comes back of that."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SandboxError, UsageError
from orchestrator.line.status import served_lock
from orchestrator.rendered import CURRENT
from orchestrator.sandbox import reached
from orchestrator.sandbox.coming_back import bring_back
from orchestrator.sandbox.going_in import take_in
from orchestrator.sandbox.landing import Accepting, accept, reject
from orchestrator.sandbox.quarantine import Quarantine
from orchestrator.sandbox.reviewing import review, write_patch
from orchestrator.sandbox.visible import shown
from orchestrator.state import file_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.catalog.rows import AgentRow
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports
    from orchestrator.lockfile import Lock
    from orchestrator.sandbox.reached import Reached
    from orchestrator.sandbox.values import Landed, Review, Wish

TRANSCRIPT, PATCH = "transcript.log", "changes.patch"
#: Bytes of a transcript that are kept; an agent that says more goes on, unheard.
MOST_SAID = 64 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is asked to do. ``seconds``: after so many it is ended; ``files``: what it begins with."""

    agent: str
    text: str
    seconds: float = 3600
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended. ``exit_code`` is the agent's own word; what it did is told by the changes."""

    sandbox: str
    agent: str
    exit_code: int
    late: bool
    review: Review
    diff_file: Path
    transcript: Path
    seconds: float
    requests: int

    def document(self) -> dict[str, Any]:
        """Give the ``run`` key of the contract."""
        return {
            "sandbox": self.sandbox,
            "agent": self.agent,
            "exit_code": self.exit_code,
            "late": self.late,
            "changed_files": [change.path for change in self.review.changes],
            "flagged_files": [change.path for change in self.review.flagged],
            "diff_file": str(self.diff_file),
            "transcript": str(self.transcript),
            "seconds": round(self.seconds, 2),
            "requests": self.requests,
        }


def quarantine_of(root: Path, host: Host, name: str) -> Quarantine:
    """Give the quarantine of a host's sandbox; it may hold nothing yet."""
    return Quarantine(root / "sandboxes" / file_name(host.name), name)


def create(host: Host, name: str) -> dict[str, Any]:
    """Make a sandbox on a host; raises UsageError, SandboxError."""
    return dict(reached.asked(host, "create", name))


def listed(hosts: list[Host], root: Path) -> list[dict[str, Any]]:
    """Give the caller's sandboxes of some hosts, and whether a copy of each waits here."""
    found = []
    for host in hosts:
        for one in reached.asked(host, "list"):
            kept = quarantine_of(root, host, one["name"])
            copied = kept.copied().repository if (kept.folder / "copied.json").is_file() else None
            found.append({**one, "host": host.name, "repository": copied})
    return found


def destroy(host: Host, name: str, kept: Quarantine) -> None:
    """Take a sandbox away with all that is in it, and what came back of it; raises UsageError, SandboxError."""
    reached.asked(host, "destroy", name)
    reject(kept)


def run(  # noqa: PLR0913, PLR0917 - one step of the line, each a value of it
    place: Reached,
    kept: Quarantine,
    repository: Path,
    row: AgentRow,
    task: Task,
    wish: Wish,
    tell: Callable[[str], None],
) -> Ran:
    """Put a copy in, let an agent work on it, bring back what it did; raises UsageError, SandboxError."""
    began = time.monotonic()
    put_in(place, kept, repository, wish, tell)
    _ignored(place, row.leaves)
    since = time.time() - 1
    code = _worked(place, words_of(row, task), task.seconds, kept.folder / TRANSCRIPT, tell)
    bring_back(kept, place)
    counted = reached.asked(place.host, "requests", place.name, f"--since={since:.0f}")
    late = code == reached.LATE
    return Ran(place.name, row.name, code, late, *_seen(kept), time.monotonic() - began, counted["requests"])


def put_in(place: Reached, kept: Quarantine, repository: Path, wish: Wish, tell: Callable[[str], None]) -> None:
    """Put a copy of a repository in; one of the same repository that is there already is worked on further.

    Raises UsageError where there is one of another repository, SandboxError.
    """
    reached.asked(place.host, "info", place.name)
    if not (kept.folder / "copied.json").is_file():
        emptied(place)
        copied = take_in(repository, kept, place, wish)
        tell(f"{copied.bytes / 1e6:.1f} MB of {copied.repository} went in, {copied.branch or 'no branch'}")
    elif kept.copied().repository != str(repository.resolve()):
        raise UsageError(
            f"{place.name} has a copy of {kept.copied().repository}", where=place.name, do="reject that one first"
        )


def words_of(row: AgentRow, task: Task) -> list[str]:
    """Give the words by which an agent does one task without a person, from its row. Pure."""
    command = [command_of(row)]
    for word in row.headless:
        if word == "{file}":
            command += task.files
        else:
            command.append(word.replace("{task}", task.text))
    return command


def command_of(row: AgentRow) -> str:
    """Give where an agent's command lies, inside as on the host. Pure."""
    return f"{CURRENT}/agents/{row.name}/{row.command}"


def emptied(place: Reached) -> None:
    """Empty the copy's folder inside; raises SandboxError."""
    if code := _done(place, 'cd "$1" && find . -mindepth 1 -delete'):
        raise SandboxError(f"the copy's folder could not be emptied: it ended with {code}", where=place.name)


def _ignored(place: Reached, patterns: tuple[str, ...]) -> None:
    """Keep what an agent leaves for itself out of the result; raises SandboxError."""
    if not patterns:
        return
    if code := _done(place, 'cd "$1/.git" && shift && mkdir -p info && printf "%s\\n" "$@" >info/exclude', *patterns):
        raise SandboxError(f"the copy cannot be worked on: it ended with {code}", where=place.name)


def _done(place: Reached, script: str, *more: str) -> int:
    """Run a shell script inside, the copy's folder its first argument; give its exit code."""
    child = place.start(["sh", "-c", script, "sh", place.folder, *more])
    if child.stdin is not None:
        child.stdin.close()
    return child.wait()


def _worked(place: Reached, argv: list[str], seconds: float, transcript: Path, tell: Callable[[str], None]) -> int:
    """Let the agent work; what it says is shown, line by line, and kept."""
    child = place.open(argv, stderr=subprocess.STDOUT, seconds=seconds)
    if child.stdin is None or child.stdout is None:
        raise SandboxError("the sandbox gave no pipe", where=place.name)
    child.stdin.close()
    # The door ends it in time; this is for a host that says nothing any more.
    clock = threading.Timer(seconds + 60, child.kill)
    clock.start()
    said = 0
    try:
        with transcript.open("ab") as file:
            while line := child.stdout.readline(1 << 16):
                if said < MOST_SAID:
                    file.write(line)
                    tell(shown(line).rstrip("\n"))
                said += len(line)
        return child.wait()
    finally:
        clock.cancel()
        child.kill()
        child.wait()


def _seen(kept: Quarantine) -> tuple[Review, Path, Path]:
    from orchestrator.catalog.loader import load  # noqa: PLC0415 - the rows are read when there is something to review

    found = review(kept, load().flagged)
    patch = kept.folder / PATCH
    write_patch(kept, patch)
    return found, patch, kept.folder / TRANSCRIPT


def diff(place: Reached | None, kept: Quarantine) -> tuple[Review, Path]:
    """Give what came back, flagged changes first, and the file with the whole patch; raises UsageError, SandboxError.

    With a place it is brought back anew first: what somebody did there by hand counts too.
    """
    kept.copied()
    if place is not None:
        bring_back(kept, place)
    found, patch, _ = _seen(kept)
    return found, patch


def taken(kept: Quarantine, asked: Accepting) -> Landed:
    """Land what came back on a branch of the repository it came from; raises Conflict, UsageError, SandboxError."""
    from pathlib import Path  # noqa: PLC0415

    return accept(Path(kept.copied().repository), kept, asked)


def agent_of(host: Host, name: str, lock: Lock | None, ports: Ports) -> AgentRow:
    """Give the row of an agent that a host has; raises UsageError for one that it has not."""
    locked = served_lock(host, lock, ports)
    agents = locked.applied.agents if locked else ()
    if name not in agents or name not in ports.catalog.agents:
        there = ", ".join(agents)
        do = f"choose among {there}" if there else "name it under agents in the profile"
        raise UsageError(f"{host.name} has no agent {name}", where=host.name, do=do)
    return ports.catalog.agents[name]
