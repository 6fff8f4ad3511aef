"""What the tests of the copy share: real repositories in a folder, and a stand-in for where the agent runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.catalog.loader import load
from orchestrator.sandbox.coming_back import bring_back
from orchestrator.sandbox.going_in import take_in
from orchestrator.sandbox.landing import Accepting, accept
from orchestrator.sandbox.quarantine import Quarantine
from orchestrator.sandbox.reviewing import review
from orchestrator.sandbox.values import Change, Copied, Landed, Review, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.catalog.rows import FlaggedRow

_WHO = {
    "GIT_AUTHOR_NAME": "Olga Owner",
    "GIT_AUTHOR_EMAIL": "olga@example.org",
    "GIT_COMMITTER_NAME": "Olga Owner",
    "GIT_COMMITTER_EMAIL": "olga@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *words: str, stdin: bytes = b"", check: bool = True, **also: str) -> str:
    """Ask the real Git, as the owner or the agent would by hand."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], input=stdin, env=clean | _WHO | also, capture_output=True, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"git {words}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode("utf-8", "surrogateescape").strip("\n")


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def commit(folder: Path, files: Mapping[str, str | bytes], message: str = "work") -> str:
    """Commit files, and give the commit."""
    write(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def repository(folder: Path, files: Mapping[str, str | bytes] | None = None, form: str = "sha1") -> Path:
    """Make a repository with one commit; none for no files at all."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", f"--object-format={form}")
    git(folder, "config", "user.name", "Olga Owner")
    git(folder, "config", "user.email", "olga@example.org")
    if files is None or files:
        commit(folder, {"README.md": "one\ntwo\nthree\n", "src/app.py": "print(1)\n"} | dict(files or {}))
    return folder


class Inside(subprocess.Popen[bytes]):
    """A program of a stand-in: it ends with all that it started, as one in a container does."""

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass
class FolderPlace:
    """A stand-in for a sandbox: a plain folder of this machine. It walls off nothing; a real one does."""

    path: Path

    @property
    def folder(self) -> str:
        return str(self.path)

    def start(self, argv: Sequence[str]) -> Inside:
        clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}
        return _inside(argv, clean)


@dataclass
class SayingPlace:
    """A stand-in for a sandbox in the agent's hand: whatever is asked, it answers with the bytes of a file."""

    answer: Path
    folder: str = "/copy"

    def start(self, argv: Sequence[str]) -> Inside:
        del argv
        return _inside(["cat", str(self.answer)], {"PATH": os.environ["PATH"]})


def _inside(argv: Sequence[str], environment: Mapping[str, str]) -> Inside:
    null = subprocess.DEVNULL
    pipe = subprocess.PIPE
    return Inside(list(argv), stdin=pipe, stdout=pipe, stderr=null, env=dict(environment), start_new_session=True)


@cache
def rows() -> Mapping[str, FlaggedRow]:
    return load().flagged


class Round:
    """One whole round: a repository, its quarantine, and the stand-in where the scripted agent works."""

    def __init__(self, root: Path, owner: Path | None = None, name: str = "box") -> None:
        self.root = root
        self.owner = owner or repository(root / "owner")
        self.place = FolderPlace(root / "inside" / name)
        self.place.path.mkdir(parents=True)
        self.quarantine = Quarantine(root / "quarantines", name)

    @property
    def copy(self) -> Path:
        return self.place.path

    def go_in(self, **wish: object) -> Copied:
        return take_in(self.owner, self.quarantine, self.place, Wish(**wish))  # type: ignore[arg-type]

    def back(self) -> Review:
        bring_back(self.quarantine, self.place)
        return review(self.quarantine, rows())

    def worked(self, files: Mapping[str, str | bytes], more: Callable[[Path], object] | None = None) -> Review:
        """Go in, have the scripted agent write files, and come back."""
        self.go_in()
        write(self.copy, files)
        if more is not None:
            more(self.copy)
        return self.back()

    def accept(self, *paths: str, **asked: object) -> Landed:
        return accept(self.owner, self.quarantine, Accepting("aider", paths or None, **asked))  # type: ignore[arg-type]

    def lies(self, branch: str = "agentrig/box") -> dict[str, str]:
        """Give the content of a branch of the owner's, by path."""
        names = [name for name in git(self.owner, "ls-tree", "-r", "-z", "--name-only", branch).split("\0") if name]
        return {name: git(self.owner, "cat-file", "blob", f"{branch}:{name}") for name in names}


def change(seen: Review, path: str) -> Change:
    """Give the change of one path."""
    return next(one for one in seen.changes if one.path == path)


def flagged(seen: Review, path: str) -> set[str]:
    """Give the rows that flag a path."""
    return {flag.row for flag in change(seen, path).flags}


#: Of a repository's folder what is read another way: references with for-each-ref, the index by its files.
_INNER = {"index", "objects", "logs", "refs", "packed-refs", "worktrees"}


def state_of(folder: Path) -> str:
    """Give all that the owner would notice of a repository: refs, HEAD, index, working tree, settings."""
    parts = (
        git(folder, "for-each-ref"),
        git(folder, "rev-parse", "HEAD", check=False),
        git(folder, "status", "--porcelain", "--ignored", "--untracked-files=all"),
        (folder / ".git/config").read_text(),
        git(folder, "ls-files", "--stage"),
        str(sorted(path.name for path in (folder / ".git").iterdir() if path.name not in _INNER)),
    )
    return "\n".join(parts)
