"""The copy goes in: a pack of what shall be there, an index beside it, and a repository without settings around it.

The pack is written into the quarantine and sent from there: what came back is compared with the very objects that
went in, whatever the owner does to his repository meanwhile. Branches, remotes, configuration, hooks, stash and
reflogs of the owner's are no part of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.errors import SandboxError, UsageError
from orchestrator.sandbox.git import Bounds, Git, GitFailed
from orchestrator.sandbox.owned import Owned, boundary, commit_of, find, uncommitted
from orchestrator.sandbox.quarantine import START, Quarantine
from orchestrator.sandbox.sending import send
from orchestrator.sandbox.values import Copied, Wish
from orchestrator.sandbox.visible import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.sandbox.place import Place

#: The first line of a pointer file (Git LFS specification, version 1), and its greatest length in bytes.
_LFS, _LFS_BYTES = b"version https://git-lfs.github.com/spec/v1\n", 1024
#: Who the agent's commits are by, inside. Nobody's address: it ends at the sandbox.
AGENT_ADDRESS = "agent@sandbox.invalid"


def take_in(repository: Path, quarantine: Quarantine, place: Place, wish: Wish) -> Copied:
    """Put a copy of a repository into a place, and keep what went in.

    Raises UsageError for a repository or a wish that cannot be, SandboxError where the inside does not take it.
    """
    began = time.monotonic()
    owned = find(repository)
    commit = commit_of(owned, wish)
    with quarantine.made() as beside:
        words = ("-q", "--bare", "--template=", "-b", "none", f"--object-format={owned.object_format}")
        beside.git.run("init", *words)
        within = owned.git.writing_to(beside.objects, owned.objects).within(Bounds(wish.seconds))
        start, taken, notes = _start(owned, commit, wish, within, beside.folder / "index")
        cut = _cut(owned, within, commit, wish)
        _pack(within, start, cut, beside.objects)
        if cut:
            (beside.folder / "repository.git/shallow").write_text("".join(f"{one}\n" for one in cut), encoding="ascii")
        beside.git.run("update-ref", START, start)
        submodules, pointers, more = _seen(owned, beside.git, start)
        around = _around(owned.object_format, wish.branch or owned.branch or "agentrig", start, cut)
        sent = send(place, around, sorted((beside.objects / "pack").glob("*.[pi]*")), wish.seconds)
        copied = Copied(
            repository=str(owned.folder),
            branch=wish.branch or owned.branch,
            object_format=owned.object_format,
            commit=commit,
            start=start,
            history=wish.history,
            shallow=bool(cut),
            uncommitted=tuple(name_of(path) for path in taken),
            submodules=submodules,
            lfs_pointers=pointers,
            notes=(*notes, *more),
            bytes=sent,
            seconds=round(time.monotonic() - began, 3),
        )
        beside.keep(copied)
    return copied


def _start(
    owned: Owned, commit: str | None, wish: Wish, within: Git, index: Path
) -> tuple[str, tuple[bytes, ...], tuple[str, ...]]:
    """Give the copy's first commit, the paths that are not committed, and what stayed out."""
    if wish.also and not wish.uncommitted:
        raise UsageError("ignored files go in with what is not committed", do="ask for what is not committed as well")
    if commit is not None and not wish.uncommitted:
        return commit, (), ()
    if wish.uncommitted:
        tree, taken, notes = uncommitted(owned, wish, within, index)
        index.unlink(missing_ok=True)
    else:
        tree, taken, notes = within.run("mktree").decode().strip(), (), ("the branch has no commit: the copy is empty",)
    if commit is not None and not taken:
        return commit, (), notes
    try:
        name, address = owned.identity()
    except UsageError:
        name, address = "owner", "owner@localhost.invalid"
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", name), ("EMAIL", address))
    }
    parents = () if commit is None else ("-p", commit)
    made = within.beside(**who).run(
        "commit-tree", *parents, tree, stdin=b"What was not committed when the copy was made\n"
    )
    return made.decode().strip(), taken, notes


