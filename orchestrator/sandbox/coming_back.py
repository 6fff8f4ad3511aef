"""The result comes back: one commit, its objects checked before they are kept, the whole of it bounded.

What is not committed is committed inside, by the inside's own Git, which nobody trusts: outside the stream is read as
bytes. Objects wait in a folder of their own until every check is passed, as Git's own quarantine of a push does.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from orchestrator.errors import SandboxError
from orchestrator.sandbox.bundle import Refused, read_head
from orchestrator.sandbox.git import Bounds, Git, GitFailed
from orchestrator.sandbox.quarantine import RESULT
from orchestrator.sandbox.raw import entries_of
from orchestrator.sandbox.sending import started
from orchestrator.sandbox.values import Limits
from orchestrator.sandbox.visible import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.sandbox.place import Place
    from orchestrator.sandbox.quarantine import Quarantine

#: Run inside. Everything that is not ignored is put into one commit more, beside the agent's index, and sent.
_SCRIPT = """
set -e
cd "$1"
export GIT_INDEX_FILE="$PWD/.git/agentrig-index" LC_ALL=C
rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock"
git read-tree HEAD
git -c core.hooksPath=/dev/null -c advice.addEmbeddedRepo=false add -A 1>&2
tree=$(git write-tree)
commit=$(echo "What the agent left uncommitted" | git commit-tree -p HEAD "$tree")
git update-ref --no-deref refs/agentrig/result "$commit"
rm -f "$GIT_INDEX_FILE"
exec git bundle create -q - refs/agentrig/result "^$2"
"""
_CHUNK = 1 << 20
#: What stands before a path in a listing, at most: mode, kind, the longest object name.
_LINE = 100
#: git-fsck(1): a strange mode is a word there, no error; Git would read a device as a submodule.
_STRICTER = "badFilemode=error"
#: What a Git tree may hold: files, programs, links, submodules, folders; and an old spelling of a file.
_MODES = {b"100644", b"100755", b"120000", b"160000", b"040000", b"100664"}


def bring_back(quarantine: Quarantine, place: Place, limits: Limits | None = None) -> str:
    """Bring the place's result into the quarantine and give its commit; an earlier result is replaced.

    Raises Refused for what is not fit to be kept (nothing of it stays), SandboxError where nothing could be read.
    """
    most = limits or Limits()
    copied = quarantine.copied()
    argv = ["sh", "-c", _SCRIPT, "sh", place.folder, copied.start]
    with quarantine.incoming() as (folder, git):
        bounded = git.within(Bounds(most.seconds, most.memory, most.pack + copied.bytes))
        with started(place, argv, most.seconds) as running:
            if running.stdin is None or running.stdout is None:
                raise SandboxError("the place gave no pipe")
            running.stdin.close()
            commit = receive(running.stdout, bounded, copied.object_format, most)
            code = running.wait()
        if code != 0:
            raise Refused(f"the inside could not send it whole: it ended with {code}")
        measure(bounded, copied.start, commit, most)
        quarantine.take(folder)
    quarantine.git.run("update-ref", RESULT, commit)
    return commit


def receive(stream: IO[bytes], git: Git, form: str, limits: Limits) -> str:
    """Index a bundle's objects where ``git`` writes, each checked, and give the commit that was asked for."""
    head = read_head(stream, RESULT, form, limits)
    words = ("--stdin", "--fix-thin", f"--strict={_STRICTER}", f"--max-input-size={limits.pack}")
    try:
        with git.talk("index-pack", *words) as talk:
            talk.write(head.first)
            while piece := stream.read(_CHUNK):
                talk.write(piece)
            talk.end()
    except GitFailed as failed:
        raise Refused(f"its objects do not hold: {failed.what}") from failed
    except BrokenPipeError:
        raise Refused("Git took no more of it") from None
    if git.line("cat-file", "-t", head.commit) != "commit":
        raise Refused("it is no commit")
    return head.commit


def measure(git: Git, start: str, commit: str, limits: Limits) -> None:
    """Hold a result to its limits: how many files, how long their paths, how large what changed. Raises Refused."""
    for count, listed in enumerate(_listing(git, commit, limits), 1):
        head, _, path = listed.partition(b"\t")
        if count > limits.entries:
            raise Refused(f"its tree has more than {limits.entries} files and folders", "allow more entries")
        if len(path) > limits.path or len(path.rpartition(b"/")[2]) > limits.name:
            raise Refused(f"a path is too long: {name_of(path[:80])}…")
        if head.split(b" ", 1)[0] not in _MODES:
            raise Refused(f"{name_of(path)} has a mode that Git does not know")
    changed = entries_of(git.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", start, commit))
    if len(changed) > limits.changes:
        raise Refused(f"{len(changed)} paths changed, more than {limits.changes}", "allow more changes")
    files = [entry for entry in changed if entry.mode not in {"000000", "160000"}]
    sizes = sizes_of(git, [entry.blob for entry in files])
    for entry in files:
        size = sizes.get(entry.blob)
        if size is None:
            raise Refused(f"the content of {name_of(entry.path)} is missing")
        if size > limits.file:
            said = f"{name_of(entry.path)} has {size} bytes, more than {limits.file}"
            raise Refused(said, "allow larger files")
    total = sum(sizes[entry.blob] for entry in files)
    if total > limits.contents:
        raise Refused(f"the changed files have {total} bytes together, more than {limits.contents}")


def sizes_of(git: Git, blobs: Sequence[str]) -> dict[str, int]:
    """Give the size of each file that is there, in bytes, without unpacking it."""
    wanted = "".join(f"{name}\n" for name in dict.fromkeys(blobs)).encode()
    told = git.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", "--buffer", stdin=wanted)
    rows = [line.split() for line in told.decode("ascii", "replace").splitlines()]
    return {row[0]: int(row[2]) for row in rows if row[1] == "blob"}


def _listing(git: Git, commit: str, limits: Limits) -> Iterator[bytes]:
    """Give every entry of a tree as Git finds it: a tree that holds itself a thousandfold is left in its middle."""
    with git.talk("ls-tree", "-r", "-t", "-z", commit) as talk:
        left = b""
        while piece := talk.out.read(_CHUNK):
            *entries, left = (left + piece).split(b"\0")
            yield from entries
            if len(left) > limits.path + _LINE:
                raise Refused(f"a path is too long: {name_of(left[-80:])}…")
        try:
            talk.end()
        except GitFailed as failed:
            raise Refused(f"its tree cannot be read: {failed.what}") from failed
