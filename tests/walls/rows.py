"""The table of walls and probes as it lies on a host, loaded from the templates; and the controls by what they do."""

from __future__ import annotations

import json
from typing import Any

from tests.host_programs import program
from tests.walls.controls import control_of


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