def _cut(owned: Owned, within: Git, commit: str | None, wish: Wish) -> tuple[str, ...]:
    """Give the commits at which the copy's history ends before its beginning."""
    if commit is None:
        return ()
    known = boundary(owned)
    if not wish.history:
        parents = within.run("rev-list", "--parents", "--max-count=1", commit).split()
        return (commit,) if len(parents) > 1 or commit in known else ()
    if not known:
        return ()
    reached = set(within.run("rev-list", commit).decode().split())
    return tuple(one for one in known if one in reached)


def _pack(within: Git, start: str, cut: Sequence[str], objects: Path) -> None:
    """Write one pack of all that ``start`` needs; deltas are taken over, none is sought."""
    wanted = "".join(f"--shallow {one}\n" for one in cut) + f"{start}\n"
    words = ("--revs", "--shallow", "--delta-base-offset", "--window=0", "--compression=1", "-q")
    try:
        within.run("pack-objects", *words, str(objects / "pack/pack"), stdin=wanted.encode())
    except GitFailed as failed:
        raise SandboxError(
            f"the repository cannot be packed: {failed.what}",
            do="see git fsck; a partial clone must fetch what it lacks first",
        ) from failed
    for loose in objects.glob("[0-9a-f][0-9a-f]"):
        for path in loose.iterdir():
            path.unlink()
        loose.rmdir()


def _seen(owned: Owned, git: Git, start: str) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Give the submodules, how many files are pointers of LFS, and what else a reader should know."""
    entries = [line.split(b"\t", 1) for line in git.run("ls-tree", "-r", "-z", start).split(b"\0") if line]
    submodules = tuple(name_of(path) for head, path in entries if head.startswith(b"160000 "))
    rules = [head.split()[2] for head, path in entries if path.rpartition(b"/")[2] == b".gitattributes"]
    filtered = any(b"filter=lfs" in git.run("cat-file", "blob", rule.decode()) for rule in rules)
    pointers = _pointers(git, entries) if filtered else 0
    notes = [f"submodule {one}: named, its files did not go in" for one in submodules]
    if pointers:
        notes.append(f"{pointers} files are pointers of Git LFS and went in as such: their contents did not")
    if owned.git.line("config", "--type=bool", "core.sparseCheckout") == "true":
        notes.append("the working tree is sparse; the copy has all files")
    return submodules, pointers, tuple(notes)


def _pointers(git: Git, entries: Sequence[Sequence[bytes]]) -> int:
    wanted = b"".join(head.split()[2] + b"\n" for head, _ in entries if head.startswith(b"100"))
    sizes = git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer", stdin=wanted)
    small = [line.split()[0] for line in sizes.splitlines() if int(line.split()[1]) <= _LFS_BYTES]
    contents = git.run("cat-file", "--batch", "--buffer", stdin=b"".join(one + b"\n" for one in small))
    return contents.count(b"\n" + _LFS)


def _around(form: str, branch: str, start: str, cut: Sequence[str]) -> dict[str, bytes]:
    """Give the small files of the copy's ``.git``; a name that ends in a slash is a folder."""
    version = 1 if form == "sha256" else 0
    settings = f"[core]\n\trepositoryformatversion = {version}\n\tbare = false\n\tlogallrefupdates = true\n"
    settings += "[extensions]\n\tobjectformat = sha256\n" if version else ""
    settings += f"[user]\n\tname = agent\n\temail = {AGENT_ADDRESS}\n[commit]\n\tgpgsign = false\n"
    name = branch.encode("utf-8", "surrogateescape")
    files = {
        "refs/heads/": b"",
        "objects/pack/": b"",
        "HEAD": b"ref: refs/heads/" + name + b"\n",
        "config": settings.encode(),
        "packed-refs": start.encode() + b" refs/heads/" + name + b"\n",
    }
    return files | ({"shallow": "".join(f"{one}\n" for one in cut).encode()} if cut else {})
