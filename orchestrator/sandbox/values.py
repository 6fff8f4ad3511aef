"""What goes in, what comes back and what lands: frozen values. Paths and texts in them can be shown as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from orchestrator.nouns import Noun

#: 40 hexadecimal digits, or 64 in a repository of the SHA-256 format.
OBJECT = r"^([0-9a-f]{40}|[0-9a-f]{64})$"

Kind = Literal["added", "modified", "deleted", "renamed", "changed_kind"]
What = Literal["file", "symlink", "submodule"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What may come back at most; more is refused. Sizes in bytes, times in seconds.

    ``memory`` is what one Git process may hold, ``pack`` what is sent, ``contents`` all changed files together and
    unpacked, ``read`` how much of one file is looked into.
    """

    seconds: float = 600
    memory: int = 2 << 30
    pack: int = 2 << 30
    objects: int = 1_000_000
    file: int = 256 << 20
    contents: int = 4 << 30
    #: Files and folders of the whole tree: ten times what the Linux kernel's has.
    entries: int = 1_000_000
    #: Bytes of one path, and of one name in it: PATH_MAX and NAME_MAX of limits.h.
    path: int = 4095
    name: int = 255
    changes: int = 100_000
    read: int = 4 << 20
    commits: int = 100


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall go in: the branch that is checked out, or a named one.

    ``history``: the whole branch and not its last commit alone. ``uncommitted``: what is not committed as well,
    but for ignored files. ``also``: ignored files or folders that shall go in all the same.
    """

    branch: str | None = None
    history: bool = False
    uncommitted: bool = False
    also: tuple[str, ...] = ()
    seconds: float = 3600


class Copied(Noun):
    """What went in. ``commit`` is the owner's, ``start`` the copy's first: the same, or one with the uncommitted."""

    repository: str
    branch: str | None
    object_format: Literal["sha1", "sha256"]
    commit: str | None = Field(default=None, pattern=OBJECT)
    start: str = Field(pattern=OBJECT)
    history: bool
    #: The copy's history has an end before its beginning: older commits did not go in.
    shallow: bool
    #: Files that went in although they are not committed, as their paths are shown.
    uncommitted: tuple[str, ...] = ()
    #: Submodules, of which the commit's name went in and nothing else.
    submodules: tuple[str, ...] = ()
    #: Files that are pointers of Git LFS and went in as they are.
    lfs_pointers: int = 0
    #: What a reader should know besides, in sentences.
    notes: tuple[str, ...] = ()
    bytes: int
    seconds: float


class Flag(Noun):
    """Why a change is shown first: the catalog's row, its reason, and what was found."""

    row: str
    why: str
    detail: str = ""


class Change(Noun):
    """One changed path. Sizes in bytes; lines are None for what is not text. Modes as ``100644``; None where absent."""

    path: str
    old_path: str | None = None
    kind: Kind
    what: What
    mode: str | None = None
    old_mode: str | None = None
    bytes: int | None = None
    old_bytes: int | None = None
    added_lines: int | None = None
    deleted_lines: int | None = None
    binary: bool = False
    #: Where a link leads, or the commit of a submodule.
    target: str | None = None
    flags: tuple[Flag, ...] = ()


class AgentCommit(Noun):
    """A commit that the agent made; none of them lands, what it says of itself is the agent's word."""

    commit: str
    author: str
    subject: str


class Review(Noun):
    """All that came back: the flagged changes first, in the order of the catalog."""

    sandbox: str
    start: str
    result: str
    #: False where the result does not descend from what went in: its history was written anew.
    related: bool
    changes: tuple[Change, ...]
    commits: tuple[AgentCommit, ...]
    notes: tuple[str, ...] = ()

    @property
    def flagged(self) -> tuple[Change, ...]:
        """Give the changes that bear a flag."""
        return tuple(change for change in self.changes if change.flags)


class Landed(Noun):
    """What lies on the owner's branch now. ``before`` is where the branch was; None for a new one."""

    branch: str
    commit: str | None
    before: str | None
    #: False where the branch holds all of it already: nothing was written.
    written: bool
    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()
