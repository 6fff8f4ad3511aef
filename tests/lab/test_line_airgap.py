"""A host without a route that is its own control machine: wheels, lock and store were copied in, and nothing else."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.line.planning import read_snapshot
from orchestrator.lock import pip_as
from orchestrator.lock.wanted import target_of
from orchestrator.lock.wheels import markers, selectors
from tests.contract.keys import KEYS, missing
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
HOST = "host-1"
UP = ("up", "--profile", "cpu", "--locked", "--yes")
#: Where the copies lie on the host, and the state of the command there.
FOLDER, STATE = "/root/rig", "/root/state"

#: Asks the gateway as any program on the host would; there is no curl.
ASK = """
import json, sys, urllib.request
token, body = open(sys.argv[1]).read().strip(), json.dumps({"model": "smollm2-135m", "max_tokens": 8,
    "messages": [{"role": "user", "content": "Say hello."}]}).encode()
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[2] + "/chat/completions", body, headers)
print(json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]["content"])
"""


@dataclass(frozen=True)
class Inside:
    """The command ``deploy`` as it was installed on the host."""

    rig: Rig

    def run(self, *arguments: str, folder: str = FOLDER) -> subprocess.CompletedProcess[str]:
        """Run a verb on the host."""
        command = shlex.join([f"{FOLDER}/venv/bin/deploy", *arguments])
        return self.rig.on(HOST, f"mkdir -p {folder} && cd {folder} && AGENTRIG_STATE={STATE} {command}")

    def document(self, *arguments: str, code: int = 0, folder: str = FOLDER) -> dict[str, Any]:
        """Run a verb with ``--json`` on the host; its exit code must be the one expected."""
        done = self.run(*arguments, "--json", folder=folder)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert code or missing(document, KEYS[arguments[0]]) == []
        return document

    def blob(self, name: str) -> str:
        """The file of the host's store that holds what the lock has under a name."""
        lock = json.loads((self.rig.folder / "deploy.lock").read_text())
        digest = next(one["digest"] for one in lock["artefacts"] if one["name"] == name and not one["parts"])
        digest = digest.removeprefix("sha256:")
        return f"{STATE}/store/sha256/{digest[:2]}/{digest}"


