"""The table of walls and probes as it lies on a host, loaded from the templates; and the controls by what they do."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

from orchestrator.files import data
from tests.walls.controls import control_of


def program(name: str) -> ModuleType:
    """Load one of the probes' programs that stands alone."""
    path = data("templates") / "sandbox" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"sandbox_{name}", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows() -> tuple[Any, ...]:
    """Give every probe."""
    return tuple(program("table").ROWS)


def asked() -> list[tuple[list[str], dict[str, Any]]]:
    """Give each control once, with the names of all probes that it must turn red."""
    found: dict[str, list[str]] = {}
    for row in rows():
        if control := control_of(row):
            found.setdefault(json.dumps(control.document), []).append(row.name)
    return [(names, json.loads(control)) for control, names in found.items()]
