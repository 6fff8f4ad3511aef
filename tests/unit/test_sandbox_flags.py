"""Which changes are shown first: every row of the catalog, each beside what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from orchestrator.catalog.loader import load
from orchestrator.catalog.rows import Fact, FlaggedRow
from orchestrator.errors import CatalogError
from orchestrator.sandbox.flags import LINK, NONE, SUBMODULE, Seen, flags_of
from orchestrator.sandbox.visible import folded, look_alike, name_of, shown
from tests.unit.copying import rows

if TYPE_CHECKING:
    from pathlib import Path

ROWS = rows()
PATTERNS = [(row.name, pattern) for row in ROWS.values() if row.fact is None for pattern in row.patterns]
HARMLESS = ("src/app.py", "docs/notes.md", "README.md", "tests/test_app.py", "lib/index.ts", "main.go", "data/x.csv")


def seen(path: str, new: bytes | None = b"x\n", old: bytes | None = None, mode: str = "100644", **more: object) -> Seen:
    given = {"old_path": None, "old_mode": NONE if old is None else "100644"} | more
    return Seen(path=path.encode(), mode=mode, old=old, new=new, **given)  # type: ignore[arg-type]


def flagged(change: Seen) -> set[str]:
    return {flag.row for flag in flags_of(change, ROWS.values())}


@pytest.mark.parametrize(("row", "pattern"), PATTERNS)
def test_a_pattern_flags_its_files_at_any_depth_in_any_case(row: str, pattern: str) -> None:
    name = pattern.replace("*", "x")
    for path in (name, f"deep/er/{name}", name.upper(), name.replace("i", "\u200bi")):
        assert row in flagged(seen(path)), path
    assert row in flagged(seen("elsewhere.txt", old_path=name.encode())), "renamed away"
    assert row in flagged(seen(name, new=None, old=b"x\n", mode=NONE)), "deleted"


@pytest.mark.parametrize("path", HARMLESS)
def test_the_control_ordinary_files_are_not_flagged(path: str) -> None:
    assert flagged(seen(path, new=b"text\n", old=b"other\n")) == set()


LOCK = b'{"resolved": "https://registry.example.org/a/-/a.tgz"}\n'
#: Fact -> what has it, and what nearly has.
FACTS: dict[Fact, tuple[tuple[Seen, ...], tuple[Seen, ...]]] = {
    "symlink": ((seen("a", b"b", mode=LINK),), (seen("a", b"b"),)),
    "leads_out": (
        (
            seen("a", b"/etc", mode=LINK),
            seen("d/a", b"../../x", mode=LINK),
            seen("a", b"..", mode=LINK),
            seen("a", b".git/hooks", mode=LINK),
            seen("d/a", b"../.GIT/config", mode=LINK),
            seen("a", b"b/../../x", mode=LINK),
        ),
        (
            seen("d/a", b"../x", mode=LINK),
            seen("a", b"..x", mode=LINK),
            seen("a", b"/etc"),
            seen("a", b"b/.gitx", mode=LINK),
        ),
    ),
    "executable": (
        (seen("a", mode="100755"), seen("a", old=b"x\n", mode="100755")),
        (seen("a"), seen("a", old=b"y", mode="100755", old_mode="100755")),
    ),
    "submodule": (
        (seen("a", None, mode=SUBMODULE), seen("a", None, mode=NONE, old_mode=SUBMODULE)),
        (seen("a", None, mode=NONE),),
    ),
    "program": (
        (seen("a", b"\x7fELF\x02"), seen("a.dat", b"MZ\x90"), seen("a", b"\xcf\xfa\xed\xfe")),
        (seen("a", b"xELF"), seen("a", b"\x7fELF", mode=LINK)),
    ),
    "shebang": (
        (seen("a", b"#!/bin/sh\n"), seen("a", b"#!x\0")),
        (seen("a", b"# !/bin/sh\n"), seen("a", b"#!x", mode=LINK)),
    ),
    "hidden_text": (
        (
            seen("a", "x = 'a\u202e'\n".encode()),
            seen("a", "x\u200b = 1\n".encode()),
            seen("a", "x\U000e0041\n".encode()),
            seen("a\u2066b"),
            seen("a", "b\u202ec".encode(), mode=LINK),
        ),
        (
            seen("a", "Grüße, 日本語, שלום\n".encode()),
            seen("a", "x\u202e\n".encode(), old="x\u202e\n".encode()),
            seen("a", "\ufeffx\n".encode()),
            seen("a", b"\0\xe2\x80\xae"),
        ),
    ),
    "look_alike": (
        (seen("a", "p\u0430ssword = 1\n".encode()), seen("p\u0430ypal.txt"), seen("a", "\uff46oo = 1\n".encode())),
        (
            seen("a", "\u0441\u043b\u043e\u0432\u043e and word\n".encode()),
            seen("\u0441\u043b\u043e\u0432\u043e_word.txt"),
            seen("a", "naïve \u03a9mega\n".replace("\u03a9m", "\u03a9 m").encode()),
        ),
    ),
    "escapes": (
        (seen("a", b"x\x1b[2J\n"), seen("a", "x\x9b1A\n".encode()), seen("a\x1b"), seen("a", b"x\x08\x08\n")),
        (seen("a", b"x\ty\r\n"), seen("a", b"x\x1b\n", old=b"x\x1b\n"), seen("a", "é\n".encode())),
    ),
    "registry": (
        (
            seen("package-lock.json", LOCK.replace(b"registry", b"evil"), old=LOCK),
            seen("web/yarn.lock", b'resolved "https://evil.example.org/x"\n'),
            seen("Cargo.lock", b'source = "git+ssh://git@evil.example.org/x"\n', old=b""),
            seen("uv.lock", b"git@evil.example.org:x\n", old=b"x"),
        ),
        (
            seen("package-lock.json", LOCK.replace(b"/a/", b"/b/"), old=LOCK),
            seen("notes.txt", LOCK),
            seen("package-lock.json", None, old=LOCK, mode=NONE),
        ),
    ),
    "runs_a_command": (
        (
            seen(".gitmodules", b"[submodule]\n\turl = ext::sh -c x\n"),
            seen(".gitmodules", b"\tupdate = !x\n"),
            seen(".lfsconfig", b"\tprocess = x\n"),
            seen(".gitmodules", b"\turl = -x\n"),
        ),
        (
            seen(".gitmodules", b"[submodule]\n\turl = https://example.org/x\n\tpath = x\n"),
            seen("a", b"url = ext::sh\n"),
        ),
    ),
    "alike_names": ((seen("a", twin=b"A"),), (seen("a"),)),
    "unread": ((seen("a", None, unread=True),), (seen("a"),)),
}


@pytest.mark.parametrize("fact", get_args(Fact))
def test_a_fact_flags_what_has_it_and_leaves_what_nearly_has(fact: Fact) -> None:
    row = next(row.name for row in ROWS.values() if row.fact == fact)
    having, nearly = FACTS[fact]
    for change in having:
        assert row in flagged(change), change
    for change in nearly:
        assert row not in flagged(change), change


def test_what_was_found_can_be_shown() -> None:
    change = seen("a", b"#!/bin/sh \x1b[2J\n")
    assert (
        next(flag.detail for flag in flags_of(change, ROWS.values()) if flag.row == "shebang") == "#!/bin/sh \\x1b[2J"
    )


def test_a_row_without_patterns_and_fact_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="patterns"):
        FlaggedRow(name="x", why="y", source="z")
    monkeypatch.setattr("orchestrator.catalog.loader.data", lambda _: tmp_path)
    for name in ("gpus", "quants", "runtimes", "agents", "shapes", "speeds"):
        (tmp_path / f"{name}.yml").write_text("{}\n")
    (tmp_path / "flagged.yml").write_text("x: {why: y, source: z, pattern: [a]}\n")
    with pytest.raises(CatalogError, match="unknown key pattern"):
        load()


def test_names_have_one_spelling_each() -> None:
    odd = [b"a\x1b", b"a\\x1b", b"a\xff", b"a\\xff", b"a\n", b"a\\n", "a\u202e".encode(), b"a\\u202e", b"a\\\\", b"a\\"]
    assert len({name_of(name) for name in odd}) == len(odd)
    assert all(name_of(name).isprintable() for name in odd)


def test_text_keeps_its_tabs_and_ends_of_lines_and_nothing_else_that_is_obeyed() -> None:
    assert shown("a\tb\r\nc\n") == "a\tb\r\nc\n"
    assert shown("safe\rover\x1b[1m\x07\x85") == "safe\\x0dover\\x1b[1m\\x07\\u0085"
    assert shown(b"\xc3\x28") == "\\xc3("


def test_words_of_one_script_are_no_look_alikes() -> None:
    assert look_alike("\u0440\u0430\u0443\u0440\u0430l") == "\u0440\u0430\u0443\u0440\u0430l"
    assert look_alike("\u043f\u0440\u0438\u0432\u0435\u0442 world \u03b1\u03b2\u03b3") is None


def test_names_that_a_file_system_takes_for_one_are_folded_to_one() -> None:
    assert len({folded(name.encode()) for name in ("Straße", "STRASSE", "strasse", "stra\u200bsse")}) == 1
    assert folded("e\u0301".encode()) == folded("é".encode())
