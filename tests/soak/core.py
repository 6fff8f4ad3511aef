"""What the evidence of a matrix is held to. Pure: values in, values out; files, Git and pytest are the runner's."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: How many cases a check runs again.
AGAIN = 2


class Content(NamedTuple):
    """One file that a matrix covers: its path in the repository, its mode as Git knows it, its bytes."""

    path: str
    mode: str
    content: bytes


@dataclass(frozen=True)
class Row:
    """One matrix of the table: what it shows, what it covers, where its cases are."""

    name: str
    shows: str
    covers: tuple[str, ...]
    cases: str
    seed: int
    #: A case that takes longer is ended, and counts as failed.
    seconds: int
    root: bool = False

    @property
    def command(self) -> str:
        """Give the command that runs the whole matrix; one case is named as pytest names it."""
        return f"make soak MATRIX={self.name}"


@dataclass(frozen=True)
class Line:
    """How one case went. ``says`` must come out the same when the case is run again; ``figures`` need not."""

    case: str
    start: str
    end: str
    exit: int
    log_sha256: str
    result: str
    says: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """One run of a matrix: over which content, by which command, from which seed, and every case's line."""

    matrix: str
    digest: str
    covers: tuple[str, ...]
    command: str
    seed: int
    lines: tuple[Line, ...] = ()


class Count(NamedTuple):
    """A matrix in three numbers."""

    cases: int
    passed: int
    failed: int


def digest(files: Iterable[Content]) -> str:
    """Give the sha256 of files by path, mode and bytes, in the order of their paths; lengths keep them apart."""
    whole = hashlib.sha256()
    for file in sorted(files):
        path = file.path.encode()
        whole.update(f"{file.mode} {len(path)} {len(file.content)}\n".encode() + path + file.content)
    return f"sha256:{whole.hexdigest()}"


def drawn(cases: Iterable[tuple[str, str]], commit: str, number: int = AGAIN) -> list[tuple[str, str]]:
    """Draw cases (matrix, case) by a commit's hash: who writes the evidence cannot know which."""
    return sorted(set(cases), key=lambda case: hashlib.sha256("\0".join((commit, *case)).encode()).digest())[:number]


def recount(lines: Sequence[Line]) -> Count:
    """Count a matrix from its lines; only what passed has passed."""
    passed = sum(line.result == "passed" and line.exit == 0 for line in lines)
    return Count(len(lines), passed, len(lines) - passed)


def objections(row: Row, kept: Evidence | None, content: str, cases: Sequence[str]) -> list[str]:
    """Give all that speaks against a matrix's evidence, over the content and the cases that there are now."""
    if kept is None:
        return [f"{row.name}: there is no evidence; {row.command} writes it"]
    found = []
    if kept.digest != content:
        found.append(f"what it covers is {content}, and was {kept.digest}")
    found += [
        f"its {what} in the table is {getattr(row, what)!r}, and was {getattr(kept, what)!r}"
        for what in ("covers", "command", "seed")
        if getattr(kept, what) != getattr(row, what)
    ]
    ran = Counter(line.case for line in kept.lines)
    found += [f"{case} was not run" for case in cases if case not in ran]
    found += [f"{case} is no case of it" for case in ran if case not in cases]
    found += [f"{case} stands there {times} times" for case, times in ran.items() if times > 1]
    found += [f"{line.case} {line.result}, exit {line.exit}" for line in kept.lines if recount([line]).failed]
    found += [f"{line.case} ended before it began" for line in kept.lines if line.end < line.start]
    found += [] if kept.lines else ["it has no case"]
    return [f"{row.name}: {one}" for one in found]


def differences(kept: Line, again: Line) -> list[str]:
    """Give what came out otherwise when a case was run again."""
    return [
        f"{kept.case}: {what} was {getattr(kept, what)!r}, and is {getattr(again, what)!r}"
        for what in ("case", "result", "exit", "says")
        if getattr(kept, what) != getattr(again, what)
    ]


def page(rows: Sequence[Row], evidence: Mapping[str, Evidence]) -> str:
    """Give the page that a person reads: a line a matrix, counted from its lines."""
    lines = [
        "# The slow ring",
        "",
        "Written by `make soak`; `make soak-check` counts it again. How it works:",
        "[testing](../../docs/guides/testing.md).",
        "",
        "| matrix | shows | cases | passed | failed | seed | first began | last ended |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kept = evidence.get(row.name)
        if kept is None or not kept.lines:
            continue
        first, last = min(line.start for line in kept.lines), max(line.end for line in kept.lines)
        cells = (row.name, row.shows, *recount(kept.lines), kept.seed, first, last)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join([*lines, ""])


def to_text(evidence: Evidence) -> str:
    """Give evidence as lines of JSON: what was run, then every case."""
    head = {key: value for key, value in asdict(evidence).items() if key != "lines"}
    return "".join(json.dumps(one) + "\n" for one in (head, *(asdict(line) for line in evidence.lines)))


def from_text(text: str) -> Evidence:
    """Read evidence; raises ValueError for what ``to_text`` did not write."""
    try:
        head, *lines = [json.loads(line) for line in text.splitlines()]
        names = {one.name for one in fields(Line)}
        if any(set(line) != names for line in lines):
            raise ValueError("a case's line has other keys")
        return Evidence(**head | {"covers": tuple(head["covers"])}, lines=tuple(Line(**line) for line in lines))
    except (TypeError, KeyError) as error:
        raise ValueError(f"this is no evidence: {error}") from error
