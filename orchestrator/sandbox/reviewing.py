"""What came back, described: every changed path, what is to be looked at first, and the same as a patch to read.

Nothing of it is checked out or run: no filter, no text conversion, no external diff, no attribute.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.sandbox.coming_back import sizes_of
from orchestrator.sandbox.flags import LINK, NONE, SUBMODULE, Seen, flags_of
from orchestrator.sandbox.raw import Entry, entries_of, lines_of
from orchestrator.sandbox.values import AgentCommit, Change, Kind, Limits, Review, What
from orchestrator.sandbox.visible import folded, name_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from orchestrator.catalog.rows import FlaggedRow
    from orchestrator.sandbox.git import Git
    from orchestrator.sandbox.quarantine import Quarantine

_KINDS: Mapping[str, Kind] = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "T": "changed_kind"}
#: Detect renames; no abbreviated names; nothing that a tree or a configuration could name is run.
_DIFF = ("-r", "-M", "--full-index", "--no-abbrev", "--no-ext-diff", "--no-textconv", "--no-color")
#: What a person still reads of an agent's own words.
_SUBJECT = 200


def review(quarantine: Quarantine, rows: Mapping[str, FlaggedRow], limits: Limits | None = None) -> Review:
    """Describe what came back; raises UsageError where nothing did."""
    most = limits or Limits()
    git, start, result = quarantine.git, quarantine.copied().start, came_back(quarantine)
    changes = described(git, start, result, rows, most)
    related = git.line("merge-base", start, result) == start
    commits = _commits(git, start, result, most)
    notes = [] if related else ["the result does not descend from what went in: its history was written anew"]
    if len(commits) == most.commits:
        notes.append(f"only the last {most.commits} commits of the agent's are listed")
    return Review(
        sandbox=quarantine.name,
        start=start,
        result=result,
        related=related,
        changes=changes,
        commits=commits,
        notes=tuple(notes),
    )


def came_back(quarantine: Quarantine) -> str:
    """Give the result's commit; raises UsageError where nothing came back."""
    quarantine.copied()
    result = quarantine.result()
    if result is None:
        raise UsageError(f"nothing came back from {quarantine.name} yet", do="run an agent in it first")
    return result


def described(git: Git, start: str, result: str, rows: Mapping[str, FlaggedRow], limits: Limits) -> tuple[Change, ...]:
    """Give every change between two commits or trees, those with flags first, in the order of the rows."""
    entries = entries_of(git.run("diff-tree", "--raw", "-z", *_DIFF, start, result))
    lines = lines_of(git.run("diff-tree", "--numstat", "-z", *_DIFF, start, result))
    files = [name for one in entries for name in _files(one)]
    sizes = sizes_of(git, files)
    contents = _contents(git, [name for name in files if sizes.get(name, 0) <= limits.read])
    twins = _twins(git, result, entries)
    order = {name: number for number, name in enumerate(rows)}
    changes = [_change(one, sizes, contents, lines, twins, rows.values(), limits) for one in entries]
    changes.sort(key=lambda change: (min((order[flag.row] for flag in change.flags), default=len(order)), change.path))
    return tuple(changes)


def _files(entry: Entry) -> list[str]:
    pairs = ((entry.mode, entry.blob), (entry.old_mode, entry.old_blob))
    return [blob for mode, blob in pairs if mode not in {NONE, SUBMODULE}]


def _change(  # noqa: PLR0913, PLR0917 - all that is known of a change
    entry: Entry,
    sizes: Mapping[str, int],
    contents: Mapping[str, bytes],
    lines: Mapping[bytes, tuple[int, int] | None],
    twins: Mapping[bytes, bytes],
    rows: Iterable[FlaggedRow],
    limits: Limits,
) -> Change:
    there, was = entry.mode != NONE, entry.old_mode != NONE
    old, new = contents.get(entry.old_blob), contents.get(entry.blob)
    seen = Seen(
        entry.path,
        entry.old_path,
        entry.mode,
        entry.old_mode,
        old,
        new,
        there and sizes.get(entry.blob, 0) > limits.read,
        twins.get(entry.path),
    )
    counted = lines.get(entry.path)
    kind = entry.mode if there else entry.old_mode
    what: What = "symlink" if kind == LINK else "submodule" if kind == SUBMODULE else "file"
    return Change(
        path=name_of(entry.path),
        old_path=None if entry.old_path is None else name_of(entry.old_path),
        kind=_KINDS[entry.letter],
        what=what,
        mode=entry.mode if there else None,
        old_mode=entry.old_mode if was else None,
        bytes=sizes.get(entry.blob) if there else None,
        old_bytes=sizes.get(entry.old_blob) if was else None,
        added_lines=counted[0] if counted else None,
        deleted_lines=counted[1] if counted else None,
        binary=counted is None and what == "file",
        target=_target(entry, new, there=there),
        flags=flags_of(seen, rows),
    )


