"""What ``git diff-tree -z --raw`` and ``--numstat`` write, taken apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One changed path, its bytes as they are. ``letter``: A, M, D, R or T. Zeros stand for what is absent."""

    letter: str
    path: bytes
    old_path: bytes | None
    mode: str
    old_mode: str
    blob: str
    old_blob: str


def entries_of(raw: bytes) -> tuple[Entry, ...]:
    """Take ``--raw -z`` apart: ``:old new old new letter``, a path, and for a rename a second one."""
    fields = iter(raw.split(b"\0"))
    found = []
    for head in fields:
        if not head.startswith(b":"):
            continue
        old_mode, mode, old_blob, blob, letter = head[1:].decode("ascii").split(" ")
        first = next(fields)
        path, old_path = (next(fields), first) if letter[0] in "RC" else (first, None)
        found.append(Entry(letter[0], path, old_path, mode, old_mode, blob, old_blob))
    return tuple(found)


def lines_of(numstat: bytes) -> dict[bytes, tuple[int, int] | None]:
    """Take ``--numstat -z`` apart: path -> lines added and deleted; None for what is not text."""
    fields = iter(numstat.split(b"\0"))
    found: dict[bytes, tuple[int, int] | None] = {}
    for head in fields:
        if not head:
            continue
        added, deleted, path = head.split(b"\t", 2)
        if not path:
            next(fields)
            path = next(fields)
        found[path] = None if added == b"-" else (int(added), int(deleted))
    return found
