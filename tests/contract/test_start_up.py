"""The face stays light: the help loads no library that a verb needs later."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "pydantic",
    "yaml",
    "rich",
    "requests",
    "ansible",
    "ansible_runner",
    "pyinfra",
    "gevent",
    "huggingface_hub",
    "jinja2",
)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['deploy', '--help']\n"
        "from orchestrator.cli.root import run\n"
        "code = run(['--help'])\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('loaded', loaded, file=sys.stderr)\n"
        "sys.exit(code or len(loaded))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "detect" in done.stdout