def _target(entry: Entry, new: bytes | None, *, there: bool) -> str | None:
    if not there:
        return None
    if entry.mode == SUBMODULE:
        return entry.blob
    return name_of(new) if entry.mode == LINK and new is not None else None


def _contents(git: Git, blobs: Sequence[str]) -> dict[str, bytes]:
    """Read files one after the other; what is asked for has been measured."""
    found: dict[str, bytes] = {}
    with git.talk("cat-file", "--batch") as talk:
        for name in dict.fromkeys(blobs):
            talk.write(f"{name}\n".encode())
            talk.into.flush()
            told = talk.out.readline().split()
            if len(told) == 3:  # noqa: PLR2004 - name, kind, size
                found[name] = talk.out.read(int(told[2]))
                talk.out.read(1)
        talk.end()
    return found


def _twins(git: Git, result: str, entries: Sequence[Entry]) -> dict[bytes, bytes]:
    """Give for each new path another of the result's that differs from it by case or form alone."""
    fresh = {one.path for one in entries if one.letter in "AR"}
    if not fresh:
        return {}
    paths = git.run("ls-tree", "-r", "-t", "-z", "--name-only", result).split(b"\0")
    wanted: dict[str, list[bytes]] = {}
    for path in fresh:
        parts = path.split(b"/")
        for number in range(len(parts)):
            wanted.setdefault(folded(b"/".join(parts[: number + 1])), []).append(path)
    found = {}
    for other in paths:
        depth = other.count(b"/")
        for path in wanted.get(folded(other), ()):
            if path.split(b"/")[: depth + 1] != other.split(b"/"):
                found[path] = other
    return found


def _commits(git: Git, start: str, result: str, limits: Limits) -> tuple[AgentCommit, ...]:
    words = ("-z", f"--max-count={limits.commits}", "--format=%H%n%an <%ae>%n%s", "--no-notes", "--no-mailmap")
    made = []
    for one in git.run("log", *words, f"{start}..{result}", "--").split(b"\0"):
        commit, _, rest = one.partition(b"\n")
        author, _, subject = rest.partition(b"\n")
        if commit:
            name, said = name_of(author[:_SUBJECT]), name_of(subject[:_SUBJECT])
            made.append(AgentCommit(commit=commit.decode(), author=name, subject=said))
    return tuple(made)


def write_patch(quarantine: Quarantine, into: Path) -> int:
    """Write the whole change as a patch to read, and give how many of its lines had signs to be spelled out.

    Where none had, ``git apply`` takes it, but for binary files.
    """
    start, result = quarantine.copied().start, came_back(quarantine)
    body = into.with_name(f".{into.name}.{os.getpid()}")
    spelled = 0
    try:
        with (
            body.open("w", encoding="utf-8", newline="") as file,
            quarantine.git.talk("diff-tree", "-p", *_DIFF, start, result) as talk,
        ):
            for line in talk.out:
                text = shown(line)
                spelled += text.encode("utf-8", "replace") != line
                file.write(text)
            talk.end()
        with into.open("w", encoding="utf-8") as file, body.open(encoding="utf-8", newline="") as rest:
            file.write(f"What came back from {shown(quarantine.name)}: {start}..{result}\n")
            if spelled:
                file.write(f"{spelled} lines hold signs that are spelled out here: to be read, not to be applied\n")
            file.write("\n")
            shutil.copyfileobj(rest, file)
    finally:
        body.unlink(missing_ok=True)
    return spelled
