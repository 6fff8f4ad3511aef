"""The programs that a host has beside its door, loaded as they lie beside each other there."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from orchestrator.files import data


def program(name: str) -> ModuleType:
    """Load one of them, and what it loads."""
    sys.path.insert(0, str(data("templates") / "sandbox"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)
