"""The owner's repository: what it is, and what of it may be taken. Nothing is written to it here."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import UsageError
from orchestrator.sandbox.git import Git, GitFailed, owners
from orchestrator.sandbox.visible import name_of, shown

if TYPE_CHECKING:
    from orchestrator.sandbox.values import Wish

#: The first Git that merges without a working tree (git-merge-tree(1), --write-tree: release notes of 2.38).
LEAST_GIT = (2, 38)


@dataclass(frozen=True, slots=True)
class Owned:
    """A repository with its working tree. ``branch`` is None where HEAD is detached, ``head`` without a commit."""

    folder: Path
    git: Git
    git_folder: Path
    objects: Path
    object_format: Literal["sha1", "sha256"]
    branch: str | None
    head: str | None

    @property
    def none(self) -> str:
        """Give the object name that means none: as many zeros as the format has digits."""
        return "0" * (64 if self.object_format == "sha256" else 40)

    def tip(self, branch: str) -> str | None:
        """Give the commit of a branch; None where there is no such branch."""
        return self.git.line("rev-parse", "-q", "--verify", "--end-of-options", f"refs/heads/{branch}^{{commit}}")

    def checked_out(self) -> dict[str, Path]:
        """Give every branch that a working tree has checked out, with that tree."""
        found, folder = {}, self.folder
        for line in self.git.run("worktree", "list", "--porcelain", "-z").split(b"\0"):
            key, _, value = line.decode("utf-8", "surrogateescape").partition(" ")
            if key == "worktree":
                folder = Path(value)
            elif key == "branch":
                found[value.removeprefix("refs/heads/")] = folder
        return found

    def identity(self) -> tuple[str, str]:
        """Give the owner's name and address as his commits bear them; raises UsageError where Git knows none."""
        said = self.git.line("var", "GIT_COMMITTER_IDENT")
        if said is None:
            raise UsageError(
                "Git does not know who you are",
                where=str(self.folder),
                do="git config --global user.name and user.email",
            )
        name, _, rest = said.partition(" <")
        return name, rest.partition(">")[0]


def find(folder: Path) -> Owned:
    """Find the repository of a folder; raises UsageError for what is none, bare, or another user's."""
    if not folder.is_dir():
        raise UsageError("this folder is not there", where=str(folder), do="name a folder of a Git repository")
    asked = owners(folder)
    _new_enough(asked)
    code, out, said = asked.ask("rev-parse", "--is-bare-repository")
    if code != 0:
        raise _refused(folder, shown(said))
    top = asked.line("rev-parse", "--show-toplevel")
    if out.strip() == b"true" or top is None:
        raise UsageError(
            "this repository is bare: it has no working tree to copy", where=str(folder), do="name a clone of it"
        )
    absolute = ("rev-parse", "--path-format=absolute")
    git_folder = asked.line("rev-parse", "--absolute-git-dir")
    objects = asked.line(*absolute, "--git-path", "objects")
    if git_folder is None or objects is None:
        raise _refused(folder, "its folders cannot be found")
    git = Git(Path(top), asked.environment | {"GIT_DIR": git_folder, "GIT_WORK_TREE": top})
    return Owned(
        Path(top),
        git,
        Path(git_folder),
        Path(objects),
        "sha256" if git.line("rev-parse", "--show-object-format") == "sha256" else "sha1",
        (git.line("symbolic-ref", "-q", "HEAD") or "").removeprefix("refs/heads/") or None,
        git.line("rev-parse", "-q", "--verify", "HEAD^{commit}"),
    )


def _new_enough(git: Git) -> None:
    said = git.run("version").decode("utf-8", "replace").strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < LEAST_GIT:
        least = ".".join(str(part) for part in LEAST_GIT)
        raise UsageError(f"{shown(said)} is too old: {least} is needed", do="install a newer Git on this machine")


