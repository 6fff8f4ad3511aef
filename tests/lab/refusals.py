"""A verb that must fail, and the inventory of one host that it fails for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.rig import Rig


def refused(rig: Rig, *arguments: str, code: int, kind: str) -> dict[str, Any]:
    """Run a verb that must fail; give its error, which is told in a line or two and without a trace."""
    done = rig.run(*arguments, "--json", stdin=subprocess.DEVNULL)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    document = json.loads(done.stdout)
    error = document["error"]
    assert isinstance(error, dict)
    assert set(error) >= {"kind", "what", "where", "do"}
    assert error["kind"] == kind, error
    assert error["what"], error
    assert error["do"], error
    assert "\n" not in error["what"] + error["do"], error
    assert isinstance(document["hosts"], list)
    assert all(host["error"] == error for host in document["hosts"])
    return error


def inventory(folder: Path, name: str, **variables: object) -> Path:
    """Write an inventory of one host."""
    path = folder / "inventory.yml"
    path.write_text(json.dumps({"all": {"hosts": {name: {"agentrig_profile": "cpu", **variables}}}}))
    return path