@pytest.fixture(scope="module")
def control(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The machine with a route: it has the host's snapshot, locks for it, and fetches."""
    rig = Rig(tmp_path_factory.mktemp("control"), tmp_path_factory.mktemp("state"), (str(installed),))
    rig.document("lab", "up", "1")
    snapshot = rig.document("detect", "--lab", "--limit", HOST)
    (rig.folder / "snapshot.json").write_text(json.dumps(snapshot))
    lock = rig.document("lock", "--profile", "cpu", "--snapshot", "snapshot.json")["lock"]
    assert list(lock["hosts"]) == ["localhost"]
    yield rig
    assert rig.run("lab", "down").returncode == 0


def fetch_wheels(rig: Rig, wheel: Path) -> None:
    """Fetch the wheel's locked wheels for the host's interpreter, by their hashes."""
    snapshot = read_snapshot(rig.folder / "snapshot.json")
    assert snapshot.python is not None
    target = target_of(snapshot, snapshot.python.version)
    requirements = rig.folder / "requirements.txt"
    export = ["export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "-o", str(requirements)]
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, *export], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    pip = [sys.executable, pip_as.__file__, json.dumps(markers(target)), "download", "--quiet", "--no-deps"]
    wanted = ["--require-hashes", "-r", str(requirements), "-d", str(rig.folder / "wheels"), *selectors(target)]
    subprocess.run([*pip, *wanted], check=True)
    (rig.folder / "wheels" / wheel.name).write_bytes(wheel.read_bytes())


@pytest.fixture(scope="module")
def inside(control: Rig, wheel: Path) -> Inside:
    """The host, with all that was carried there in one archive, and the command installed from it."""
    fetch_wheels(control, wheel)
    packed = ["tar", "-c", "-C", str(control.folder), "wheels", "deploy.lock", "-C", str(control.state), "store"]
    with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
        unpack = f"mkdir -p {FOLDER} {STATE} && tar -xC {FOLDER} && mv {FOLDER}/store {STATE}/"
        assert control.run("lab", "ssh", HOST, unpack, stdin=tar.stdout).returncode == 0
    assert tar.returncode == 0
    pip = "venv/bin/python $(echo wheels/pip-*.whl)/pip install --quiet --no-index --find-links wheels agentrig"
    control.read(HOST, f"cd {FOLDER} && python3 -m venv --without-pip venv && {pip}")
    return Inside(control)


@pytest.fixture(scope="module")
def first(inside: Inside) -> dict[str, Any]:
    """The first ``up``, which everything below looks at."""
    (host,) = inside.document(*UP)["hosts"]
    return host


def test_the_host_has_no_route_and_no_tools_to_speak_of(control: Rig) -> None:
    assert control.read(HOST, "ip route show default; ip -6 route show default").strip() == ""
    reach = "import socket; socket.create_connection(('192.0.2.1', 443), 5)"
    done = control.on(HOST, f'python3 -c "{reach}"')
    assert done.returncode == 1
    assert "Network is unreachable" in done.stderr
    assert control.read(HOST, "command -v gpg ansible pip curl || :").strip() == ""


def test_it_ends_accepted(control: Rig, first: dict[str, Any]) -> None:
    assert (first["name"], first["result"], first["error"]) == ("localhost", "changed", None)
    assert first["stand_ins"] == []
    assert set(first["phases"]) >= {"detect", "plan", "lock", "apply", "verify"}
    evidence = json.loads(control.read(HOST, f"cat {first['evidence']}"))
    assert {check["result"] for check in evidence["checks"]} == {"passed"}
    assert {"host", "endpoint", "tools"} <= {check["area"] for check in evidence["checks"]}


def test_it_answers_a_program_of_the_host(control: Rig, first: dict[str, Any]) -> None:
    endpoint = first["endpoint"]
    command = shlex.join(["python3", "-c", ASK, endpoint["token_file"], endpoint["openai"]])
    assert control.read(HOST, command).strip()


def test_again_changes_nothing(inside: Inside, first: dict[str, Any]) -> None:
    (again,) = inside.document(*UP)["hosts"]
    assert (again["result"], again["changed"], "apply" in again["phases"]) == ("unchanged", 0, False)
    assert again["deployment_id"] == first["deployment_id"]
    (full,) = inside.document(*UP, "--full")["hosts"]
    assert (full["changed"], full["error"], "apply" in full["phases"]) == (0, None, True)
    (status,) = inside.document("status", "--check")["hosts"]
    assert (status["serving"], status["drift"]) == (True, [])


def test_a_folder_without_the_lock_is_told_so(inside: Inside, first: dict[str, Any]) -> None:
    del first
    error = inside.document(*UP, code=2, folder="/root/elsewhere")["error"]
    assert error["what"].startswith("there is no /root/elsewhere/deploy.lock")


def test_away_and_a_store_that_lacks_something(inside: Inside, control: Rig, first: dict[str, Any]) -> None:
    """What is missing or damaged in the copied store is named, and nothing of it lands on the host."""
    del first
    inside.document("down", "--purge", "--yes")
    there = "ls /opt; getent passwd agentrig-runtime agentrig-gateway; command -v nginx || :"
    assert control.read(HOST, there).strip() == ""

    nginx = inside.blob("nginx")
    control.read(HOST, f"mv {nginx} /root/kept")
    error = inside.document(*UP, code=1)["error"]
    assert error["kind"] == "lock"
    assert "nginx" in error["what"], error
    control.read(HOST, f"mv /root/kept {nginx}")
    assert control.read(HOST, there).strip() == ""

    weights = inside.blob("smollm2-135m")
    control.read(HOST, f"cp {weights} /root/kept && printf x | dd of={weights} conv=notrunc seek=9 bs=1 status=none")
    error = inside.document(*UP, code=1)["error"]
    assert f"{weights} was damaged" in error["what"]
    landed = "command -v nginx || find /opt/agentrig/store /opt/agentrig/releases -mindepth 1"
    assert control.read(HOST, landed).strip() == ""
