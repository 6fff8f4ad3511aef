"""Reads a machine: each probe is a command and a pure parse of its output."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.detect.asking import Answer, Question, ask, read_local

__all__ = ["Answer", "Question", "ask", "read_local"]


def __getattr__(name: str) -> Any:
    """Load the room when one of its names is asked for: the child process starts without it."""
    if name in __all__:
        return getattr(import_module("orchestrator.detect.asking"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
