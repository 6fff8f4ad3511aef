"""How a result is described: as values, as a screen, as a patch."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from orchestrator.cli.reviewed import as_text, landed_lines, review_lines
from orchestrator.errors import UsageError
from orchestrator.sandbox.raw import entries_of, lines_of
from orchestrator.sandbox.reviewing import review, write_patch
from orchestrator.sandbox.values import Limits, Review
from tests.unit.copying import Round, change, commit, flagged, git, repository, rows, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def one(tmp_path: Path) -> Round:
    files = {
        "old.txt": "a\nb\nc\nd\ne\n",
        "gone.txt": "x\n",
        "run": "#!/bin/sh\n",
        "link": "text\n",
        "pic.bin": b"\0\1\2",
    }
    return Round(tmp_path, repository(tmp_path / "owner", files))


def everything(copy: Path) -> None:
    (copy / "old.txt").rename(copy / "renamed.txt")
    (copy / "gone.txt").unlink()
    (copy / "run").chmod(0o755)
    (copy / "link").unlink()
    (copy / "link").symlink_to("src/app.py")
    repository(copy / "inner")


def test_every_kind_of_change_is_described(one: Round) -> None:
    seen = one.worked({"pic.bin": b"\0\1\2\3", "README.md": "one\ntwo\n", "added.txt": "1\n2\n"}, everything)
    told = {one.path: (one.kind, one.what, one.old_mode, one.mode) for one in seen.changes}
    assert told == {
        "renamed.txt": ("renamed", "file", "100644", "100644"),
        "gone.txt": ("deleted", "file", "100644", None),
        "run": ("modified", "file", "100644", "100755"),
        "link": ("changed_kind", "symlink", "100644", "120000"),
        "inner": ("added", "submodule", None, "160000"),
        "pic.bin": ("modified", "file", "100644", "100644"),
        "README.md": ("modified", "file", "100644", "100644"),
        "added.txt": ("added", "file", None, "100644"),
    }
    assert (change(seen, "renamed.txt").old_path, change(seen, "link").target) == ("old.txt", "src/app.py")
    assert (change(seen, "added.txt").added_lines, change(seen, "README.md").deleted_lines) == (2, 1)
    assert (change(seen, "pic.bin").binary, change(seen, "pic.bin").old_bytes, change(seen, "pic.bin").bytes) == (
        True,
        3,
        4,
    )
    assert change(seen, "inner").target == git(one.copy / "inner", "rev-parse", "HEAD")
    assert flagged(seen, "run") == {"executable", "shebang"}
    assert Review.from_json(seen.to_json()) == seen


def test_what_would_be_run_comes_first_in_the_order_of_the_catalog(one: Round) -> None:
    files = {
        "a.txt": "a\n",
        "z/conftest.py": "x\n",
        ".github/workflows/ci.yml": "x\n",
        ".envrc": "x\n",
        "CLAUDE.md": "x\n",
    }
    seen = one.worked(files, lambda copy: (copy / "out").symlink_to("/etc/passwd"))
    paths = [change.path for change in seen.changes]
    assert paths == ["out", ".envrc", "CLAUDE.md", ".github/workflows/ci.yml", "z/conftest.py", "a.txt"]
    assert len(seen.flagged) == len(paths) - 1


def test_names_that_differ_by_case_alone_are_flagged(one: Round) -> None:
    commit(one.owner, {"Lib/a.py": "a\n"})
    seen = one.worked({"readme.md": "x\n", "lib/b.py": "b\n", "other.txt": "x\n"})
    assert {one.path for one in seen.flagged} == {"readme.md", "lib/b.py"}
    assert "beside README.md" in change(seen, "readme.md").flags[0].detail


def test_a_file_that_is_too_large_to_look_into_says_so(one: Round) -> None:
    one.worked({"large.txt": "x" * 5000})
    seen = review(one.quarantine, rows(), Limits(read=1000))
    assert flagged(seen, "large.txt") == {"unread"}
    assert seen.changes[0].bytes == 5000


def test_the_agents_commits_are_listed_up_to_a_limit(one: Round) -> None:
    one.go_in()
    for number in range(4):
        commit(one.copy, {"n": str(number)}, f"step {number}")
    one.back()
    seen = review(one.quarantine, rows(), Limits(commits=2))
    assert [made.subject for made in seen.commits] == ["What the agent left uncommitted", "step 3"]
    assert "last 2 commits" in seen.notes[0]


def test_ignored_files_of_the_copy_do_not_come_back(one: Round) -> None:
    commit(one.owner, {".gitignore": "*.pyc\n"})
    assert [one.path for one in one.worked({"a.pyc": b"x", "b.py": "x\n"}).changes] == ["b.py"]


def test_what_the_agent_staged_and_committed_comes_back_together(one: Round) -> None:
    one.go_in()
    commit(one.copy, {"committed.txt": "1\n"})
    write(one.copy, {"staged.txt": "2\n", "loose.txt": "3\n"})
    git(one.copy, "add", "staged.txt")
    index = (one.copy / ".git/index").read_bytes()
    assert {change.path for change in one.back().changes} == {"committed.txt", "staged.txt", "loose.txt"}
    assert (one.copy / ".git/index").read_bytes() == index


def test_the_patch_is_what_git_applies(one: Round) -> None:
    seen = one.worked(
        {"README.md": "one\r\n2\nthree\n", "grün.txt": "neu\n"}, lambda copy: (copy / "gone.txt").unlink()
    )
    patch = one.root / "box.patch"
    assert write_patch(one.quarantine, patch) == 0
    git(one.owner, "apply", "--index", str(patch))
    assert git(one.owner, "write-tree") == one.quarantine.git.line("rev-parse", f"{seen.result}^{{tree}}")


def test_a_patch_with_signs_that_a_terminal_obeys_is_for_reading(one: Round) -> None:
    one.worked({"README.md": "one\n\x1b]0;evil\x07\u202e\nthree\n", "x\x1b.txt": "x\n"})
    patch = one.root / "box.patch"
    assert write_patch(one.quarantine, patch) == 1
    text = patch.read_text()
    assert "1 lines hold signs" in text
    assert "+\\x1b]0;evil\\x07\\u202e" in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert not list(one.root.glob(".box.patch*"))


def test_the_screen_shows_flags_first_and_nothing_that_a_terminal_obeys(one: Round) -> None:
    seen = one.worked({"[red]x[/red].txt": "a\n", "Makefile": "all:\n", "y\x1b[2J.txt": "y\n"}, everything)
    screen = io.StringIO()
    Console(file=screen, width=200, force_terminal=False).print(as_text(review_lines(seen)))
    text = screen.getvalue()
    assert "[red]x[/red].txt" in text
    assert "\x1b" not in text
    assert text.index("! A Makefile") < text.index("  A [red]x[/red].txt")
    assert "a build runs it on the machine that builds" in text
    assert "mode 100644 -> 100755" in text
    assert "symlink -> src/app.py" in text
    assert f"{len(seen.changes)} changes, {len(seen.flagged)} to look at first" in text
    assert "more without a flag" in "\n".join(line.text for line in review_lines(seen, most=1))
    landed = one.accept("Makefile")
    assert "agentrig/box is now" in landed_lines(landed)[0].text
    assert "already" in landed_lines(one.accept("Makefile"))[0].text


def test_nothing_came_back_yet(one: Round) -> None:
    with pytest.raises(UsageError, match="no copy"):
        review(one.quarantine, rows())
    one.go_in()
    with pytest.raises(UsageError, match="nothing came back"):
        review(one.quarantine, rows())


def test_the_document_holds_plain_values(one: Round) -> None:
    seen = one.worked({os.fsdecode(b"\xff\xfe.txt"): "x\n"})
    assert json.loads(seen.to_json())["changes"][0]["path"] == "\\xff\\xfe.txt"


def test_what_git_writes_is_taken_apart() -> None:
    zero, blob = "0" * 40, "1" * 40
    raw = f":100644 100644 {blob} {blob} R100\0old name\0new\nname\0:000000 120000 {zero} {blob} A\0-l\0".encode()
    first, second = entries_of(raw)
    assert (first.letter, first.old_path, first.path) == ("R", b"old name", b"new\nname")
    assert (second.letter, second.old_path, second.path, second.mode) == ("A", None, b"-l", "120000")
    assert lines_of(b"1\t2\ta\tb\0-\t-\tbin\x000\t0\t\0old\0new\0") == {b"a\tb": (1, 2), b"bin": None, b"new": (0, 0)}
    assert entries_of(b"") == ()
    assert lines_of(b"") == {}
