"""How a disturbed ``up`` must end: the next one ends where an undisturbed one does, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from orchestrator.lab import Lab
from tests.faults.inside import Behind, behind
from tests.faults.moments import Running
from tests.faults.site import HOST, Site
from tests.faults.watcher import Watcher

_HALF = "ls -A /opt/agentrig/releases | grep '^\\.'; ls -d /opt/agentrig/staging /opt/agentrig/apt/lists 2>/dev/null"
_WRITTEN = "find /opt/agentrig /etc/systemd/system -name '.*.agentrig' -o -name '*.part' -o -name 'wheels-*'"
_AT_WORK = "ps -eo args | grep -i '[a]nsible\\|[a]gentrig_'"


def converges(site: Site, expected: dict[str, Any], about: str) -> None:
    """Run ``up`` again: it ends accepted, with the manifest of an undisturbed run, and leaves nothing half-written."""
    (host,) = site.rig.document("up", "--lab", "--profile", "faults")["hosts"]
    assert host["error"] is None, about
    found = site.manifest()
    assert {key for key in expected if found[key] != expected[key]} == set(), about
    assert found == expected, about
    (status,) = site.rig.document("status", "--lab", "--check")["hosts"]
    assert (status["drift"], status["serving"]) == ([], True), about
    assert not list((site.rig.state / "store/partial").glob("*")), about
    left = site.rig.on(HOST, f"{_HALF}; {_WRITTEN}; {_AT_WORK}").stdout
    assert left == "", f"{about}: {left}"


def served_whole(site: Site, watcher: Watcher, former: Behind | None, about: str) -> None:
    """Nothing was served but what was accepted before, or what is accepted now; and never a mixture of both."""
    final = behind(site.inside.up_now() / "root")
    assert final is not None, about
    assert set(watcher.served) <= {former, final}, f"{about}: {watcher.served}, and not {former} or {final}"
    assert watcher.mixtures == 0, f"{about}: {watcher.mixtures} answers of a mixture"


def cut_until_it_ends(site: Site, running: Running) -> None:
    """Cut the link, wait until ``up`` has said why it fails, and mend it."""
    site.inside.cut(off=True)
    try:
        document = json.loads(running.finish())
    finally:
        site.inside.cut(off=False)
    assert running.process.returncode == 1, document
    error = document["hosts"][0]["error"]
    assert "cannot be reached" in error["what"], error
    assert error["do"], error


def nothing_is_left_behind(site: Site, pid: int, about: str) -> None:
    """Give a killed run's companions a few seconds to see that it is gone."""
    for _ in range(80):
        if not (left := left_behind(site, pid)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{about}: {left}")


def left_behind(site: Site, pid: int) -> list[str]:
    """Give the processes, connections and folders of a killed run that are still there; the lab's hosts are none."""
    state = str(site.rig.state)
    found = [str(path) for path in Path("/tmp").glob(f"agentrig-ssh-{pid}-*")]  # noqa: S108
    found += [str(path) for path in (site.kept / "work").glob("run-*")]
    lab = family(Lab(site.rig.state / "lab").supervisor() or 0)
    for path in Path("/proc").glob("[0-9]*"):
        if int(path.name) in lab or path.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not command or "orchestrator.lab.supervisor" in command:
                continue
            environment = (path / "environ").read_bytes().decode(errors="replace")
            if state in command + environment or f"agentrig-ssh-{pid}-" in command:
                found.append(f"{path.name} {command}")
    return found


def family(pid: int) -> set[int]:
    """Give a process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
