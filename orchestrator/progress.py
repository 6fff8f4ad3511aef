"""What the rooms tell while they work; who shows it, and how, is not their business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["detect", "plan", "lock", "render", "apply", "verify", "lab", "down", "bundle", "done"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``done`` and ``total`` are bytes of what is fetched or carried.

    ``seconds`` is what a task took that has ended. The phase ``done`` tells how it ended for a host.
    """

    phase: Phase
    text: str
    host: str = ""
    done: int | None = None
    total: int | None = None
    state: Literal["running", "ok", "changed", "failed"] = "running"
    seconds: float | None = None


Progress = Callable[[Event], None]


def silent(_: Event) -> None:
    """Show nothing."""
