"""Runs cases: each is one pytest of its own, as root where its matrix needs it, with a log and a limit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.soak.core import Line, Row
from tests.soak.files import ROOT

#: What a case is told: the seed it draws from, and the file that it says in how it went.
SEED, RECORD = "SOAK_SEED", "SOAK_RECORD"
#: Logs stay for reading; what cases share beside them may go at any time.
CACHE = ROOT / ".cache/soak"


@dataclass(frozen=True)
class Runner:
    """Runs the cases of one matrix; ``as_root`` is what a command is put behind to run as root."""

    row: Row
    as_root: str = ""
    root: Path = ROOT

    def cases(self) -> list[str]:
        """Ask pytest which cases the matrix has."""
        done = subprocess.run(
            [*self._pytest(None), "--override-ini=addopts=", "-q", "--collect-only", self.row.cases],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"{self.row.cases} was not collected:\n{done.stdout}{done.stderr}")
        begins = f"{self.row.cases}::"
        return [line.removeprefix(begins) for line in done.stdout.splitlines() if line.startswith(begins)]

    def run(self, case: str) -> Line:
        """Run one case to its end, or to its limit."""
        log = CACHE / "logs" / self.row.name / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', case)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            record = Path(folder) / "record.json"
            start = _now()
            with log.open("wb") as file:
                exit_code = self._ended([*self._pytest(record), f"{self.row.cases}::{case}"], file.fileno())
            told = _told(record)
        result = told.get("result", "ended without a word")
        return Line(
            case=case,
            start=start,
            end=_now(),
            exit=exit_code,
            log_sha256=hashlib.sha256(log.read_bytes()).hexdigest(),
            result="failed" if exit_code and result == "passed" else result,
            says=told.get("says", {}),
            figures=told.get("figures", {}),
        )

    def _pytest(self, record: Path | None) -> list[str]:
        """Give the command that runs pytest; without a record nothing is run, so nobody need be root."""
        variables = [f"{SEED}={self.row.seed}", *([f"{RECORD}={record}"] if record else [])]
        prefix = shlex.split(self.as_root) if self.row.root and record else []
        return [*prefix, "env", *variables, sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

    def _ended(self, command: list[str], log: int) -> int:
        """Run a command in a session of its own; past its limit it is told to end, then killed."""
        with subprocess.Popen(
            command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        ) as process:
            for number, seconds in ((signal.SIGINT, self.row.seconds), (signal.SIGKILL, 60)):
                try:
                    return process.wait(seconds)
                except subprocess.TimeoutExpired:
                    self._signal(process.pid, number)
            return process.wait()

    def _signal(self, group: int, number: signal.Signals) -> None:
        """Signal a process group, as root where its processes are root's."""
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(group, number)
            except PermissionError:
                subprocess.run([*shlex.split(self.as_root), "kill", f"-{int(number)}", "--", f"-{group}"], check=False)


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="milliseconds")


def _told(record: Path) -> dict[str, Any]:
    """Read what a case told; nothing where it did not come to it."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
