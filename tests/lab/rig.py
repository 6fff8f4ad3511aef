"""A state of its own, a folder of its own, and the installed command: what the lab ring drives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.keys import KEYS, missing, shape_of

#: A closed port of this machine: no hub is in reach of a test.
NO_HUB = "http://127.0.0.1:9"
#: Tokens of a window that acceptance fills in a few seconds: for tests that ask something else of a rig.
SMALL_WINDOW = 1024


@dataclass(frozen=True)
class Rig:
    """Runs ``deploy`` in one folder with one state."""

    folder: Path
    state: Path
    command: tuple[str, ...] = (str(Path(sys.executable).parent / "deploy"),)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        away = {"HF_ENDPOINT": NO_HUB, "AGENTRIG_RELEASES": NO_HUB}
        return os.environ | {"AGENTRIG_STATE": str(self.state)} | away | self.environment

    def small(self, name: str = "small", **more: Any) -> str:
        """Write a profile like ``cpu`` with a small window beside the lock and give its name; ``more`` goes into it."""
        profiles = self.folder / "profiles"
        profiles.mkdir(exist_ok=True)
        text = json.dumps({"extends": "cpu", "llm": {"context_tokens": SMALL_WINDOW}} | more)
        (profiles / f"{name}.yml").write_text(text)
        return name

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a verb and give what it said."""
        command = [*self.command, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, **options
        )

    def document(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a verb with ``--json``; its exit code must be the one expected."""
        cut = arguments.index("--") if "--" in arguments else len(arguments)
        done = self.run(*arguments[:cut], "--json", *arguments[cut:])
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert (
            missing(document, shape_of(arguments) if code == 0 else KEYS["error"] if "error" in document else {}) == []
        )
        return document

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a verb and give its process; progress comes line by line on its standard error."""
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell line on a lab host."""
        return self.run("lab", "ssh", host, command)

    def read(self, host: str, command: str) -> str:
        """Give what a shell line on a lab host prints; it must succeed."""
        done = self.on(host, command)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout
