"""What was reviewed lands: whole or by file, on a moved tree, twice, and ended in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import AgentrigError, SandboxError, UsageError
from orchestrator.sandbox import git as door
from orchestrator.sandbox import landing
from orchestrator.sandbox.landing import Conflict, reject
from tests.unit.copying import Round, commit, git, repository, state_of, write

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = "".join(f"{number}\n" for number in range(30))


@pytest.fixture
def one(tmp_path: Path) -> Round:
    return Round(tmp_path, repository(tmp_path / "owner", {"long.txt": LINES, "old.txt": "rename me\n" * 5}))


def test_a_result_lands_as_one_commit_on_a_branch_of_its_own(one: Round) -> None:
    before, head = state_of(one.owner), git(one.owner, "rev-parse", "HEAD")
    seen = one.worked({"new.txt": "new\n", "long.txt": LINES + "more\n"}, lambda copy: (copy / "old.txt").unlink())
    landed = one.accept(seen=seen.result)
    assert landed.branch == "agentrig/box"
    assert set(landed.paths) == {"new.txt", "long.txt", "old.txt"}
    assert (
        git(one.owner, "log", "-1", "--format=%an|%cn|%ce|%P", landed.branch)
        == f"aider|Olga Owner|olga@example.org|{head}"
    )
    assert git(one.owner, "rev-parse", f"{landed.branch}^{{tree}}") == one.quarantine.git.line(
        "rev-parse", f"{seen.result}^{{tree}}"
    )
    git(one.owner, "branch", "-q", "-D", landed.branch)
    assert state_of(one.owner) == before


def test_nothing_of_the_agents_history_lands(one: Round) -> None:
    one.go_in()
    secret = commit(one.copy, {"leak.txt": "between\n"}, "better\n\nSigned-off-by: Olga Owner <olga@example.org>")
    blob = git(one.copy, "rev-parse", f"{secret}:leak.txt")
    (one.copy / "leak.txt").unlink()
    commit(one.copy, {"good.txt": "good\n"})
    seen = one.back()
    assert [made.subject for made in seen.commits][1:] == ["work", "better"]
    one.accept()
    assert "Signed-off-by" not in git(one.owner, "log", "agentrig/box")
    assert not {secret, blob} & set(
        git(one.owner, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    )


def test_it_lands_by_file_and_the_rest_later(one: Round) -> None:
    one.worked({"a.txt": "a\n", "b/c.txt": "c\n", "b/d.txt": "d\n", "long.txt": LINES + "x\n"})
    assert one.accept("a.txt").paths == ("a.txt",)
    assert set(one.lies()) == {"README.md", "src/app.py", "long.txt", "old.txt", "a.txt"}
    assert set(one.accept("b/").paths) == {"b/c.txt", "b/d.txt"}
    assert one.accept().paths == ("long.txt",)
    again = one.accept()
    assert not again.written
    assert git(one.owner, "rev-list", "--count", "main..agentrig/box") == "3"


def test_a_renamed_file_goes_with_both_its_names(one: Round) -> None:
    seen = one.worked({}, lambda copy: (copy / "old.txt").rename(copy / "new name.txt"))
    assert [(change.kind, change.old_path, change.path) for change in seen.changes] == [
        ("renamed", "old.txt", "new name.txt")
    ]
    one.accept("new name.txt")
    assert "old.txt" not in one.lies()
    assert "new name.txt" in one.lies()


def test_a_folder_in_a_files_place_goes_with_it(one: Round) -> None:
    def replace(copy: Path) -> None:
        (copy / "old.txt").unlink()
        write(copy, {"old.txt/inner.txt": "inner\n"})

    one.worked({}, replace)
    with pytest.raises(UsageError, match="did not change"):
        one.accept("not there")
    before = state_of(one.owner)
    try:
        one.accept("old.txt/inner.txt")
    except UsageError:
        assert state_of(one.owner) == before
    one.accept()
    assert "old.txt/inner.txt" in one.lies()


def test_a_moved_tree_is_merged_three_ways(one: Round) -> None:
    one.worked({"long.txt": LINES.replace("3\n", "three\n", 1)})
    moved = commit(one.owner, {"long.txt": LINES + "theirs\n", "later.txt": "later\n"})
    landed = one.accept()
    assert git(one.owner, "rev-parse", f"{landed.branch}^") == moved
    assert one.lies()["long.txt"] == (LINES.replace("3\n", "three\n", 1) + "theirs")
    assert "later.txt" in one.lies()
    assert landed.paths == ("long.txt",)


def test_a_conflict_names_its_files_and_writes_nothing(one: Round) -> None:
    one.worked({"long.txt": LINES.replace("3\n", "agent\n", 1), "fine.txt": "x\n"})
    commit(one.owner, {"long.txt": LINES.replace("3\n", "owner\n", 1)})
    before = state_of(one.owner)
    objects = git(one.owner, "count-objects", "-v")
    with pytest.raises(Conflict) as told:
        one.accept()
    assert told.value.paths == ("long.txt",)
    assert state_of(one.owner) == before
    assert git(one.owner, "count-objects", "-v") == objects
    assert one.accept("fine.txt").paths == ("fine.txt",)


def test_what_was_not_committed_lands_before_it(one: Round) -> None:
    write(one.owner, {"mine.txt": "mine\n"})
    one.go_in(uncommitted=True)
    write(one.copy, {"mine.txt": "mine\nagent\n"})
    one.back()
    landed = one.accept()
    assert "not committed" in landed.notes[0]
    assert landed.paths == ("mine.txt",)
    assert git(one.owner, "log", "--format=%an", "main..agentrig/box") == "aider\nOlga Owner"
    assert (one.owner / "mine.txt").read_text() == "mine\n"
    assert git(one.owner, "status", "--porcelain") == "?? mine.txt"
    assert not one.accept().written


def test_what_the_owner_committed_meanwhile_does_not_land_twice(one: Round) -> None:
    write(one.owner, {"mine.txt": "mine\n"})
    one.go_in(uncommitted=True)
    write(one.copy, {"agent.txt": "agent\n"})
    one.back()
    moved = commit(one.owner, {})
    landed = one.accept()
    assert landed.paths == ("agent.txt",)
    assert git(one.owner, "rev-parse", f"{landed.branch}^") == moved


def test_a_checked_out_branch_is_left_alone_unless_asked(one: Round) -> None:
    one.worked({"new.txt": "new\n"})
    before = state_of(one.owner)
    with pytest.raises(UsageError, match="checked out"):
        one.accept(branch="main")
    git(one.owner, "worktree", "add", "-q", "-b", "side", str(one.root / "side"))
    with pytest.raises(UsageError, match="checked out"):
        one.accept(branch="side")
    assert one.accept(branch="side", checked_out=True).written
    assert (one.root / "side/new.txt").is_file()
    assert git(one.root / "side", "status", "--porcelain") == ""
    git(one.owner, "worktree", "remove", "side")
    git(one.owner, "branch", "-q", "-D", "side")
    assert state_of(one.owner) == before
    assert one.accept(branch="main", checked_out=True).written
    assert (one.owner / "new.txt").is_file()


def test_what_lies_in_the_way_of_a_checked_out_branch_stays(one: Round) -> None:
    one.worked({"new.txt": "new\n"})
    write(one.owner, {"new.txt": "the owner's, not committed\n"})
    head = git(one.owner, "rev-parse", "HEAD")
    with pytest.raises(SandboxError, match="could not be moved"):
        one.accept(branch="main", checked_out=True)
    assert (one.owner / "new.txt").read_text() == "the owner's, not committed\n"
    assert git(one.owner, "rev-parse", "HEAD") == head


@pytest.mark.parametrize("name", ["-x", "a..b", "a b", "x.lock", "@{", "a//b", "\x1b[2J", "--delete"])
def test_a_name_that_is_none_for_a_branch_is_refused(one: Round, name: str) -> None:
    one.worked({"new.txt": "new\n"})
    before = state_of(one.owner)
    with pytest.raises(UsageError, match="no name for a branch") as told:
        one.accept(branch=name)
    assert "\x1b" not in str(told.value)
    assert state_of(one.owner) == before


def test_another_result_than_the_reviewed_one_is_refused(one: Round) -> None:
    seen = one.worked({"a.txt": "a\n"})
    write(one.copy, {"b.txt": "b\n"})
    one.back()
    with pytest.raises(UsageError, match="another result"):
        one.accept(seen=seen.result)


def test_a_branch_that_stands_in_the_way_is_told(one: Round) -> None:
    one.worked({"a.txt": "a\n"})
    git(one.owner, "branch", "agentrig")
    with pytest.raises(SandboxError, match="could not be moved"):
        one.accept()


def test_a_result_that_changes_nothing_makes_no_branch(one: Round) -> None:
    one.worked({})
    assert not one.accept().written
    assert git(one.owner, "branch", "--list", "agentrig/*") == ""


def test_an_agents_name_cannot_be_more_than_a_name(one: Round) -> None:
    one.worked({"a.txt": "a\n"})
    git(one.owner, "config", "user.name", "Olga <Owner> \u202e")
    one.accept(message="Take it\n\nAll of it\n")
    assert git(one.owner, "log", "-1", "--format=%B", "agentrig/box").strip() == "Take it\n\nAll of it"


def test_reject_drops_the_quarantine_and_nothing_else(one: Round) -> None:
    one.worked({"a.txt": "a\n"})
    before = state_of(one.owner)
    assert reject(one.quarantine)
    assert list(one.quarantine.root.iterdir()) == []
    assert not reject(one.quarantine)
    assert state_of(one.owner) == before
    with pytest.raises(UsageError, match="no copy"):
        one.accept()


def test_nothing_that_came_back_is_told(one: Round) -> None:
    one.go_in()
    with pytest.raises(UsageError, match="nothing came back"):
        one.accept()


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do the work in a process of its own that ends itself, by SIGKILL, before its step; False where it has fewer."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(frame: object, event: str, argument: object) -> None:
            nonlocal count
            named = getattr(argument, "__name__", "")
            if event == "c_call" and named in {"fork_exec", "rename"}:
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            del frame

        try:
            sys.setprofile(counted)
            work()
            sys.setprofile(None)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as pytest
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def test_an_acceptance_that_is_killed_is_as_before_or_done(one: Round) -> None:
    one.worked({"a.txt": "a\n", "long.txt": LINES.replace("3\n", "three\n", 1)})
    commit(one.owner, {"long.txt": LINES + "theirs\n"})
    before, refs, step = state_of(one.owner), git(one.owner, "for-each-ref"), 0
    while killed_at(step := step + 1, one.accept):
        if git(one.owner, "for-each-ref") != refs:
            assert set(one.lies()) == {"README.md", "src/app.py", "old.txt", "a.txt", "long.txt"}
            git(one.owner, "branch", "-q", "-D", "agentrig/box")
        assert not list((one.owner / ".git").rglob("*.lock"))
    assert step > 10
    assert set(one.lies()) >= {"a.txt"}
    landed = git(one.owner, "rev-parse", "agentrig/box")
    git(one.owner, "branch", "-q", "-D", "agentrig/box")
    assert state_of(one.owner) == before
    git(one.owner, "branch", "agentrig/box", landed)
    assert not one.accept().written
    assert git(one.owner, "fsck", "--strict", "--no-dangling") == ""
    assert not list(one.quarantine.folder.glob("incoming-*"))


def test_a_return_that_is_killed_leaves_the_former_result_or_the_new(one: Round) -> None:
    former = one.worked({"a.txt": "a\n"}).result
    write(one.copy, {"b.txt": "b\n"})
    before, step = state_of(one.owner), 0
    while killed_at(step := step + 1, one.back):
        result = one.quarantine.result()
        assert result is not None
        if result != former:
            assert set(git(one.quarantine.folder / "repository.git", "ls-tree", "--name-only", result).split()) >= {
                "b.txt"
            }
            one.quarantine.git.run("update-ref", "refs/agentrig/result", former)
    assert step > 5
    assert state_of(one.owner) == before
    assert {change.path for change in one.back().changes} == {"a.txt", "b.txt"}
    assert git(one.quarantine.folder / "repository.git", "fsck", "--strict", "--no-dangling") == ""


def test_a_copy_that_is_killed_is_not_there_or_whole(tmp_path: Path) -> None:
    owner = repository(tmp_path / "owner")
    write(owner, {"mine.txt": "mine\n"})
    before, step = state_of(owner), 0
    while True:
        step += 1
        one = Round(tmp_path, owner, f"box{step}")
        ended = killed_at(step, lambda one=one: one.go_in(uncommitted=True))  # type: ignore[misc]
        if not ended:
            break
        if one.quarantine.folder.exists():
            assert one.quarantine.copied().uncommitted == ("mine.txt",)
    assert step > 8
    assert state_of(owner) == before
    one.quarantine.drop()
    assert not [path for path in one.quarantine.root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("there", [False, True])
def test_a_branch_that_moves_meanwhile_is_not_overwritten(
    one: Round, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    one.worked({"a.txt": "a\n"})
    if there:
        git(one.owner, "branch", "agentrig/box")
    other = commit(one.owner, {"other.txt": "x\n"})
    give = landing._give

    def meanwhile(*given: object) -> None:
        give(*given)  # type: ignore[arg-type]
        git(one.owner, "update-ref", "refs/heads/agentrig/box", other)

    monkeypatch.setattr(landing, "_give", meanwhile)
    with pytest.raises(SandboxError, match="could not be moved"):
        one.accept()
    assert git(one.owner, "rev-parse", "agentrig/box") == other


def test_a_git_that_is_killed_is_told_and_leaves_nothing(one: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    one.worked({"a.txt": "a\n"})
    before = state_of(one.owner)
    starts = subprocess.Popen

    def shot(argv: list[str], **more: object) -> subprocess.Popen[bytes]:
        child = starts(argv, **more)  # type: ignore[call-overload]
        if argv[1] == "index-pack":
            child.kill()
        return child  # type: ignore[no-any-return]

    monkeypatch.setattr(door.subprocess, "Popen", shot)
    with pytest.raises((AgentrigError, BrokenPipeError)) as told:
        one.accept()
    monkeypatch.undo()
    assert isinstance(told.value, SandboxError)
    assert state_of(one.owner) == before
    assert one.accept().written
