"""How parts are carried: what a run that was cut off has still to send meets nothing of the next."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.files import data


@pytest.fixture(scope="module")
def carry() -> ModuleType:
    path = data("roles") / "artefacts/action_plugins/agentrig_carry.py"
    spec = importlib.util.spec_from_file_location("agentrig_carry", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def carrier(carry: ModuleType, commands: list[str], each: Any = lambda _line: None) -> Any:
    """Give what carries, to a folder of this machine in the place of a host; ``each`` is told every command first."""

    class Here(carry.ActionModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._carried, self._all = 0, 0

        def _low_level_execute_command(self, line: str, sudoable: bool, in_data: bytes | None) -> dict[str, Any]:  # noqa: FBT001 - Ansible's own form
            del sudoable
            commands.append(line)
            each(line)
            done = subprocess.run(["sh", "-c", line], input=in_data or b"", capture_output=True, check=False)
            return {"rc": done.returncode, "stderr": done.stderr.decode()}

    return Here()


def test_what_comes_late_of_an_earlier_run_meets_nothing_of_this_one(carry: ModuleType, tmp_path: Path) -> None:
    blob, staging, before = tmp_path / "blob", tmp_path / "staging", list[str]()
    blob.write_bytes(b"new" * 1000)
    staging.mkdir()
    carrier(carry, before)._put(blob, staging / "one")
    (writes,) = [line for line in before if "cat >>" in line]
    (staging / "one").unlink()
    late = subprocess.Popen(["sh", "-c", writes], stdin=subprocess.PIPE)
    assert late.stdin is not None

    def meanwhile(line: str) -> None:
        if line.startswith("mv ") and late.stdin:
            late.stdin.write(b"old" * 1000)
            late.stdin.close()
            late.wait()

    carrier(carry, [], meanwhile)._put(blob, staging / "one")
    assert hashlib.sha256((staging / "one").read_bytes()).digest() == hashlib.sha256(b"new" * 1000).digest()


def test_a_failure_leaves_nothing(carry: ModuleType, tmp_path: Path) -> None:
    blob, staging = tmp_path / "blob", tmp_path / "staging"
    blob.write_bytes(b"new")
    staging.mkdir()

    def broken(line: str) -> None:
        if line.startswith("cat"):
            raise carry.AnsibleActionFail("the link is down")

    with pytest.raises(carry.AnsibleActionFail):
        carrier(carry, [], broken)._put(blob, staging / "one")
    assert list(staging.iterdir()) == []
