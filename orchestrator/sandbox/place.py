"""Where an agent runs, as the copy sees it: something that starts a program inside and joins two pipes to it.

A folder, a container or a virtual machine is a place; ``subprocess.Popen`` of ``docker exec -i`` or ``ssh`` is a
``Running``. Nothing else of the inside is ever asked for: no path of it is opened from here.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Running(Protocol):
    """A program that was started inside, with its two pipes."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """Give the pipe that it reads."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """Give the pipe that it writes."""

    def wait(self) -> int:
        """Wait for its end and give its exit code."""

    def kill(self) -> None:
        """End it with all that it started, so that its pipes close; ending it twice is no fault."""


class Place(Protocol):
    """Where the copy lies. ``folder`` is its path inside, which exists and is empty when the copy goes in."""

    @property
    def folder(self) -> str:
        """Give the path of the copy, as the inside knows it."""

    def start(self, argv: Sequence[str]) -> Running:
        """Start a program inside as the agent's user, both pipes joined."""
