"""What a run changed, by name: the tasks' own words, put together by kind. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Kind -> what the words of a change of that kind begin with; the first that fits counts.
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("carried", re.compile(r"carry (?P<what>.+)")),
    ("packages", re.compile(r"(?:install|purge) (?P<what>.+)")),
    ("trees", re.compile(r"build (?P<what>.+)")),
    ("users", re.compile(r"(?:make|remove) user (?P<what>.+)")),
    ("release", re.compile(r"make release (?P<what>\S+) current")),
    ("units", re.compile(r"(?:start|stop) (?P<what>.+)")),
    ("masked", re.compile(r"mask (?P<what>.+)")),
    ("files", re.compile(r"(?:write|link|make|remove) (?P<what>/.+)")),
)
#: What every run that changes something does, and nobody needs to be told.
_OF_COURSE = re.compile(r"(?:make|remove) group|hold |remember what|write release|put an archive")
_BYTES = re.compile(r"(\d+) parts, (\d+) bytes")
_MIB = 1024 * 1024


def changes_by_kind(changes: Iterable[str]) -> dict[str, list[str]]:
    """Give kind -> names, in the order of a run; what is of no kind stands under ``other`` in its own words."""
    found: dict[str, list[str]] = {}
    for change in changes:
        kind, what = _sorted_in(change)
        if kind:
            found.setdefault(kind, []).extend(what)
    return found


def changes_lines(changes: Iterable[str], width: int) -> list[str]:
    """Give what was changed as lines that fit the width; of many names the first ones, and how many more."""
    return [f"{kind:9} {_as_many(names, width - 10)}" for kind, names in changes_by_kind(changes).items()]


def _sorted_in(change: str) -> tuple[str, list[str]]:
    if _OF_COURSE.match(change):
        return "", []
    for kind, pattern in _KINDS:
        if match := pattern.fullmatch(change):
            what = match["what"]
            if size := _BYTES.fullmatch(what):
                return kind, [f"{size[1]} parts, {int(size[2]) / _MIB:.0f} MiB"]
            return kind, what.split(", ") if kind == "packages" else [what]
    return "other", [change]


def _as_many(names: list[str], width: int) -> str:
    """Give as many names as fit, at least one."""
    for shown in range(len(names), 1, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        text = ", ".join(names[:shown]) + more
        if len(text) <= width:
            return text
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
