"""Bytes while they arrive: pip's own figures, or a folder that fills, told to whoever waits for them in this thread."""

from __future__ import annotations

import contextlib
import re
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    #: Takes the bytes that are there, and how many there will be where that is known.
    Tell = Callable[[int, int | None], None]

#: How often a folder that fills is looked at, in seconds.
_LOOK_SECONDS = 0.25
#: A line of ``pip --progress-bar raw`` (pip 24.1 and newer): bytes of the file at hand, and its size or 0.
_OF_PIP = re.compile(r"Progress (\d+) of (\d+)")
_WAITS: ContextVar[Tell | None] = ContextVar("_WAITS", default=None)


@contextlib.contextmanager
def told(tell: Tell) -> Iterator[None]:
    """Have the bytes that arrive in this thread told for as long as the block lasts."""
    token = _WAITS.set(tell)
    try:
        yield
    finally:
        _WAITS.reset(token)


def follow_pip(lines: Iterable[str]) -> None:
    """Tell the bytes of pip's output, line by line; files follow one another, so those that are whole are added up."""
    tell, whole, last = _WAITS.get(), 0, (0, 0)
    for line in lines:
        if (match := _OF_PIP.fullmatch(line.strip())) is None:
            continue
        now = (int(match[1]), int(match[2]))
        if now[0] < last[0] or now[1] != last[1]:
            whole, last = whole + last[0], (0, 0)
        last = now
        if tell:
            tell(whole + now[0], whole + now[1] if now[1] else None)


@contextlib.contextmanager
def watched(folder: Path, size: int | None = None, *, before: int = 0, total: int | None = None) -> Iterator[None]:
    """Tell how many bytes lie in a folder for as long as the block lasts; ``size`` is what it will hold.

    Where it is one of several, ``before`` is what came in those before it, and ``total`` what comes in all.
    """
    tell, over = _WAITS.get(), threading.Event()

    def look() -> None:
        while tell and not over.wait(_LOOK_SECONDS):
            there = size_of(folder)
            tell(before + (min(there, size) if size else there), total or size)

    watcher = threading.Thread(target=look, name="arriving", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def size_of(folder: Path) -> int:
    """Give the bytes of all files in a folder; one that goes away meanwhile counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
    return total
