"""Asks the gateway all along, and sees each time what stands behind ``current``.

Served: a request with the right token that was answered 200. Half-made: a release that is, at that moment, not what it
is once it was accepted. A mixture: the runtime was started before ``current`` moved and the gateway after it, or the
other way round.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

from tests.faults.inside import OURS, Behind, Inside, behind

RUNTIME, GATEWAY = "agentrig-runtime", "agentrig-gateway"
#: Closer than this to the moving of ``current``, in seconds, nobody can say what a process was started from.
_BLUR = 0.25
#: Seconds between two askings; and after how many all that is behind ``current`` is read again, where it has not moved.
_PAUSE, _LOOK = 0.1, 1.0


@dataclass
class Watcher:
    """Watches one host for as long as the block lasts."""

    inside: Inside
    port: int
    token_file: Path
    answers: Counter[str] = field(default_factory=Counter)
    served: Counter[Behind] = field(default_factory=Counter)
    mixtures: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def serves_within(self, seconds: float) -> bool:
        """Tell whether one more request is served in this time."""
        before, end = self.answers["200"], time.monotonic() + seconds
        while self.answers["200"] == before and time.monotonic() < end:
            time.sleep(0.1)
        return self.answers["200"] > before

    def _watch(self) -> None:
        init, seen, looked = None, None, 0.0
        while not self._over.wait(_PAUSE):
            init = init if init and init.exists() else self.inside.init()
            root = init / "root" if init else None
            before = _pointer(root)
            status = ask(self.port, self.token_file)
            self.answers[status] += 1
            # While `current` moves nobody can say which of the two has answered; the next asking tells.
            if status != "200" or root is None or before is None or before != _pointer(root):
                continue
            if seen != before or time.monotonic() - looked > _LOOK:
                found, mixed = self._behind(root), self._mixed(root)
                if before != _pointer(root) or found is None:
                    continue
                seen, looked = before, time.monotonic()
                self.mixtures += mixed
            self.served[found] += 1

    def _behind(self, root: Path) -> Behind | None:
        with contextlib.suppress(OSError):
            return behind(root)
        return None

    def _mixed(self, root: Path) -> bool:
        """Tell whether runtime and gateway were started from different releases."""
        try:
            moved = time.time() - os.lstat(root / OURS / "current").st_ctime
            ages = [self._age(root, user) for user in (RUNTIME, GATEWAY)]
        except (OSError, StopIteration, ValueError):
            return False
        return min(ages) < moved - _BLUR and max(ages) > moved + _BLUR

    def _age(self, root: Path, user: str) -> float:
        """Give the seconds since a unit's oldest process was started."""
        lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
        number = int(next(line for line in lines if line.startswith(f"{user}:")).split(":")[2])
        now, ticks = time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK")
        starts = []
        for process in self.inside.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if process.stat().st_uid == number:
                    stat = (process / "stat").read_text(encoding="utf-8")
                    starts.append(int(stat.rpartition(")")[2].split()[19]) / ticks)
        return now - min(starts)


def _pointer(root: Path | None) -> tuple[str, int] | None:
    """Give where ``current`` points, and when it was made to."""
    with contextlib.suppress(OSError):
        if root:
            return str((root / OURS / "current").readlink()), os.lstat(root / OURS / "current").st_ctime_ns
    return None


def ask(port: int, token_file: Path) -> str:
    """Give the status of one request with the token, or what went wrong."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        token = token_file.read_text(encoding="utf-8").strip()
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {token}"})
        return str(connection.getresponse().status)
    except (HTTPException, OSError) as error:
        return type(error).__name__
    finally:
        connection.close()
