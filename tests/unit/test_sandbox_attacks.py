"""What an agent may send instead of a result: each is refused or flagged, beside a control that is not.

The agent holds all of the copy, its Git, and the stream; here it is scripted, with a plain folder as its sandbox.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import orchestrator.sandbox
from orchestrator.errors import SandboxError, UsageError
from orchestrator.sandbox.bundle import Refused
from orchestrator.sandbox.coming_back import bring_back
from orchestrator.sandbox.reviewing import review
from orchestrator.sandbox.values import Limits
from tests.unit.copying import Round, SayingPlace, change, commit, flagged, git, repository, rows, state_of, write

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
def one(tmp_path: Path) -> Round:
    made = Round(tmp_path)
    made.go_in()
    return made


Tree = list[tuple[str, str, str]]


def tree_of(copy: Path, entries: Tree) -> str:
    """Write a tree as it is told, whatever Git thinks of it; entries are mode, name, object."""
    raw = b"".join(
        f"{mode} ".encode() + os.fsencode(name) + b"\0" + bytes.fromhex(blob) for mode, name, blob in entries
    )
    return git(copy, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)


def blob_of(copy: Path, content: bytes) -> str:
    return git(copy, "hash-object", "-w", "--stdin", stdin=content)


def commit_of(copy: Path, tree: str, *parents: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return git(copy, "commit-tree", *words, tree, stdin=b"evil\n")


def bundle(one: Round, commit: str, head: bytes | None = None, pack: bytes | None = None) -> Path:
    """Write a bundle by hand: the references and objects that the agent likes; all of the copy's that are new."""
    made = one.root / "answer"
    if pack is None:
        known = set(everything(one).split())
        names = git(one.copy, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)")
        new = [line.split() for line in names.splitlines() if line.split()[1] not in known]
        pack = pack_of((_KINDS[kind], raw(one.copy, kind, name)) for kind, name in new)
    made.write_bytes((head or f"# v2 git bundle\n{commit} refs/agentrig/result\n\n".encode()) + pack)
    return made


_KINDS = {"commit": 1, "tree": 2, "blob": 3}


def raw(copy: Path, kind: str, name: str) -> bytes:
    return subprocess.run(["git", "-C", str(copy), "cat-file", kind, name], capture_output=True, check=True).stdout


def sent(one: Round, answer: Path, limits: Limits | None = None) -> str:
    return bring_back(one.quarantine, SayingPlace(answer), limits)


def refused(one: Round, answer: Path, why: str, limits: Limits | None = None) -> None:
    """The answer is refused, and neither the quarantine nor the owner's repository holds anything of it."""
    before, objects = state_of(one.owner), everything(one)
    with pytest.raises(Refused, match=why):
        sent(one, answer, limits)
    assert one.quarantine.result() is None
    assert everything(one) == objects
    assert not list(one.quarantine.folder.glob("incoming-*"))
    assert state_of(one.owner) == before


def everything(one: Round) -> str:
    return git(one.quarantine.folder / "repository.git", "cat-file", "--batch-all-objects", "--batch-check")


def start_of(one: Round) -> str:
    return one.quarantine.copied().start


def good(one: Round) -> Tree:
    return [("100644", "good.txt", blob_of(one.copy, b"good\n"))]


def answer_of(one: Round, tree: str) -> Path:
    return bundle(one, commit_of(one.copy, tree, start_of(one)))


def test_the_control_a_bundle_written_by_hand_is_taken(one: Round) -> None:
    sent(one, answer_of(one, tree_of(one.copy, good(one))))
    assert change(review(one.quarantine, rows()), "good.txt").kind == "added"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (".git", "hasDotgit"),
        (".GIT", "hasDotgit"),
        (".Git", "hasDotgit"),
        ("git~1", "hasDotgit"),
        ("GIT~1", "hasDotgit"),
        (".git ", "hasDotgit"),
        (".git.", "hasDotgit"),
        (".git::$INDEX_ALLOCATION", "hasDotgit"),
        (".g\u200cit", "hasDotgit"),
        ("\u200d.git", "hasDotgit"),
        (".gi\ufefft", "hasDotgit"),
        ("..", "hasDotdot"),
        (".", "hasDot"),
        ("a/b", "fullPathname"),
        ("../out", "fullPathname"),
        ("/etc/passwd", "fullPathname"),
        ("", "empty filename"),
    ],
)
def test_a_name_that_leads_into_git_or_out_of_the_tree_is_refused(one: Round, name: str, why: str) -> None:
    inner = tree_of(one.copy, [("100644", "config", blob_of(one.copy, b"[core]\n"))])
    refused(one, answer_of(one, tree_of(one.copy, [("40000", name, inner)])), why)


