"""The slow ring's evidence: a control for each check, which alters the content or a line and must be heard."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from tests.soak import __main__ as command
from tests.soak import core, files
from tests.soak.core import Content, Count, Evidence, Line, Row
from tests.soak.runner import Runner

ROW = Row("tiny", "that it holds", ("tests/soak/test_tiny.py", "kept"), "tests/soak/test_tiny.py", 7, 60)
LINES = tuple(
    Line(f"test_tiny[{n}]", f"2026-01-01T00:00:0{n}", f"2026-01-01T00:00:0{n + 1}", 0, "ab" * 32, "passed", {"n": n})
    for n in range(3)
)
CASES = [line.case for line in LINES]
KEPT = Evidence("tiny", "sha256:00", ROW.covers, ROW.command, ROW.seed, LINES)

contents = some.builds(Content, some.text(min_size=1), some.sampled_from(["100644", "100755"]), some.binary())


# ---------------------------------------------------------------- the digest


@given(some.lists(contents, unique=True), some.randoms())
def test_the_digest_does_not_know_the_order(several: list[Content], chance: object) -> None:
    shuffled = list(several)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert core.digest(shuffled) == core.digest(several)


@given(contents, some.lists(contents), contents)
def test_the_digest_knows_every_path_mode_and_byte(one: Content, others: list[Content], other: Content) -> None:
    before = core.digest([one, *others])
    assert core.digest(others) != before
    assert core.digest([one, other, *others]) != before
    if other != one:
        assert core.digest([other, *others]) != before


def test_bytes_do_not_move_from_one_file_to_the_next() -> None:
    one = [Content("a", "100644", b"xy"), Content("b", "100644", b"")]
    assert core.digest(one) != core.digest([Content("a", "100644", b"x"), Content("b", "100644", b"y")])
    assert core.digest([Content("ab", "100644", b"c")]) != core.digest([Content("a", "100644", b"bc")])


# ---------------------------------------------------------------- the draw


def test_the_draw_is_the_commit_s_and_no_case_s() -> None:
    cases = [("tiny", f"case-{n}") for n in range(20)]
    firsts = {tuple(core.drawn(cases, f"{n:040x}")) for n in range(200)}
    assert all(len(set(pair)) == 2 for pair in firsts)
    assert {case for pair in firsts for case in pair} == set(cases)
    assert core.drawn(reversed(cases), "ab" * 20) == core.drawn(cases, "ab" * 20)
    assert core.drawn(cases[:1], "ab" * 20) == cases[:1]
    assert core.drawn([], "ab" * 20) == []


# ---------------------------------------------------------------- recount and objections


def test_only_what_passed_has_passed() -> None:
    odd = (replace(LINES[0], exit=1), replace(LINES[1], result="skipped"), replace(LINES[2], result="failed", exit=1))
    assert core.recount(LINES) == Count(3, 3, 0)
    assert core.recount([*LINES, *odd]) == Count(6, 3, 3)


def test_whole_evidence_meets_no_objection() -> None:
    assert core.objections(ROW, KEPT, "sha256:00", CASES) == []


@pytest.mark.parametrize(
    ("altered", "objection"),
    [
        (replace(KEPT, digest="sha256:01"), "what it covers is sha256:00"),
        (replace(KEPT, covers=("kept",)), "its covers"),
        (replace(KEPT, command="true"), "its command"),
        (replace(KEPT, seed=8), "its seed"),
        (replace(KEPT, lines=LINES[:2]), "test_tiny[2] was not run"),
        (replace(KEPT, lines=(*LINES, replace(LINES[0], case="test_more"))), "test_more is no case of it"),
        (replace(KEPT, lines=(*LINES, LINES[0])), "test_tiny[0] stands there 2 times"),
        (replace(KEPT, lines=(replace(LINES[0], exit=1), *LINES[1:])), "test_tiny[0] passed, exit 1"),
        (replace(KEPT, lines=(replace(LINES[0], result="failed"), *LINES[1:])), "test_tiny[0] failed, exit 0"),
        (replace(KEPT, lines=(replace(LINES[0], result="skipped"), *LINES[1:])), "test_tiny[0] skipped"),
        (replace(KEPT, lines=(replace(LINES[0], end="2025"), *LINES[1:])), "test_tiny[0] ended before it began"),
        (None, "there is no evidence"),
    ],
)
def test_each_alteration_is_heard(altered: Evidence | None, objection: str) -> None:
    found = core.objections(ROW, altered, "sha256:00", CASES)
    assert len(found) == 1, found
    assert objection in found[0]


def test_a_matrix_without_cases_is_not_green() -> None:
    assert core.objections(ROW, replace(KEPT, lines=()), "sha256:00", []) == ["tiny: it has no case"]


def test_what_came_out_otherwise_is_told() -> None:
    later = replace(LINES[0], start="2027", end="2028", log_sha256="cd" * 32, figures={"seconds": 9})
    assert core.differences(LINES[0], later) == []
    for altered in ({"result": "failed"}, {"exit": 1}, {"says": {"n": 9}}):
        assert len(core.differences(LINES[0], replace(later, **altered))) == 1


# ---------------------------------------------------------------- the page and the lines


def test_the_page_counts_the_lines_and_leaves_out_what_was_never_run() -> None:
    odd = replace(KEPT, lines=(*LINES[:2], replace(LINES[2], result="failed", exit=1)))
    text = core.page([ROW, replace(ROW, name="never")], {"tiny": odd})
    assert "| tiny | that it holds | 3 | 2 | 1 | 7 | 2026-01-01T00:00:00 | 2026-01-01T00:00:03 |" in text
    assert "never" not in text
    assert core.page([ROW], {"tiny": KEPT}) != core.page([ROW], {"tiny": odd})


def test_evidence_is_read_as_it_was_written() -> None:
    assert core.from_text(core.to_text(KEPT)) == KEPT
    assert len(core.to_text(KEPT).splitlines()) == 1 + len(LINES)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]\n", core.to_text(KEPT) + "{}\n", core.to_text(KEPT).replace('"exit"', '"ended"'), "not JSON"],
)
def test_what_is_no_evidence_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        core.from_text(text)


# ---------------------------------------------------------------- in a checkout of its own

CASE = """
import os, pathlib, pytest
@pytest.mark.parametrize("n", range(3))
def test_tiny(n, record, seed):
    kept = (pathlib.Path(__file__).parents[2] / "kept/word").read_text()
    record.says(n=n, seed=seed, word=pathlib.Path(os.environ["TINY_WORD"]).read_text())
    record.figures(characters=len(kept))
    if os.environ.get("TINY_SKIPS"):
        pytest.skip("not today")
    assert kept == "good"
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one matrix of three cases, committed."""
    root = tmp_path / "checkout"
    (root / "tests/soak").mkdir(parents=True)
    (root / "kept").mkdir()
    (root / "kept/word").write_text("good")
    (tmp_path / "said").write_text("same")
    (root / "tests/soak/test_tiny.py").write_text(CASE)
    (root / "tests/soak/conftest.py").write_text((files.ROOT / "tests/soak/conftest.py").read_text())
    keys = {"shows": ROW.shows, "covers": list(ROW.covers), "cases": ROW.cases, "seed": 7, "seconds": 60}
    (root / files.TABLE).write_text(yaml.safe_dump({"tiny": keys}))
    (root / ".gitignore").write_text("__pycache__/\n")
    monkeypatch.setenv("TINY_WORD", str(tmp_path / "said"))
    monkeypatch.setenv("PYTHONPATH", str(files.ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    git(root, "init", "--quiet")
    saved(root)
    monkeypatch.setattr("tests.soak.runner.CACHE", tmp_path / "cache")
    for function in ("rows", "covered", "untracked", "evidence", "keep", "commit"):
        really: Callable[..., object] = getattr(files, function)
        monkeypatch.setattr(files, function, lambda *given, really=really: really(*given, root=root))
    monkeypatch.setattr(files, "ROOT", root)
    monkeypatch.setattr(command, "Runner", lambda row, as_root: Runner(row, as_root, root))
    return root


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def saved(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "as it is")


def soaked(root: Path) -> None:
    assert command.main(["run"]) == 0
    saved(root)


def test_what_was_run_holds_until_it_changes(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check"]) == 1, "a row without evidence"
    soaked(checkout)
    (kept,) = files.evidence().values()
    assert [line.says for line in kept.lines] == [{"n": n, "seed": 7, "word": "same"} for n in range(3)]
    assert [line.figures for line in kept.lines] == [{"characters": 4}] * 3
    assert "| tiny | that it holds | 3 | 3 | 0 | 7 |" in (checkout / files.PAGE).read_text()
    (checkout / "kept/loose").write_text("nobody tracks this")
    (checkout / "kept/word").touch()
    capsys.readouterr()
    assert command.main(["check"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.count("passed") == core.AGAIN
    with pytest.raises(ValueError, match="kept/loose"):
        command.run(files.rows(), "")
    (checkout / "kept/loose").unlink()
    (checkout / "kept/word").chmod(0o755)
    assert command.main(["check"]) == 1
    assert "what it covers" in capsys.readouterr().err


def test_a_case_that_comes_out_otherwise_is_heard(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soaked(checkout)
    (tmp_path / "said").write_text("another")
    assert command.main(["check"]) == 1
    assert capsys.readouterr().err.count("says was") == core.AGAIN
    (tmp_path / "said").write_text("same")
    monkeypatch.setenv("TINY_SKIPS", "1")
    assert command.main(["check"]) == 1
    assert "is 'skipped'" in capsys.readouterr().err


def test_failed_cases_are_written_and_not_green(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "kept/word").write_text("bad")
    assert command.main(["run"]) == 1
    saved(checkout)
    assert command.main(["check"]) == 1
    assert capsys.readouterr().err.count("failed, exit 1") == 3
    assert "| 3 | 0 | 3 |" in (checkout / files.PAGE).read_text()


def test_a_case_past_its_limit_is_ended(checkout: Path) -> None:
    test = checkout / "tests/soak/test_tiny.py"
    test.write_text(CASE + "    import time; time.sleep(300)\n")
    (row,) = files.rows()
    line = Runner(replace(row, seconds=4), "", checkout).run("test_tiny[0]")
    assert line.exit != 0
    assert line.result != "passed"


def test_a_page_with_another_number_and_evidence_of_no_row_are_heard(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soaked(checkout)
    page = checkout / files.PAGE
    page.write_text(page.read_text().replace("| 3 | 3 |", "| 4 | 4 |"))
    assert command.main(["check"]) == 1
    assert "not what the lines count up to" in capsys.readouterr().err
    (checkout / files.TABLE).write_text("{}\n")
    assert command.main(["check"]) == 1
    assert "evidence of no matrix" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("covers", "said"),
    [
        (["kept"], "must cover its own cases"),
        (["tests/soak"], "covers evidence"),
        (["tests/soak/test_tiny.py", "tests/soak/evidence/tiny.jsonl"], "covers evidence"),
        (["tests/soak/test_tiny.py", "kep"], "Git knows nothing"),
    ],
)
def test_a_row_that_covers_wrongly_is_refused(
    checkout: Path, covers: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = checkout / files.TABLE
    table.write_text(yaml.safe_dump({"tiny": yaml.safe_load(table.read_text())["tiny"] | {"covers": covers}}))
    assert command.main(["run"]) == 2
    assert said in capsys.readouterr().err


# ---------------------------------------------------------------- the table itself


def test_the_table_covers_what_is_there() -> None:
    for row in files.rows():
        assert (files.ROOT / row.cases).is_file()
        assert files.covered(row).startswith("sha256:")
