"""What was reviewed lands on a branch of the owner's: one commit, of all of it or of the named files.

Only trees land, never the agent's commits: nothing reaches the owner's history that the review did not show. Every
object is made in the quarantine and sent as one pack; the branch then moves in a single step, so that a repository is
as before or done, wherever this ends. Where the owner's branch moved, the change is merged three ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import SandboxError, UsageError
from orchestrator.sandbox.git import Git, GitFailed
from orchestrator.sandbox.going_in import AGENT_ADDRESS
from orchestrator.sandbox.owned import Owned, find
from orchestrator.sandbox.raw import Entry, entries_of
from orchestrator.sandbox.reviewing import came_back
from orchestrator.sandbox.values import Landed
from orchestrator.sandbox.visible import name_of, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.sandbox.quarantine import Quarantine
    from orchestrator.sandbox.values import Copied

_GONE = "000000"


class Conflict(UsageError):  # noqa: N818 - the outcome of a merge, not a fault of the program
    """The owner's branch and the result change the same lines: nothing was written. ``paths`` can be shown."""

    kind = "conflict"

    def __init__(self, branch: str, paths: tuple[str, ...]) -> None:
        super().__init__(
            f"the result and {branch} change the same places: {', '.join(paths)}",
            where=branch,
            do="accept other files, another branch, or run the agent again on a new copy",
        )
        self.paths = paths


@dataclass(frozen=True, slots=True)
class Accepting:
    """What shall land. ``paths`` are named as a review names them, a folder with a slash at its end; all where None.

    ``seen`` is the result that was reviewed: another one is refused. ``branch`` is ``agentrig/<sandbox>`` where None.
    ``checked_out``: the branch may be one that a working tree has checked out; that tree moves with it.
    """

    agent: str
    paths: tuple[str, ...] | None = None
    seen: str | None = None
    branch: str | None = None
    message: str | None = None
    checked_out: bool = False