@pytest.mark.parametrize("name", [".gitx", "agit", "git~", "...", ".g it", "git~3x"])
def test_the_control_a_name_near_those_is_taken(one: Round, name: str) -> None:
    inner = tree_of(one.copy, [("100644", "config", blob_of(one.copy, b"x\n"))])
    sent(one, answer_of(one, tree_of(one.copy, [("40000", name, inner)])))
    assert review(one.quarantine, rows()).changes


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([("100644", "twice", ""), ("100644", "twice", "")], "duplicateEntries"),
        ([("100644", "b", ""), ("100644", "a", "")], "treeNotSorted"),
        ([("100644", "none", "0" * 40)], "nullSha1"),
        ([("0100644", "padded", "")], "zeroPaddedFilemode"),
        ([("120000", ".gitmodules", "")], "gitmodulesSymlink"),
        ([("104755", "setuid", "")], "badFilemode"),
        ([("60644", "device", "")], "badFilemode"),
        ([("100777", "anybody", "")], "badFilemode"),
    ],
)
def test_a_tree_that_fsck_flags_is_refused(one: Round, entries: Tree, why: str) -> None:
    blob = blob_of(one.copy, b"x\n")
    tree = tree_of(one.copy, [(mode, name, named or blob) for mode, name, named in entries])
    refused(one, answer_of(one, tree), why)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"tree {tree}\nparent {start}\nauthor a <a@b> 1 +0000\n\nno committer\n", "missingCommitter"),
        (b"tree {tree}\nparent {start}\nauthor a <a@b> x +0000\ncommitter a <a@b> 1 +0000\n\nx\n", "badDate"),
        (b"tree {tree}\nparent {start}\nauthor a <a<b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n", "badEmail"),
        (b"tree {tree}\nparent {start}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\0y\n", "nulInCommit"),
    ],
)
def test_a_commit_that_fsck_flags_is_refused(one: Round, raw: bytes, why: str) -> None:
    tree = tree_of(one.copy, good(one))
    text = raw.replace(b"{tree}", tree.encode()).replace(b"{start}", start_of(one).encode())
    evil = git(one.copy, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text)
    refused(one, bundle(one, evil), why)


def pack_of(objects: Iterable[tuple[int, bytes]], count: int | None = None) -> bytes:
    """Write a pack by hand: kind (1 commit, 2 tree, 3 blob) and content of each object."""
    body = b""
    listed = list(objects)
    for kind, content in listed:
        size, head = len(content) >> 4, (kind << 4) | (len(content) & 15)
        while size:
            body += bytes([head | 0x80])
            head, size = size & 0x7F, size >> 7
        body += bytes([head]) + zlib.compress(content)
    whole = struct.pack(">4sII", b"PACK", 2, len(listed) if count is None else count) + body
    return whole + hashlib.sha1(whole).digest()  # noqa: S324 - the format's own digest


def test_a_broken_pack_is_refused(one: Round) -> None:
    whole = answer_of(one, tree_of(one.copy, good(one))).read_bytes()
    place = whole.index(b"PACK")
    for number, (broken, why) in enumerate(
        (
            (whole[:-30], "hold|early EOF"),
            (whole[:-1] + bytes([whole[-1] ^ 1]), "hold|checksum|hash"),
            (whole[: place + 20] + b"\xff" + whole[place + 21 :], "hold|inflate|corrupt"),
            (whole[:place] + b"PUCK" + whole[place + 4 :], "no pack"),
            (whole[:place], "ends before"),
        )
    ):
        answer = one.root / f"broken-{number}"
        answer.write_bytes(broken)
        refused(one, answer, why)


def test_an_object_that_is_not_sent_is_refused(one: Round) -> None:
    text = "tree {}\nparent {}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n"
    lonely = text.format("1" * 40, start_of(one)).encode()
    name = git(one.copy, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=lonely)
    refused(one, bundle(one, name, pack=pack_of([(1, lonely)])), "hold")


