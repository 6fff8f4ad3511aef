"""Ends what a killed run leaves at work: Ansible, its SSH connections, and the folder that holds its values.

Each run has this file beside it as a process of its own, which hears when the run's process is gone, however it went.
It needs the standard library alone, so that it is there within milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 50
_ROUND_SECONDS = 0.1


@contextlib.contextmanager
def guarded(private: Path, sockets: Path) -> Iterator[None]:
    """Have a run watched for as long as the block lasts.

    ``private`` is its folder; the folders of its connections' sockets have names that begin with ``sockets``.
    """
    hears, tells = os.pipe()
    try:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(private), str(sockets)],
            stdin=hears,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(hears)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.write(tells, b".")
        os.close(tells)
        guard.wait()


def end_orphans(private: Path, sockets: Path | None = None) -> None:
    """End the processes of a run that was killed: those whose environment names its folder, and its SSH masters."""
    for _ in range(_ROUNDS):
        orphans = _of_run(private) + (_masters(sockets) if sockets else [])
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_ROUND_SECONDS)


def _of_run(private: Path) -> list[int]:
    mark = f"ANSIBLE_HOME={private / 'home'}".encode()
    return [pid for pid, said in _read_all("environ") if mark in said.split(b"\0")]


def _masters(sockets: Path) -> list[int]:
    """Give the SSH masters that listen in a folder of ours; they write its name over their arguments."""
    return [pid for pid, said in _read_all("cmdline") if said.startswith(f"ssh: {sockets}".encode())]


def _read_all(name: str) -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob(f"[0-9]*/{name}"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_bytes()


def main() -> int:
    """Wait for the end of the run's process; clean up where it did not say that it had ended well."""
    private, sockets = Path(sys.argv[1]), Path(sys.argv[2])
    if sys.stdin.buffer.read():
        return 0
    end_orphans(private, sockets)
    shutil.rmtree(private, ignore_errors=True)
    for folder in sockets.parent.glob(f"{sockets.name}*"):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
