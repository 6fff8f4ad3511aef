"""One lab host with a profile of its own, which is brought up, disturbed, and brought up again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.lab import Lab, client
from tests.faults.inside import Inside
from tests.faults.moments import Running
from tests.faults.watcher import Watcher
from tests.lab.rig import Rig

HOST = "lab-faults"
UP = ("up", "--lab", "--profile", "faults")
#: The runtime's port in the first release, and in the one that it is changed to: both units start anew for it.
FIRST, SECOND = 18080, 18081
#: The gateway's port on the host.
PORT = 8080
#: What the registries offer may change: an undisturbed run from longer ago, in seconds, is no measure any more.
_FRESH = 3600


class Undisturbed(NamedTuple):
    """An ``up`` that nobody disturbed: the manifest that it ended at, and how many seconds its phases took."""

    manifest: dict[str, Any]
    lengths: Mapping[str, float]


@dataclass(frozen=True)
class Site:
    """The host, and the folder and the state that it is driven from."""

    rig: Rig

    @property
    def inside(self) -> Inside:
        return Inside(self.rig.state / "lab", HOST)

    @property
    def kept(self) -> Path:
        """Give the folder with what is kept of the host."""
        return self.rig.state / "lab/rigs" / HOST

    @property
    def lock(self) -> Path:
        return self.rig.state / "lab/deploy.lock"

    def make_host(self) -> None:
        """Make the host where it is not there."""
        Lab(self.rig.state / "lab").up({HOST: "debian-12"})

    def ask_for(self, runtime_port: int) -> None:
        """Write the profile: as ``cpu``, with a small window, which is soon accepted."""
        self.rig.small("faults", runtime={"port": runtime_port})

    def watcher(self) -> Watcher:
        port = Lab(self.rig.state / "lab").forward(HOST, PORT)
        return Watcher(self.inside, port, self.kept / "token")

    def start(self) -> Running:
        """Start ``up`` and read what it tells."""
        return Running(self.rig.start(*UP, "--json"))

    def up(self) -> Undisturbed:
        """Bring the host up; it must end accepted."""
        (host,) = self.rig.document(*UP)["hosts"]
        assert host["error"] is None, host
        return Undisturbed(self.manifest(), host["phases"])

    def manifest(self) -> dict[str, Any]:
        """Give what is declared to be on the host, but for the digests of what units are started with: keys are in."""
        kept = json.loads((self.kept / "manifest.json").read_text(encoding="utf-8"))
        assert isinstance(kept, dict)
        for file in kept["files"]:
            if file["path"].startswith("/opt/agentrig/started/"):
                assert len(file.pop("sha256")) == 64
        return kept

    def purge(self) -> None:
        """Take away what was put on the host."""
        assert self.rig.run("down", "--lab", "--purge").returncode == 0

    def forget_the_lock(self) -> None:
        """Have neither lock nor store; what the archive is signed with stays."""
        self.lock.unlink(missing_ok=True)
        shutil.rmtree(self.rig.state / "store", ignore_errors=True)


@dataclass(frozen=True)
class Shared:
    """What the cases of one content share: what undisturbed runs were, and the host that the first of them made."""

    folder: Path

    def first(self, site: Site) -> Undisturbed:
        """Give the undisturbed first ``up``, and the site a fresh host. Where it is not known, it is run there."""
        if (kept := self._kept("first")) is None:
            kept = self._run(site)
            site.purge()
            return kept
        for name in ("store", "keys", "lab/deploy.lock", "lab/deploy.lock.sig"):
            _copy(self.folder / "state" / name, site.rig.state / name)
        site.ask_for(FIRST)
        site.make_host()
        return kept

    def update(self, site: Site) -> Undisturbed:
        """Give the undisturbed change to the second release, and the site a host with the first, accepted."""
        if self._kept("first") is None:
            self._run(site)
        else:
            _copy(self.folder / "state", site.rig.state)
            site.ask_for(FIRST)
            site.make_host()
            site.inside.wait()
        if (kept := self._kept("update")) is None:
            site.ask_for(SECOND)
            kept = site.up()
            self._keep("update", kept)
            site.ask_for(FIRST)
            site.up()
        return kept

    def _run(self, site: Site) -> Undisturbed:
        """Bring the first release up on a fresh host, and keep the state with the host in it, as a power cut does."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        site.ask_for(FIRST)
        site.make_host()
        kept = site.up()
        client.end(site.rig.state / "lab")
        _copy(site.rig.state, self.folder / "state")
        self._keep("first", kept)
        site.make_host()
        site.inside.wait()
        return kept

    def _kept(self, name: str) -> Undisturbed | None:
        file = self.folder / f"{name}.json"
        if not file.exists() or time.time() - file.stat().st_mtime > _FRESH:
            return None
        return Undisturbed(*json.loads(file.read_text(encoding="utf-8")))

    def _keep(self, name: str, undisturbed: Undisturbed) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(undisturbed), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder's content, with all that a host's disk has: owners, modes, links, attributes."""
    target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    command = ["cp", "--archive", "--no-target-directory", str(source), str(target)]
    subprocess.run(command, check=True)