def test_the_owners_other_objects_cannot_be_named(one: Round) -> None:
    """An object of another branch did not go in: a tree that names it without sending it is refused."""
    git(one.owner, "switch", "-q", "-c", "secret")
    commit(one.owner, {"secret.txt": "secret\n"})
    blob = git(one.owner, "rev-parse", "HEAD:secret.txt")
    git(one.owner, "switch", "-q", "main")
    raw = b"100644 stolen.txt\0" + bytes.fromhex(blob)
    tree = git(one.copy, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    text = f"tree {tree}\nparent {start_of(one)}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n".encode()
    name = git(one.copy, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text)
    refused(one, bundle(one, name, pack=pack_of([(1, text), (2, raw)])), "hold")


def test_the_control_an_object_that_went_in_can_be_named(one: Round) -> None:
    known = git(one.owner, "rev-parse", "HEAD:README.md")
    sent(one, answer_of(one, tree_of(one.copy, [("100644", "again.md", known)])))
    assert change(review(one.quarantine, rows()), "again.md").old_path == "README.md"


def test_a_pack_with_a_load_behind_it_is_refused(one: Round) -> None:
    answer = answer_of(one, tree_of(one.copy, good(one)))
    answer.write_bytes(answer.read_bytes() + b"more" * 100_000)
    refused(one, answer, "no more")


def test_alternates_of_the_copy_are_not_followed(one: Round) -> None:
    other = repository(one.root / "other", {"secret.txt": "secret of another repository\n"})
    (one.copy / ".git/objects/info").mkdir(exist_ok=True)
    (one.copy / ".git/objects/info/alternates").write_text(f"{other}/.git/objects\n")
    write(one.copy, {"good.txt": "good\n"})
    one.back()
    kept = list(one.quarantine.folder.rglob("alternates"))
    assert kept == []
    blob = git(other, "rev-parse", "HEAD:secret.txt")
    assert blob not in everything(one)


@pytest.mark.parametrize(
    "extra",
    [
        b"--upload-pack=touch${IFS}pwned",
        b"refs/heads/--upload-pack=touch pwned",
        b"refs/heads/main",
        b"refs/remotes/origin/HEAD",
        b"../../../etc/passwd",
        b"HEAD",
        b"refs/heads/\x1b[2J",
        b"refs/agentrig/start",
    ],
)
def test_no_reference_counts_but_the_one_that_was_asked_for(one: Round, extra: bytes) -> None:
    start = start_of(one)
    made = commit_of(one.copy, tree_of(one.copy, good(one)), start)
    head = b"# v2 git bundle\n" + made.encode() + b" " + extra + b"\n"
    asked = made.encode() + b" refs/agentrig/result\n"
    before = git(one.quarantine.folder / "repository.git", "for-each-ref")
    refused(one, bundle(one, made, head=head + b"\n"), "reference")
    sent(one, bundle(one, made, head=head + asked + b"\n"))
    after = git(one.quarantine.folder / "repository.git", "for-each-ref")
    assert after.splitlines() == [f"{made} commit\trefs/agentrig/result", *before.splitlines()]
    assert not list(one.root.rglob("*pwned*"))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "nothing came"),
        (b"Welcome to the sandbox!\n", "no Git bundle"),
        (b"# v2 git bundle\n" + b"-" * (1 << 17), "no end"),
        (b"# v2 git bundle\n" + b"-" + b"1" * 40 + b" x\n", "no end|read|reference"),
        (b"# v2 git bundle\n" + (b"-" + b"1" * 40 + b" x\n") * 40_000, "no end"),
        (b"# v2 git bundle\nnot a reference\n\n", "cannot be read"),
        (b"# v3 git bundle\n@filter=blob:none\n\n", "asks for"),
        (b"# v3 git bundle\n@object-format=sha256\n\n", "asks for"),
        (b"# v2 git bundle\n" + b"1" * 64 + b" refs/agentrig/result\n\nPACK", "reference"),
        (
            b"# v2 git bundle\n"
            + b"1" * 40
            + b" refs/agentrig/result\n\n"
            + struct.pack(">4sII", b"PACK", 2, 0xFFFFFFFF),
            "objects",
        ),
        (b"# v2 git bundle\n" + b"1" * 40 + b" refs/agentrig/result\n\n" + pack_of([]), "no commit"),
        (b"# v2 git bundle\n" + b"1" * 40 + b" refs/agentrig/result\n\n" + pack_of([(3, b"x")], 900_000), "hold"),
    ],
)
def test_a_stream_that_is_no_bundle_is_refused(one: Round, said: bytes, why: str) -> None:
    answer = one.root / "said"
    answer.write_bytes(said)
    refused(one, answer, why)


def test_a_result_that_is_no_commit_is_refused(one: Round) -> None:
    blob = blob_of(one.copy, b"x")
    refused(one, bundle(one, blob, pack=pack_of([(3, b"x")])), "no commit")


def test_a_pack_that_is_too_large_is_refused(one: Round) -> None:
    write(one.copy, {"noise.bin": os.urandom(300_000)})
    with pytest.raises(Refused, match=r"hold|no more"):
        bring_back(one.quarantine, one.place, Limits(pack=100_000))
    assert one.quarantine.result() is None
    assert bring_back(one.quarantine, one.place, Limits(pack=400_000))


