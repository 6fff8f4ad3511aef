"""A quarantine: a bare repository under the state that holds what went in and what came back, and nothing else.

It is made beside its place and renamed, so that it is whole or not there. Nothing in it is checked out, ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import SandboxError, UsageError
from orchestrator.kept import write
from orchestrator.sandbox.git import Git, quarantined
from orchestrator.sandbox.values import Copied
from orchestrator.state import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = "refs/agentrig/result"
START = "refs/agentrig/start"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantine of one sandbox, below the folder of all of them."""

    root: Path
    name: str
    #: What stands before its folder's name while it is made or thrown away: a dot and a process.
    before: str = ""

    @property
    def folder(self) -> Path:
        """Give where it lies."""
        return self.root / f"{self.before}{file_name(self.name)}"

    @property
    def git(self) -> Git:
        """Give its repository."""
        return quarantined(self.folder / "repository.git")

    @property
    def objects(self) -> Path:
        """Give the folder of its objects."""
        return self.folder / "repository.git/objects"

    def copied(self) -> Copied:
        """Give what went in; raises UsageError where nothing did."""
        record = self.folder / "copied.json"
        if not record.is_file():
            raise UsageError(f"no copy went into {self.name}", where=str(self.root), do="see deploy sandbox list")
        try:
            return Copied.from_json(record.read_bytes())
        except ValueError as error:
            raise SandboxError(
                "what is kept of the copy cannot be read", where=str(record), do="throw it away: deploy sandbox reject"
            ) from error

    def result(self) -> str | None:
        """Give the commit that came back; None where none did."""
        return self.git.line("rev-parse", "-q", "--verify", RESULT)

    @contextlib.contextmanager
    def made(self) -> Iterator[Quarantine]:
        """Make it: the block fills one beside, which takes its name at the end, or goes. Raises UsageError."""
        if self.folder.exists():
            raise UsageError(
                f"{self.name} has a copy already", where=str(self.folder), do="accept or reject that one first"
            )
        self._sweep()
        beside = Quarantine(self.root, self.name, f".{os.getpid()}-")
        beside.folder.mkdir(parents=True, mode=0o700)
        try:
            yield beside
            beside.folder.rename(self.folder)
        finally:
            shutil.rmtree(beside.folder, ignore_errors=True)

    def keep(self, copied: Copied) -> None:
        """Write down what went in."""
        write(self.folder / "copied.json", copied.to_json(), mode=0o600)

    @contextlib.contextmanager
    def incoming(self, *reading: Path) -> Iterator[tuple[Path, Git]]:
        """Give a folder for objects that are not trusted yet, and the repository writing to it; it goes at the end."""
        self._sweep()
        folder = self.folder / f"incoming-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "pack").mkdir(parents=True)
        try:
            yield folder, self.git.writing_to(folder, self.objects, *reading)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def take(self, incoming: Path) -> None:
        """Take the packs of a folder over: each before its index, by which Git finds it."""
        order = (".pack", ".rev", ".idx")
        packs = [path for path in (incoming / "pack").iterdir() if path.suffix in order]
        for path in sorted(packs, key=lambda path: order.index(path.suffix)):
            path.rename(self.objects / "pack" / path.name)

    def drop(self) -> bool:
        """Throw it away with all it holds; False where there was none."""
        there = self.folder.exists()
        if there:
            gone = Quarantine(self.root, self.name, f".{os.getpid()}-").folder
            shutil.rmtree(gone, ignore_errors=True)
            self.folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self._sweep()
        return there

    def _sweep(self) -> None:
        """Throw away what processes left that are no more: in the folder of all of them, and in this one."""
        for path in (*self.root.glob(".*-*"), *self.folder.glob("incoming-*")):
            process = path.name.removeprefix("incoming-").removeprefix(".").partition("-")[0]
            if process.isdecimal() and not Path("/proc", process).exists():
                shutil.rmtree(path, ignore_errors=True)