def accept(repository: Path, quarantine: Quarantine, asked: Accepting) -> Landed:
    """Land a result; the same again writes nothing. Raises Conflict, UsageError or SandboxError, nothing written."""
    owned, copied, result = find(repository), quarantine.copied(), came_back(quarantine)
    if asked.seen is not None and asked.seen != result:
        raise UsageError(
            "another result came back since it was reviewed",
            where=quarantine.name,
            do="look again: deploy sandbox diff",
        )
    if owned.object_format != copied.object_format:
        raise UsageError("this is not the repository that was copied", where=str(owned.folder))
    branch = _branch(owned, quarantine, asked)
    before = owned.tip(branch)
    onto = before or _onto(owned, copied)
    notes: tuple[str, ...] = ()
    with quarantine.incoming(owned.objects) as (_, git):
        tree = _tree(git, copied.start, result, asked.paths, quarantine.folder / "accepting")
        parent, merged = _merged(git, copied, onto, tree, branch)
        there = None if parent is None else git.run("rev-parse", f"{parent}^{{tree}}").decode().strip()
        if merged == there:
            return Landed(branch=branch, commit=before, before=before, written=False, paths=())
        if parent == copied.start != copied.commit:
            notes = ("what was not committed when the copy was made lands as a commit of its own before it",)
        commit = _commit(git, owned.identity(), parent, merged, _words(asked, quarantine.name))
        against = there or git.run("mktree").decode().strip()
        paths = entries_of(git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", against, merged))
        _give(git, owned, commit, onto)
    _move(owned, branch, commit, before, asked)
    return Landed(
        branch=branch,
        commit=commit,
        before=before,
        written=True,
        paths=tuple(name_of(one.path) for one in paths),
        notes=notes,
    )


def reject(quarantine: Quarantine) -> bool:
    """Drop what came back and what went in; False where there was nothing. The owner's repository is not touched."""
    return quarantine.drop()


def _branch(owned: Owned, quarantine: Quarantine, asked: Accepting) -> str:
    branch = asked.branch or f"agentrig/{quarantine.name}"
    code, _, _ = owned.git.ask("check-ref-format", f"refs/heads/{branch}")
    if code != 0 or branch.startswith("-"):
        raise UsageError(f"{shown(branch)} is no name for a branch", do="name another: git check-ref-format")
    tree = owned.checked_out().get(branch)
    if tree is not None and not asked.checked_out:
        raise UsageError(
            f"{shown(branch)} is checked out", where=str(tree), do="name another branch, or say that it may move"
        )
    return branch


def _onto(owned: Owned, copied: Copied) -> str | None:
    """Give what a new branch begins on: where the copied branch is now, else where it was."""
    now = owned.head if copied.branch is None else owned.tip(copied.branch)
    return now if copied.branch is not None and now else copied.commit


def _tree(git: Git, start: str, result: str, paths: Sequence[str] | None, index: Path) -> str:
    """Give the tree of what is accepted: the result's, or what went in with the named paths as they came back."""
    if paths is None:
        return git.run("rev-parse", f"{result}^{{tree}}").decode().strip()
    entries = entries_of(git.run("diff-tree", "-r", "-z", "--raw", "-M", "--no-abbrev", start, result))
    chosen = _chosen(entries, paths)
    lines = b"".join(
        line
        for one in chosen
        for line in (
            f"{_GONE} {'0' * len(start)}\t".encode() + (one.old_path or one.path) + b"\0"
            if one.letter in "DR"
            else b"",
            f"{one.mode} {one.blob}\t".encode() + one.path + b"\0" if one.letter != "D" else b"",
        )
    )
    index.unlink(missing_ok=True)
    within = git.beside(GIT_INDEX_FILE=str(index))
    try:
        within.run("read-tree", start)
        within.run("update-index", "-z", "--index-info", stdin=lines)
        return within.run("write-tree").decode().strip()
    except GitFailed as failed:
        raise UsageError(
            f"these files do not go alone: {failed.what}", do="accept what they replace or stand in as well"
        ) from failed
    finally:
        index.unlink(missing_ok=True)


def _chosen(entries: Sequence[Entry], paths: Sequence[str]) -> list[Entry]:
    """Give the changes that are named; either name of a renamed file names it. Raises UsageError for none."""
    chosen: dict[bytes, Entry] = {}
    for wanted in paths:
        found = [
            one
            for one in entries
            for name in (one.path, one.old_path)
            if name is not None
            and (name_of(name) == wanted or (wanted.endswith("/") and name_of(name).startswith(wanted)))
        ]
        if not found:
            raise UsageError(f"{shown(wanted)} did not change", do="name a path as the review does")
        chosen |= {one.path: one for one in found}
    return list(chosen.values())


def _merged(git: Git, copied: Copied, onto: str | None, tree: str, branch: str) -> tuple[str | None, str]:
    """Give the parent of what lands, and its tree: as reviewed where nothing moved, else merged three ways."""
    if onto is None or onto == copied.commit:
        empty = copied.commit is None and not copied.uncommitted
        return (None if empty else copied.start), tree
    who = {f"GIT_{role}_{key}": "merge" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    at = git.beside(**who, GIT_AUTHOR_DATE="@0 +0000", GIT_COMMITTER_DATE="@0 +0000")
    base = at.run("commit-tree", f"{copied.start}^{{tree}}").decode().strip()
    ours, theirs = (at.run("commit-tree", "-p", base, one).decode().strip() for one in (f"{onto}^{{tree}}", tree))
    code, out, said = at.ask("merge-tree", "--write-tree", "-z", "--name-only", "--messages", ours, theirs)
    fields = out.split(b"\0")
    if code == 1:
        told = fields[1 : fields.index(b"", 1)] if b"" in fields[1:] else fields[1:]
        raise Conflict(branch, tuple(dict.fromkeys(name_of(path) for path in told)))
    if code != 0:
        raise SandboxError(f"the merge failed: {shown(said[-500:])}")
    return onto, fields[0].decode().strip()


def _commit(git: Git, owner: tuple[str, str], parent: str | None, tree: str, words: tuple[str, str]) -> str:
    name, address = owner
    agent, message = words
    who = {
        "GIT_AUTHOR_NAME": agent,
        "GIT_AUTHOR_EMAIL": AGENT_ADDRESS,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": address,
    }
    parents = () if parent is None else ("-p", parent)
    made = git.beside(**who).run("commit-tree", *parents, tree, stdin=f"{message.strip()}\n".encode())
    return made.decode().strip()


def _words(asked: Accepting, sandbox: str) -> tuple[str, str]:
    """Give the author's name and the message: the owner's words, never the agent's."""
    agent = shown(asked.agent).strip() or "agent"
    return agent, asked.message or f"What {agent} changed in the sandbox {shown(sandbox)}"


def _give(git: Git, owned: Owned, commit: str, onto: str | None) -> None:
    """Send the commit's objects that the owner's branch has not; none of them counts until a branch names them."""
    known = () if onto is None else (f"^{onto}",)
    wanted = git.run("rev-list", "--objects", "--no-object-names", commit, *known)
    with git.talk("pack-objects", "--stdout", "--delta-base-offset", "-q") as packing:
        packing.write(wanted)
        packing.into.close()
        with owned.git.talk("index-pack", "--stdin") as indexing:
            while piece := packing.out.read(1 << 20):
                indexing.write(piece)
            packing.end()
            indexing.end()


def _move(owned: Owned, branch: str, commit: str, before: str | None, asked: Accepting) -> None:
    tree = owned.checked_out().get(branch)
    try:
        if tree is None:
            words = ("--create-reflog", "-m", "agentrig: accept", f"refs/heads/{branch}", commit, before or owned.none)
            owned.git.run("update-ref", *words)
        elif asked.checked_out:
            find(tree).git.run("merge", "-q", "--ff-only", "--no-overwrite-ignore", commit)
        else:
            raise UsageError(f"{shown(branch)} is checked out", where=str(tree), do="name another branch")
    except GitFailed as failed:
        raise SandboxError(
            f"{shown(branch)} could not be moved: {failed.what}",
            where=str(owned.folder),
            do="see git status, and try again",
        ) from failed