def test_a_file_that_unpacks_to_more_is_refused(one: Round) -> None:
    write(one.copy, {"zeros.bin": bytes(20 << 20)})
    with pytest.raises(Refused, match=r"zeros\.bin has 20971520 bytes"):
        bring_back(one.quarantine, one.place, Limits(file=1 << 20, pack=1 << 20))
    with pytest.raises(Refused, match="together"):
        bring_back(one.quarantine, one.place, Limits(contents=1 << 20))
    assert one.quarantine.result() is None
    assert bring_back(one.quarantine, one.place)


def test_memory_that_a_pack_asks_for_is_bounded(one: Round) -> None:
    write(one.copy, {"large.txt": bytes(12 << 20)})
    with pytest.raises(Refused):
        bring_back(one.quarantine, one.place, Limits(memory=4 << 20))
    assert bring_back(one.quarantine, one.place)


def test_a_tree_that_holds_itself_a_thousandfold_is_refused(one: Round) -> None:
    tree = tree_of(one.copy, good(one))
    for _ in range(12):
        tree = tree_of(one.copy, [("40000", f"{number:02}", tree) for number in range(10)])
    refused(one, answer_of(one, tree), "files and folders", Limits(entries=20_000))


def test_many_objects_are_refused(one: Round) -> None:
    write(one.copy, {f"many/{number}": str(number) for number in range(120)})
    with pytest.raises(Refused, match="objects"):
        bring_back(one.quarantine, one.place, Limits(objects=100))
    with pytest.raises(Refused, match="paths changed"):
        bring_back(one.quarantine, one.place, Limits(changes=100))
    assert bring_back(one.quarantine, one.place, Limits(objects=200))


def test_a_path_that_is_too_long_is_refused(one: Round) -> None:
    deep = tree_of(one.copy, good(one))
    for _ in range(30):
        deep = tree_of(one.copy, [("40000", "d" * 200, deep)])
    refused(one, answer_of(one, deep), "too long")
    refused(one, answer_of(one, tree_of(one.copy, [("100644", "n" * 300, blob_of(one.copy, b"x"))])), "too long")


def test_an_inside_that_never_ends_is_ended(one: Round) -> None:
    hook = one.root / "fifo"
    os.mkfifo(hook)
    with pytest.raises(SandboxError, match="longer than"):
        sent(one, hook, Limits(seconds=0.5))
    assert one.quarantine.result() is None


def test_a_history_that_was_written_anew_is_told(one: Round) -> None:
    write(one.copy, {"good.txt": "good\n"})
    assert one.back().related
    git(one.copy, "checkout", "-q", "--orphan", "other")
    git(one.copy, "commit", "-q", "-m", "unrelated")
    seen = one.back()
    assert not seen.related
    assert "anew" in seen.notes[0]
    assert [change.path for change in seen.changes] == ["good.txt"]
    assert one.accept().written


