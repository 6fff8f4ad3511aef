"""What goes into a place, and the programs that are started there for it: a tar in, Git's checkout, a bundle out."""

from __future__ import annotations

import contextlib
import tarfile
import threading
import time
from typing import IO, TYPE_CHECKING

from orchestrator.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.sandbox.place import Place, Running

_CHUNK = 1 << 20
#: POSIX tar: blocks of 512 bytes, and two empty ones at the end.
_BLOCK = 512


@contextlib.contextmanager
def started(place: Place, argv: Sequence[str], seconds: float) -> Iterator[Running]:
    """Start a program inside, and end it when the block ends or its seconds are over: that is a SandboxError."""
    running = place.start(argv)
    late = threading.Event()

    def end() -> None:
        late.set()
        running.kill()

    clock = threading.Timer(seconds, end)
    clock.start()
    try:
        yield running
    except SandboxError:
        if not late.is_set():
            raise
    finally:
        clock.cancel()
        running.kill()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        running.wait()
    if late.is_set():
        raise SandboxError(f"the inside took longer than {seconds:g} s and was ended", do="allow more seconds")


def send(place: Place, around: Mapping[str, bytes], packs: Sequence[Path], seconds: float) -> int:
    """Write a repository into the place's folder and check it out there; gives the bytes of its packs.

    ``around`` are the small files of its ``.git``. Raises SandboxError where the inside does not take it.
    """
    with started(place, ["tar", "-x", "-f", "-", "-C", place.folder], seconds) as running:
        sent = 0
        with contextlib.suppress(BrokenPipeError):
            sent = _tar(_pipe(running.stdin), around, packs)
            _pipe(running.stdin).close()
        code = running.wait()
    if code != 0:
        raise SandboxError(f"the copy could not be written inside: tar ended with {code}", where=place.folder)
    with started(place, ["git", "-C", place.folder, "reset", "-q", "--hard"], seconds) as running:
        _pipe(running.stdin).close()
        code = running.wait()
    if code != 0:
        raise SandboxError(f"the copy could not be checked out inside: git ended with {code}", where=place.folder)
    return sent


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise SandboxError("the place gave no pipe")
    return pipe


def _tar(pipe: IO[bytes], around: Mapping[str, bytes], packs: Sequence[Path]) -> int:
    now, sent = int(time.time()), 0

    def head(name: str, size: int) -> None:
        entry = tarfile.TarInfo(f".git/{name}".rstrip("/"))
        folder = name.endswith("/")
        entry.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
        entry.mode, entry.mtime, entry.size = 0o755 if folder else 0o644, now, size
        pipe.write(entry.tobuf(tarfile.PAX_FORMAT))

    for name, content in around.items():
        head(name, len(content))
        pipe.write(content + bytes(-len(content) % _BLOCK))
    for path in packs:
        size = path.stat().st_size
        head(f"objects/pack/{path.name}", size)
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                pipe.write(piece)
        pipe.write(bytes(-size % _BLOCK))
        sent += size
    pipe.write(bytes(2 * _BLOCK))
    return sent
