"""Which changes are shown first, and why: the catalog's rows held to a change. Pure."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from functools import lru_cache
from posixpath import normpath
from typing import TYPE_CHECKING

from orchestrator.sandbox.values import Flag
from orchestrator.sandbox.visible import CONTROLS, HIDDEN, folded, look_alike, name_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.catalog.rows import Fact, FlaggedRow

LINK, SUBMODULE, PROGRAM, NONE = "120000", "160000", "100755", "000000"
#: The first bytes of ELF, PE, Mach-O in both orders, universal Mach-O and Java classes, WebAssembly.
_MAGIC = (
    b"\x7fELF",
    b"MZ",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\0asm",
)
#: Git takes a file for binary that has a NUL among its first 8000 bytes (xdiff-interface.c, FIRST_FEW_BYTES).
_FIRST = 8000
_ADDRESS = re.compile(rb"(?:[a-z+]+://(?:[^/\s\"'@]*@)?|git@)([A-Za-z0-9][A-Za-z0-9.-]*(?::\d+(?=[/\"'\s]))?)")
_COMMAND = re.compile(
    r"(?im)^.*(?:\bext::|=\s*\"?-|\bupdate\s*=\s*!|\b(?:sshCommand|fsmonitor|hooksPath|pager|editor|askPass|helper|clean"
    r"|smudge|process|textconv|command|driver|uploadpack|receivepack|proxy)\s*=|=\s*\"?!).*$"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a change. ``old`` and ``new`` are contents (a link's target); None where none or not read."""

    path: bytes
    old_path: bytes | None
    mode: str
    old_mode: str
    old: bytes | None
    new: bytes | None
    unread: bool = False
    twin: bytes | None = None

    @property
    def text(self) -> str:
        """Give the new lines of a text; empty for a link, for what is binary, or gone."""
        if self.new is None or self.mode in {LINK, SUBMODULE} or b"\0" in self.new[:_FIRST]:
            return ""
        former = set((self.old or b"").splitlines())
        lines = [line for line in self.new.splitlines() if line not in former]
        return b"\n".join(lines).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")

    @property
    def target(self) -> str:
        """Give where a link leads; empty for what is none."""
        return "" if self.mode != LINK or self.new is None else self.new.decode("utf-8", "surrogateescape")


def flags_of(seen: Seen, rows: Iterable[FlaggedRow]) -> tuple[Flag, ...]:
    """Give the flags of a change in the order of the rows."""
    names = [folded(path) for path in (seen.path, seen.old_path) if path is not None]
    found = []
    for row in rows:
        if row.patterns and not any(_pattern(row.patterns).match("/" + name) for name in names):
            continue
        detail = "" if row.fact is None else _FACTS[row.fact](seen)
        if detail is not None:
            found.append(Flag(row=row.name, why=row.why, detail=shown(detail)))
    return tuple(found)


@lru_cache(maxsize=256)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(f"*/{folded(one.encode())}") for one in patterns))


def _leads_out(seen: Seen) -> str | None:
    if not seen.target:
        return None
    folder = seen.path.decode("utf-8", "surrogateescape").rpartition("/")[0]
    reached = normpath(f"{folder}/{seen.target}" if folder else seen.target)
    away = seen.target.startswith(("/", "~", "\\")) or reached == ".." or reached.startswith("../")
    inside = folded(reached.encode("utf-8", "surrogateescape")).split("/")
    return f"-> {seen.target}" if away or ".git" in inside else None


def _executable(seen: Seen) -> str | None:
    if seen.mode != PROGRAM or seen.old_mode == PROGRAM:
        return None
    return "new" if seen.old_mode == NONE else f"mode {seen.old_mode} -> {seen.mode}"


def _shebang(seen: Seen) -> str | None:
    if seen.mode in {LINK, SUBMODULE} or not (seen.new or b"").startswith(b"#!"):
        return None
    return (seen.new or b"").split(b"\n", 1)[0][:80].decode("utf-8", "replace")


def _hidden(seen: Seen) -> str | None:
    return _signs(HIDDEN, seen)


def _escapes(seen: Seen) -> str | None:
    return _signs(CONTROLS, seen)


def _signs(wanted: re.Pattern[str], seen: Seen) -> str | None:
    name = seen.path.decode("utf-8", "replace")
    if wanted.search(name):
        return f"in its name: {name_of(seen.path)}"
    found = sorted({f"U+{ord(sign):04X}" for sign in wanted.findall(seen.text + seen.target)})
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "") if found else None  # noqa: PLR2004


def _look_alike(seen: Seen) -> str | None:
    word = look_alike(seen.path.decode("utf-8", "replace").replace("_", " ")) or look_alike(seen.text)
    if word is None:
        return None
    return f"{word} = " + " ".join(letter if letter.isascii() else f"U+{ord(letter):04X}" for letter in word[:40])


def _registry(seen: Seen) -> str | None:
    if seen.new is None:
        return None
    fresh = sorted(set(_ADDRESS.findall(seen.new)) - set(_ADDRESS.findall(seen.old or b"")))
    return ", ".join(one.decode() for one in fresh[:5]) + (" …" if len(fresh) > 5 else "") if fresh else None  # noqa: PLR2004


def _runs_a_command(seen: Seen) -> str | None:
    found = _COMMAND.search(seen.text)
    return None if found is None else found.group().strip()[:120]


def _twin(seen: Seen) -> str | None:
    return None if seen.twin is None else f"beside {name_of(seen.twin)}"


#: Gives what was found, empty where the fact says it all; None where it does not hold.
_FACTS: Mapping[Fact, Callable[[Seen], str | None]] = {
    "symlink": lambda seen: f"-> {seen.target}" if seen.target else None,
    "leads_out": _leads_out,
    "executable": _executable,
    "submodule": lambda seen: "" if SUBMODULE in {seen.mode, seen.old_mode} else None,
    "program": lambda seen: "" if (seen.new or b"").startswith(_MAGIC) and seen.mode != LINK else None,
    "shebang": _shebang,
    "hidden_text": _hidden,
    "look_alike": _look_alike,
    "escapes": _escapes,
    "registry": _registry,
    "runs_a_command": _runs_a_command,
    "alike_names": _twin,
    "unread": lambda seen: "" if seen.unread else None,
}
