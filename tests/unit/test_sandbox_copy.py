"""What goes into a sandbox, and what of a repository never does."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import SandboxError, UsageError
from orchestrator.sandbox.values import Copied
from tests.unit.copying import Round, commit, git, repository, state_of, write

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = (
    "with space.txt",
    'quote".txt',
    "apostrophe's.txt",
    "new\nline.txt",
    "tab\t.txt",
    "back\\slash.txt",
    "-leading.txt",
    "--upload-pack=touch pwned",
    ":(glob)*",
    "grün/Ünïcode-ジ.txt",
    "$HOME.txt",
    "*.txt",
    "#x",
)


@pytest.fixture
def one(tmp_path: Path) -> Round:
    return Round(tmp_path)


def inside(copy: Path) -> set[str]:
    """Give every object that the copy holds, with its kind."""
    return set(git(copy, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_the_last_commit_goes_in_and_nothing_besides(tmp_path: Path, form: str) -> None:
    owner = repository(tmp_path / "owner", form=form)
    former = git(owner, "rev-parse", "HEAD")
    head = commit(owner, {"src/app.py": "print(2)\n"})
    before = state_of(owner)
    one = Round(tmp_path, owner)
    copied = one.go_in()
    assert copied.start == copied.commit == head
    assert copied.shallow
    assert git(one.copy, "status", "--porcelain", "--branch") == "## main"
    assert git(one.copy, "rev-list", "--all") == head
    assert former not in inside(one.copy)
    assert git(one.copy, "fsck", "--strict") == ""
    assert state_of(owner) == before
    assert Copied.from_json(copied.to_json()) == copied


def test_the_whole_branch_goes_in_when_asked(one: Round) -> None:
    commit(one.owner, {"a": "1\n"})
    copied = one.go_in(history=True)
    assert not copied.shallow
    assert git(one.copy, "rev-list", "HEAD") == git(one.owner, "rev-list", "main")


def test_what_is_the_owners_alone_stays_out(one: Round) -> None:
    owner = one.owner
    git(owner, "switch", "-q", "-c", "secret")
    hidden = commit(owner, {"secret.txt": "branch secret\n"})
    git(owner, "switch", "-q", "main")
    git(owner, "tag", "hidden", hidden)
    write(owner, {"README.md": "stashed secret\n"})
    git(owner, "stash")
    git(owner, "remote", "add", "origin", "https://user:password@example.org/x.git")
    git(owner, "config", "credential.helper", "store")
    git(owner, "notes", "add", "-m", "note secret")
    write(owner, {".git/hooks/post-checkout": "#!/bin/sh\ntouch ran\n"})
    (owner / ".git/hooks/post-checkout").chmod(0o755)
    lost = commit(owner, {"lost.txt": "reflog secret\n"})
    git(owner, "reset", "-q", "--hard", "HEAD^")
    one.go_in(history=True)
    assert not {hidden, lost} & inside(one.copy)
    assert git(one.copy, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert not (one.copy / ".git/hooks").exists()
    assert not (one.copy / "ran").exists()
    settings = (one.copy / ".git/config").read_text()
    assert "origin" not in settings
    assert "credential" not in settings
    for path in (path for path in one.copy.rglob("*") if path.is_file()):
        assert b"secret" not in path.read_bytes()
        assert b"password" not in path.read_bytes()


def test_a_named_branch_goes_in_without_being_checked_out(one: Round) -> None:
    git(one.owner, "switch", "-q", "-c", "feature/ünï")
    wanted = commit(one.owner, {"feature.txt": "yes\n"})
    git(one.owner, "switch", "-q", "main")
    copied = one.go_in(branch="feature/ünï")
    assert copied.start == wanted
    assert git(one.copy, "symbolic-ref", "HEAD") == "refs/heads/feature/ünï"
    assert (one.copy / "feature.txt").is_file()
    assert git(one.owner, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_odd_names_go_in_and_come_back_and_land(tmp_path: Path) -> None:
    one = Round(tmp_path, repository(tmp_path / 'ow:ner "odd"', dict.fromkeys(ODD_NAMES, "before\n")))
    one.go_in()
    for name in ODD_NAMES:
        assert (one.copy / name).read_text() == "before\n"
    write(one.copy, dict.fromkeys(ODD_NAMES, "after\n"))
    seen = one.back()
    assert len(seen.changes) == len(ODD_NAMES)
    assert all("\n" not in one.path and "\t" not in one.path for one in seen.changes)
    landed = one.accept(*(one.path for one in seen.changes))
    assert len(landed.paths) == len(ODD_NAMES)
    assert {name: text for name, text in one.lies().items() if name in ODD_NAMES} == dict.fromkeys(ODD_NAMES, "after")
    assert not (tmp_path / "pwned").exists()


def test_a_name_that_is_no_utf8_goes_in_comes_back_and_lands(one: Round) -> None:
    name = os.fsdecode(b"latin-\xe9.txt")
    commit(one.owner, {name: "before\n"})
    one.go_in()
    write(one.copy, {name: "after\n"})
    assert one.back().changes[0].path == "latin-\\xe9.txt"
    assert one.accept("latin-\\xe9.txt").written
    assert one.lies()[name] == "after"


def test_what_is_not_committed_goes_in_only_when_asked(tmp_path: Path) -> None:
    owner = repository(tmp_path / "owner", {".gitignore": "*.log\nbuild/\n"})
    write(owner, {"README.md": "mine\n", "staged.txt": "staged\n", "new.txt": "new\n", "x.log": "log", "build/a": "a"})
    git(owner, "add", "staged.txt")
    (owner / "src/app.py").unlink()
    before = state_of(owner)
    plain = Round(tmp_path, owner, "plain")
    assert plain.go_in().uncommitted == ()
    assert not (plain.copy / "new.txt").exists()
    one = Round(tmp_path, owner, "asked")
    copied = one.go_in(uncommitted=True)
    assert set(copied.uncommitted) == {"README.md", "staged.txt", "new.txt", "src/app.py"}
    assert (one.copy / "README.md").read_text() == "mine\n"
    assert not (one.copy / "src/app.py").exists()
    assert not (one.copy / "x.log").exists()
    assert not (one.copy / "build").exists()
    assert git(one.copy, "status", "--porcelain") == ""
    assert state_of(owner) == before


def test_a_global_ignore_list_of_the_owners_counts(one: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    home = one.root / "home"
    write(home, {".config/git/ignore": "*.secret\n"})
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GIT_DIR", str(one.root / "elsewhere"))
    write(one.owner, {"a.secret": "x", "b.txt": "y"})
    assert one.go_in(uncommitted=True).uncommitted == ("b.txt",)


def test_ignored_files_go_in_when_named_and_only_those(tmp_path: Path) -> None:
    one = Round(tmp_path, repository(tmp_path / "owner", {".gitignore": "*.log\ndata/\n"}))
    write(one.owner, {"x.log": "x", "y.log": "y", "data/a/b.bin": "b", "data/c": "c"})
    copied = one.go_in(uncommitted=True, also=("x.log", "data/a"))
    assert copied.uncommitted == ("data/a/b.bin", "x.log")


@pytest.mark.parametrize("named", ["../other", "/etc/passwd", ".git/config", "a/.GIT/x", "not-there"])
def test_what_is_named_lies_in_the_repository(one: Round, named: str) -> None:
    with pytest.raises(UsageError):
        one.go_in(uncommitted=True, also=(named,))
    assert not one.quarantine.folder.exists()


def test_a_filter_of_the_owners_is_run_as_his_own_git_would(one: Round) -> None:
    git(one.owner, "config", "filter.up.clean", "tr a-z A-Z")
    commit(one.owner, {".gitattributes": "*.up filter=up\n"})
    write(one.owner, {"x.up": "abc\n"})
    one.go_in(uncommitted=True)
    assert (one.copy / "x.up").read_text() == "ABC\n"


def test_nothing_that_a_repository_names_is_run(one: Round) -> None:
    ran = one.root / "ran"
    script = one.root / "script"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    git(one.owner, "config", "core.fsmonitor", str(script))
    git(one.owner, "config", "core.hooksPath", str(one.root))
    for hook in ("post-index-change", "reference-transaction", "pre-auto-gc"):
        (one.root / hook).symlink_to(script)
    git(one.owner, "config", "diff.external", str(script))
    git(one.owner, "config", "core.pager", str(script))
    write(one.owner, {"a.txt": "a\n"})
    git(one.owner, "status")
    assert ran.exists(), "the control: Git itself runs them"
    ran.unlink()
    one.go_in(uncommitted=True)
    write(one.copy, {"b.txt": "b\n"})
    one.back()
    one.accept()
    assert not ran.exists()


def test_submodules_are_named_and_not_followed(one: Round) -> None:
    other = repository(one.root / "other", {"inner.txt": "inner secret\n"})
    git(one.owner, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "lib/other")
    git(one.owner, "commit", "-q", "-m", "a submodule")
    copied = one.go_in(history=True)
    assert copied.submodules == ("lib/other",)
    assert any("lib/other" in note for note in copied.notes)
    assert list((one.copy / "lib/other").iterdir()) == []


def test_a_repository_in_the_working_tree_stays_out(one: Round) -> None:
    repository(one.owner / "vendor/nested")
    copied = one.go_in(uncommitted=True)
    assert copied.uncommitted == ()
    assert "vendor/nested/" in copied.notes[0]


def test_pointers_of_lfs_go_in_as_they_are_and_are_told(one: Round) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    commit(one.owner, {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": pointer})
    copied = one.go_in()
    assert copied.lfs_pointers == 1
    assert (one.copy / "a.bin").read_text() == pointer


def test_a_sparse_working_tree_loses_nothing(one: Round) -> None:
    commit(one.owner, {"docs/a.md": "a\n", "src/b.py": "b\n"})
    git(one.owner, "sparse-checkout", "set", "docs")
    assert not (one.owner / "src").exists()
    write(one.owner, {"docs/a.md": "changed\n"})
    copied = one.go_in(uncommitted=True)
    assert copied.uncommitted == ("docs/a.md",)
    assert (one.copy / "src/b.py").is_file()
    assert any("sparse" in note for note in copied.notes)


def test_a_linked_working_tree_is_a_repository_too(one: Round) -> None:
    git(one.owner, "worktree", "add", "-q", "-b", "side", str(one.root / "side"))
    write(one.root / "side", {"side.txt": "side\n"})
    linked = Round(one.root, one.root / "side", "linked")
    assert linked.go_in(uncommitted=True).branch == "side"
    assert (linked.copy / "side.txt").is_file()
    write(linked.copy, {"agent.txt": "x\n"})
    linked.back()
    assert linked.accept().branch == "agentrig/linked"


def test_a_branch_without_a_commit_goes_in_and_the_result_lands(tmp_path: Path) -> None:
    one = Round(tmp_path, repository(tmp_path / "owner", {}))
    copied = one.go_in()
    assert copied.commit is None
    assert copied.notes
    write(one.copy, {"first.txt": "first\n"})
    one.back()
    landed = one.accept()
    assert one.lies() == {"first.txt": "first"}
    assert git(one.owner, "rev-list", "--count", landed.branch) == "1"
    assert not one.accept().written


def test_an_unborn_branch_with_files_goes_in(tmp_path: Path) -> None:
    one = Round(tmp_path, repository(tmp_path / "owner", {}))
    write(one.owner, {"mine.txt": "mine\n"})
    assert one.go_in(uncommitted=True).uncommitted == ("mine.txt",)
    write(one.copy, {"agent.txt": "x\n"})
    one.back()
    one.accept()
    assert set(one.lies()) == {"mine.txt", "agent.txt"}


def test_a_detached_head_goes_in(one: Round) -> None:
    git(one.owner, "checkout", "-q", "--detach")
    head = commit(one.owner, {"d.txt": "d\n"})
    copied = one.go_in()
    assert (copied.branch, copied.start) == (None, head)
    write(one.copy, {"d.txt": "e\n"})
    one.back()
    assert git(one.owner, "rev-parse", f"{one.accept().branch}^") == head


@pytest.mark.parametrize("history", [False, True])
def test_a_shallow_repository_goes_in(tmp_path: Path, *, history: bool) -> None:
    whole = repository(tmp_path / "whole")
    for number in range(4):
        commit(whole, {"n": f"{number}\n"})
    git(tmp_path, "clone", "-q", "--depth=2", f"file://{whole}", "cut")
    one = Round(tmp_path, tmp_path / "cut")
    assert one.go_in(history=history).shallow
    assert git(one.copy, "rev-list", "--count", "HEAD") == ("2" if history else "1")
    assert git(one.copy, "fsck") == ""
    write(one.copy, {"n": "agent\n"})
    one.back()
    assert one.accept().written


def test_a_bare_repository_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare")
    with pytest.raises(UsageError, match="bare"):
        Round(tmp_path, tmp_path / "bare").go_in()


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a git repository"):
        Round(tmp_path, tmp_path).go_in()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_another_users_repository_is_refused_until_its_owner_is_trusted(
    one: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = one.root / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    subprocess.run(["chown", "-R", "12345", str(one.owner)], check=True)
    with pytest.raises(UsageError, match="another user") as refused:
        one.go_in()
    assert "safe.directory" in refused.value.do
    write(home, {".gitconfig": f"[safe]\n\tdirectory = {one.owner}\n"})
    assert one.go_in().branch == "main"


def test_a_merge_that_has_not_ended_is_told(one: Round) -> None:
    git(one.owner, "switch", "-q", "-c", "side")
    commit(one.owner, {"README.md": "side\n"})
    git(one.owner, "switch", "-q", "main")
    commit(one.owner, {"README.md": "main\n"})
    git(one.owner, "merge", "side", check=False)
    with pytest.raises(UsageError, match="merge"):
        one.go_in(uncommitted=True)


def test_replaced_and_grafted_objects_do_not_go_in(one: Round) -> None:
    first = git(one.owner, "rev-parse", "HEAD")
    second = commit(one.owner, {"README.md": "true\n"})
    git(one.owner, "replace", second, first)
    assert one.go_in(uncommitted=True).uncommitted == ()
    assert (one.copy / "README.md").read_text() == "true\n"


def test_a_second_copy_is_refused_while_one_is_there(one: Round) -> None:
    one.go_in()
    with pytest.raises(UsageError, match="already"):
        one.go_in()


def test_an_inside_that_cannot_take_the_copy_leaves_nothing(one: Round) -> None:
    one.place.path.rmdir()
    with pytest.raises(SandboxError, match="tar"):
        one.go_in()
    assert list(one.quarantine.root.iterdir()) == []