def _refused(folder: Path, said: str) -> UsageError:
    if "dubious ownership" in said:
        return UsageError(
            "this repository belongs to another user, whose settings Git would obey",
            where=str(folder),
            do=f"if you trust it: git config --global --add safe.directory '{folder}'",
        )
    told = next((line for line in said.splitlines() if line.startswith("fatal: ")), said)
    return UsageError(f"Git takes this for no repository: {told.removeprefix('fatal: ')}", where=str(folder))


def commit_of(owned: Owned, wish: Wish) -> str | None:
    """Give the commit that goes in; None for a branch without one. Raises UsageError for a branch that is not there."""
    if wish.branch is None or (wish.branch == owned.branch and owned.head is None):
        return owned.head
    commit = owned.tip(wish.branch)
    if commit is None:
        raise UsageError(f"there is no branch {shown(wish.branch)}", where=str(owned.folder), do="see git branch")
    return commit


def boundary(owned: Owned) -> tuple[str, ...]:
    """Give the commits where a shallow repository's history was cut; none for a whole one."""
    path = owned.git.line("rev-parse", "--path-format=absolute", "--git-path", "shallow")
    if path is None or not Path(path).is_file():
        return ()
    return tuple(Path(path).read_text(encoding="ascii").split())


def uncommitted(owned: Owned, wish: Wish, into: Git, index: Path) -> tuple[str, tuple[bytes, ...], tuple[str, ...]]:
    """Write a tree of what lies in the working tree, with an index of our own and objects that ``into`` writes.

    Gives the tree, the paths that differ from HEAD, and what was left out, in sentences. Raises UsageError.
    """
    if wish.branch not in {None, owned.branch}:
        raise UsageError(
            "what is not committed belongs to the branch that is checked out",
            where=str(owned.folder),
            do="leave the branch out, or leave out what is not committed",
        )
    own = owned.git.line("rev-parse", "--path-format=absolute", "--git-path", "index")
    if own is not None and Path(own).is_file():
        shutil.copyfile(own, index)
    git = into.beside(GIT_INDEX_FILE=str(index))
    if git.run("ls-files", "--unmerged", "-z"):
        raise UsageError("a merge has not ended here", where=str(owned.folder), do="end it, or abort it: git status")
    changed = _listed(git, "ls-files", "-z", "--modified", "--deleted")
    untracked = _listed(git, "ls-files", "-z", "--others", "--exclude-standard")
    untracked += tuple(path for one in wish.also for path in _named(owned, git, one))
    nested = tuple(path for path in untracked if path.endswith(b"/"))
    taken = b"".join(path + b"\0" for path in (*changed, *untracked) if not path.endswith(b"/"))
    try:
        git.run("update-index", "--add", "--remove", "-z", "--stdin", stdin=taken)
        tree = git.run("write-tree").decode().strip()
    except GitFailed as failed:
        raise UsageError(
            f"what is not committed cannot be taken: {failed.what}", where=str(owned.folder), do="see git status"
        ) from failed
    notes = tuple(f"{name_of(path)} is a repository of its own and stayed out" for path in nested)
    against = owned.head or git.run("mktree").decode().strip()
    differing = _listed(git, "diff-tree", "-r", "-z", "--name-only", "--no-renames", against, tree)
    return tree, differing, notes


def _listed(git: Git, verb: str, *words: str) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(path for path in git.run(verb, *words).split(b"\0") if path))


def _named(owned: Owned, git: Git, path: str) -> tuple[bytes, ...]:
    parts = Path(path).parts
    lies = owned.folder / path
    if Path(path).is_absolute() or ".." in parts or any(part.casefold() == ".git" for part in parts):
        raise UsageError(f"{shown(path)} is not in the repository", where=str(owned.folder), do="name what lies in it")
    if not lies.exists() and not lies.is_symlink():
        raise UsageError(f"{shown(path)} is not there", where=str(owned.folder), do="name what lies in it")
    return _listed(git, "ls-files", "-z", "--others", "--", path)
