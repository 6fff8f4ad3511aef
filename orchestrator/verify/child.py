"""The child process of verify: a host and its manifest as JSON on standard input, a check a line on standard output.

It runs the specs with pytest and testinfra, over one connection that is closed afterwards. Exit 0 when the specs
were run, whatever they found. With a command in the manifest's place it runs that, and answers what it printed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from orchestrator.inventory import Host
from orchestrator.manifest import Manifest
from orchestrator.verify.spec_reports import SpecReports

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPECS = Path(__file__).parent / "specs"
#: A control socket's path may have 104 bytes, and TMPDIR may be longer than that.
_SHORT_FOLDER = "/tmp"  # noqa: S108 - mkdtemp makes the folder below it, for us alone
#: prctl(2): the child gets this signal when its parent is gone.
_PR_SET_PDEATHSIG = 1
#: Seconds that the shared connection outlives a killed child.
_PERSIST_SECONDS = 10


def main() -> int:
    """Run the specs against the host on standard input."""
    _end_with_parent()
    question = json.load(sys.stdin)
    host = Host.model_validate(question["host"])
    with (
        _answers() as answers,
        tempfile.TemporaryDirectory(prefix="agentrig-", dir=_SHORT_FOLDER) as folder,
        _connection(host, Path(folder)) as where,
    ):
        if "command" in question:
            answers.write(_asked(question["command"], where))
        else:
            _run(Manifest.model_validate(question["manifest"]), Path(folder), where, SpecReports(answers))
    return 0


def _asked(command: str, where: list[str]) -> str:
    """Run one command on the host; give its exit code and what it printed, as JSON."""
    import testinfra  # noqa: PLC0415 - loaded here and nowhere else

    done = testinfra.get_host(where[0].removeprefix("--hosts="), sudo="--sudo" in where).run(command)
    return json.dumps({"exit_code": done.rc, "stdout": done.stdout, "stderr": done.stderr})


def _end_with_parent() -> None:
    """Have this process interrupted when its parent is gone, so that it closes its connection and ends."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


@contextmanager
def _answers() -> Iterator[TextIO]:
    """Give standard output to the checks alone: what else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


@contextmanager
def _connection(host: Host, folder: Path) -> Iterator[list[str]]:
    """Give pytest's arguments that say where the specs look; closes the shared connection at the end."""
    sudo = ["--sudo"] if host.become else []
    if host.connection == "local":
        yield ["--hosts=local://", *sudo]
        return
    settings = folder / "ssh_config"
    settings.write_text(ssh_config(_linked(host, folder), folder / "c"), encoding="utf-8")
    target = f"[{host.address}]" if ":" in host.address else host.address
    try:
        yield [f"--hosts=ssh://{target}?ssh_config={settings}&controlpersist={_PERSIST_SECONDS}", *sudo]
    finally:
        subprocess.run(["ssh", "-F", settings, "-O", "exit", host.address], capture_output=True, check=False)


def _linked(host: Host, folder: Path) -> Host:
    """Give the host with links to its files: ssh's settings are lines, and no line can hold every path."""
    found = {}
    for name, path in {"private_key": host.private_key, "known_hosts": host.known_hosts}.items():
        if path:
            (folder / name).symlink_to(path)
            found[name] = str(folder / name)
    return host.model_copy(update=found)


def ssh_config(host: Host, control_path: Path) -> str:
    """Write ssh's settings for one host: no question asked, one connection for all, given up when it goes dead.

    What they leave open, a jump host for one, is taken from the person's own settings; not so for a host of the lab.
    """
    settings = {
        "Port": str(host.port),
        "User": f'"{host.user}"',
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "3",
        "ControlMaster": "auto",
        "ControlPath": str(control_path),
    }
    settings |= host.ssh_files()
    own = "" if host.lab else "Host *\n  Include ~/.ssh/config\n  Include /etc/ssh/ssh_config\n"
    return f"Host {host.address}\n" + "".join(f"  {key} {value}\n" for key, value in settings.items()) + own


def _run(manifest: Manifest, folder: Path, where: list[str], reports: SpecReports) -> None:
    declared = folder / "manifest.json"
    declared.write_text(manifest.to_json(), encoding="utf-8")
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ |= {"AGENTRIG_MANIFEST": str(declared), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    import pytest  # noqa: PLC0415 - reads the environment set above

    quiet = ["-q", "--no-header", "--tb=line", "--assert=plain", "-p", "no:cacheprovider"]
    alone = ["-c", os.devnull, "--rootdir", str(_SPECS), "-p", "testinfra.plugin"]
    pytest.main([str(_SPECS), *quiet, *alone, *where], plugins=[reports])
    reports.finish()


if __name__ == "__main__":
    sys.exit(main())