def test_links_out_of_the_tree_are_flagged(one: Round) -> None:
    for name, target in (
        ("up", "../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("src/up", "../../x"),
        ("dotgit", ".git/config"),
        ("src/dotgit", "../.GIT/hooks/pre-commit"),
        ("stays", "src/app.py"),
        ("src/stays", "../README.md"),
    ):
        (one.copy / name).symlink_to(target)
    seen = one.back()
    out = {change.path for change in seen.changes if "leads_out" in {flag.row for flag in change.flags}}
    assert out == {"up", "absolute", "src/up", "dotgit", "src/dotgit"}
    assert all("symlink" in flagged(seen, change.path) for change in seen.changes)
    assert change(seen, "up").target == "../../etc/passwd"


def test_a_submodule_whose_address_runs_a_command_is_flagged(one: Round) -> None:
    entries = [
        ("100644", ".gitmodules", blob_of(one.copy, b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% pwned\n')),
        ("160000", "x", "1" * 40),
    ]
    sent(one, answer_of(one, tree_of(one.copy, entries)))
    seen = review(one.quarantine, rows())
    assert {"runs_a_command", "git_rules"} <= flagged(seen, ".gitmodules")
    assert "submodule" in flagged(seen, "x")
    assert "ext::" in change(seen, ".gitmodules").flags[0].detail
    assert not list(one.root.rglob("pwned"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch\n', "gitmodulesUrl"),
        (b'[submodule "x"]\n\tpath = -x\n\turl = https://example.org/x\n', "gitmodulesPath"),
        (b'[submodule "../x"]\n\tpath = x\n\turl = https://example.org/x\n', "gitmodulesName"),
        (b'[submodule "x"]\n\tpath = x\n\tupdate = !touch pwned\n', "gitmodulesUpdate"),
    ],
)
def test_a_submodule_that_would_be_an_option_is_refused(one: Round, text: bytes, why: str) -> None:
    entries = [("100644", ".gitmodules", blob_of(one.copy, text)), ("160000", "x", "1" * 40)]
    refused(one, answer_of(one, tree_of(one.copy, entries)), why)


def test_filters_conversions_and_settings_of_the_copy_are_not_run(one: Round) -> None:
    """The agent owns the copy's settings and attributes: none of them does anything outside."""
    ran = one.root / "ran"
    for key in ("filter.x.clean", "filter.x.smudge", "diff.x.textconv", "diff.x.command", "merge.x.driver"):
        git(one.owner, "config", key, f"sh -c 'touch {ran}; cat' --")
    write(one.copy, {".gitattributes": "*.txt filter=x diff=x merge=x\n", "a.txt": "a\n"})
    seen = one.back()
    assert "git_rules" in flagged(seen, ".gitattributes")
    one.quarantine.git.run("diff-tree", "-p", "--no-ext-diff", "--no-textconv", seen.start, seen.result)
    one.accept()
    assert not ran.exists()
    git(one.owner, "-c", "core.hooksPath=/dev/null", "checkout", "-q", "agentrig/box")
    assert ran.exists(), "the control: the same attributes do run it where Git obeys them"


def test_hooks_of_the_copy_do_not_come_back(one: Round) -> None:
    write(one.copy, {".git/hooks/post-update": "#!/bin/sh\ntouch pwned\n", ".githooks/pre-commit": "#!/bin/sh\n"})
    seen = one.back()
    assert [change.path for change in seen.changes] == [".githooks/pre-commit"]
    assert "git_folder" in flagged(seen, ".githooks/pre-commit")
    assert not (one.quarantine.folder / "repository.git/hooks").exists()


def test_words_that_a_terminal_obeys_are_spelled_out(one: Round) -> None:
    write(one.copy, {"x\x1b[2J.txt": "a\n", "y.txt": "\x1b]52;c;ZXZpbA==\x07\n", "z\u202etxt.exe": "z\n"})
    git(one.copy, "add", "-A")
    who = {"GIT_AUTHOR_NAME": "ro\x1b[31mot", "GIT_AUTHOR_EMAIL": "e\u202evil@x"}
    git(one.copy, "commit", "-q", "-m", "good\x1b[8m evil\x9b1A", **who)
    seen = one.back()
    text = seen.to_json() + "".join(change.path for change in seen.changes)
    text += "".join(made.author + made.subject for made in seen.commits)
    assert not set(text) & {"\x1b", "\x9b", "\x07", "\u202e"}
    assert "ro\\x1b[31mot" in seen.commits[1].author
    assert "escapes" in flagged(seen, "x\\x1b[2J.txt")
    assert "escapes" in flagged(seen, "y.txt")
    assert "hidden_text" in flagged(seen, "z\\u202etxt.exe")


def test_an_agent_that_broke_its_copy_is_told(one: Round) -> None:
    (one.copy / ".git/HEAD").unlink()
    with pytest.raises(SandboxError, match="nothing came"):
        one.back()


def test_variables_of_the_caller_lead_nowhere(one: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = one.root / "ran"
    for key in ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_ASKPASS"):
        monkeypatch.setenv(key, f"touch {ran}")
    for key in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(key, str(one.root / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.hooksPath=/evil'")
    write(one.copy, {"good.txt": "good\n"})
    one.back()
    assert one.accept().written
    assert not ran.exists()
    assert not (one.root / "elsewhere").exists()


def test_git_has_one_door_and_the_room_imports_no_other() -> None:
    room = Path(orchestrator.sandbox.__file__).parent
    doors = {path.name for path in room.glob("*.py") if "subprocess" in path.read_text(encoding="utf-8")}
    assert doors == {"git.py", "place.py", "reached.py"}
    assert '"git"' not in (room / "reached.py").read_text(encoding="utf-8"), "it starts the door's client, or ssh"
    assert "import subprocess" not in (room / "place.py").read_text(encoding="utf-8")


def test_a_git_that_is_too_old_is_told(one: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    write(one.root, {"bin/git": "#!/bin/sh\necho git version 2.34.1\n"})
    (one.root / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{one.root / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match=r"2\.34\.1.*2\.38"):
        one.accept()
