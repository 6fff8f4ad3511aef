"""A host built online, and one without a route built from a bundle, its own control machine: they are the same."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.lab import Lab
from orchestrator.manifest import Manifest
from orchestrator.signing import public_of
from tests.contract.keys import KEYS, missing
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The lab's host that is built over SSH, and the one that builds itself; the inventory calls both ``rig``.
ONLINE, HOST = "host-1", "host-2"
INVENTORY = ("-i", "rig/hosts.ini")
#: Where the bundle and the inventory's folder lie on the host, and the state of the command there.
FOLDER, STATE = "/root/carried", "/root/state"
UP = ("up", *INVENTORY, "--bundle", "bundle", "--yes")
LOCKED = ("up", *INVENTORY, "--locked", "--yes")

#: The archive's key and signature are each control machine's; units are told by a digest over a host's secrets.
OWN = {"/opt/agentrig/apt/InRelease", "/opt/agentrig/apt/agentrig.gpg"} | {
    f"/opt/agentrig/started/agentrig-{unit}.service" for unit in ("gateway", "runtime")
}

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

    def run(self, *arguments: str, folder: str = FOLDER, before: str = "") -> subprocess.CompletedProcess[str]:
        """Run a verb on the host."""
        command = shlex.join([f"{FOLDER}/venv/bin/deploy", *arguments])
        return self.rig.on(HOST, f"mkdir -p {folder} && cd {folder} && AGENTRIG_STATE={STATE} {before} {command}")

    def document(self, *arguments: str, code: int = 0, folder: str = FOLDER, before: str = "") -> dict[str, Any]:
        """Run a verb with ``--json`` on the host; its exit code must be the one expected."""
        done = self.run(*arguments, "--json", folder=folder, before=before)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert code or missing(document, KEYS[arguments[0]]) == []
        return document

    def manifest(self) -> Manifest:
        """The manifest that the command there keeps of the host."""
        return Manifest.from_json(self.rig.read(HOST, f"cat {STATE}/hosts/rig/manifest.json"))


@pytest.fixture(scope="module")
def control(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The machine with a route, and an inventory that names one rig."""
    rig = Rig(tmp_path_factory.mktemp("control"), tmp_path_factory.mktemp("state"), (str(installed),))
    rig.document("lab", "up", "2")
    (rig.folder / "rig").mkdir()
    small = Rig(rig.folder / "rig", rig.state).small()
    (online, _) = Lab(rig.state / "lab").hosts()
    known = f"-o UserKnownHostsFile={rig.state / 'lab/known_hosts'}"
    (rig.folder / "rig/hosts.ini").write_text(
        f"rig ansible_host={online.address} ansible_port={online.ssh_port}\n"
        f"[all:vars]\nagentrig_profile={small}\nansible_ssh_private_key_file={rig.state / 'lab/key'}\n"
        f"ansible_ssh_common_args='{known}'\n"
    )
    yield rig
    assert rig.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def online(control: Rig) -> Manifest:
    """The first host, locked and built by the machine with a route."""
    (host,) = control.document("up", *INVENTORY, "--yes")["hosts"]
    assert (host["name"], host["result"], host["error"]) == ("rig", "changed", None)
    return Manifest.from_json((control.state / "hosts/rig/manifest.json").read_bytes())


@pytest.fixture(scope="module")
def bundle(control: Rig, online: Manifest) -> dict[str, Any]:
    """The bundle of its lock."""
    del online
    return control.document("bundle", "create", "bundle", *INVENTORY)["bundle"]


@pytest.fixture(scope="module")
def inside(control: Rig, bundle: dict[str, Any]) -> Inside:
    """The other host: the bundle and the inventory carried there, the command installed from the bundle's wheels.

    The owner's public key was given beforehand, and came another way.
    """
    assert bundle["command"]
    inventory = "rig ansible_connection=local\n[all:vars]\nagentrig_profile=small\n"
    signers = f'owner namespaces="agentrig-*" {public_of(control.state / "keys/owner")}\n'
    config = "/root/.config/agentrig"
    with subprocess.Popen(["tar", "-c", "-C", control.folder, "bundle", "rig/profiles"], stdout=subprocess.PIPE) as tar:
        unpack = f"mkdir -p {FOLDER} && tar -xC {FOLDER}"
        assert control.run("lab", "ssh", HOST, unpack, stdin=tar.stdout).returncode == 0
    assert tar.returncode == 0
    control.read(HOST, f"mkdir -p {config} && printf %s {shlex.quote(signers)} > {config}/allowed_signers")
    control.read(HOST, f"printf %s {shlex.quote(inventory)} > {FOLDER}/rig/hosts.ini")
    wheels = "--no-index --find-links bundle/agentrig --require-hashes -r bundle/agentrig/requirements.txt"
    pip = f"venv/bin/python $(echo bundle/agentrig/pip-*.whl)/pip install --quiet {wheels}"
    control.read(HOST, f"cd {FOLDER} && python3 -m venv --without-pip venv && {pip}")
    return Inside(control)


@pytest.fixture(scope="module")
def first(inside: Inside) -> dict[str, Any]:
    """The first ``up`` that is let through, which everything below looks at."""
    (host,) = inside.document(*UP)["hosts"]
    return host


def test_the_host_has_no_route_and_no_tools_to_speak_of(control: Rig) -> None:
    assert control.read(HOST, "ip route show default; ip -6 route show default").strip() == ""
    reach = "import socket; socket.create_connection(('192.0.2.1', 443), 5)"
    done = control.on(HOST, f'python3 -c "{reach}"')
    assert done.returncode == 1
    assert "Network is unreachable" in done.stderr
    assert control.read(HOST, "command -v gpg ansible pip curl || :").strip() == ""


def test_the_bundle_made_again_is_the_same(control: Rig, bundle: dict[str, Any]) -> None:
    again = control.document("bundle", "create", "bundle", *INVENTORY)["bundle"]
    assert (again["digest"], again["copied"], again["removed"]) == (bundle["digest"], 0, 0)


def test_no_secret_travels_in_it(control: Rig, bundle: dict[str, Any]) -> None:
    secrets = json.loads((control.state / "hosts/rig/secrets.json").read_text()).values()
    private = (control.state / "keys/owner").read_text().splitlines()[1]
    for secret in (*secrets, private):
        assert subprocess.run(["grep", "-rqF", secret, bundle["path"]], cwd=control.folder, check=False).returncode == 1


def test_a_bundle_that_was_tampered_with_is_refused_and_nothing_lands(inside: Inside, control: Rig) -> None:
    """Before anything is on the host: one byte of a package turned, and a signer that nobody gave beforehand."""
    lock = json.loads((control.folder / "rig/deploy.lock").read_text())
    digest = next(one["digest"] for one in lock["artefacts"] if one["name"] == "nginx").removeprefix("sha256:")
    nginx = f"{FOLDER}/bundle/store/sha256/{digest[:2]}/{digest}"
    control.read(HOST, f"cp {nginx} /root/kept && printf x | dd of={nginx} conv=notrunc seek=900 bs=1 status=none")
    for arguments in (("bundle", "check", "bundle"), UP):
        error = inside.document(*arguments, code=1)["error"]
        assert "nginx" in error["what"], error
        assert "has other bytes" in error["what"], error
    control.read(HOST, f"mv /root/kept {nginx}")
    error = inside.document(*UP, code=2, before="XDG_CONFIG_HOME=/nowhere")["error"]
    assert "signed by a key that nobody gave beforehand" in error["what"], error
    landed = "ls /opt; getent passwd agentrig-runtime agentrig-gateway; command -v nginx || :"
    assert control.read(HOST, landed).strip() == ""
    assert inside.document("bundle", "check", "bundle")["bundle"]["signed_by"] == "owner"


def test_it_ends_accepted(control: Rig, first: dict[str, Any]) -> None:
    assert (first["name"], first["result"], first["error"]) == ("rig", "changed", None)
    assert first["stand_ins"] == []
    assert set(first["phases"]) >= {"detect", "plan", "lock", "apply", "verify"}
    evidence = json.loads(control.read(HOST, f"cat {first['evidence']}"))
    assert {check["result"] for check in evidence["checks"]} == {"passed"}
    assert {"host", "endpoint", "tools"} <= {check["area"] for check in evidence["checks"]}


def test_it_answers_a_program_of_the_host(control: Rig, first: dict[str, Any]) -> None:
    endpoint = first["endpoint"]
    command = shlex.join(["python3", "-c", ASK, endpoint["token_file"], endpoint["openai"]])
    assert control.read(HOST, command).strip()


def test_both_hosts_have_the_same_manifest(online: Manifest, inside: Inside, first: dict[str, Any]) -> None:
    """To the byte, but for what is made with a control machine's own key, or with a host's own secrets."""
    assert first["deployment_id"] == online.release
    here, there = online, inside.manifest()
    assert without(here, OWN) == without(there, OWN)
    assert {file.path for file in set(here.files) ^ set(there.files)} == OWN


def without(manifest: Manifest, paths: set[str]) -> dict[str, Any]:
    """Give a manifest without the digests of some files."""
    files = tuple(one.model_copy(update={"sha256": ""}) if one.path in paths else one for one in manifest.files)
    return manifest.model_copy(update={"files": files}).document()


def test_again_changes_nothing(inside: Inside, first: dict[str, Any]) -> None:
    (again,) = inside.document(*UP)["hosts"]
    assert (again["result"], again["changed"], "apply" in again["phases"]) == ("unchanged", 0, False)
    assert again["deployment_id"] == first["deployment_id"]
    (full,) = inside.document(*LOCKED, "--full")["hosts"]
    assert (full["changed"], full["error"], "apply" in full["phases"]) == (0, None, True)
    (status,) = inside.document("status", *INVENTORY, "--check")["hosts"]
    assert (status["serving"], status["drift"]) == (True, [])


def test_a_folder_without_the_lock_is_told_so(inside: Inside, control: Rig, first: dict[str, Any]) -> None:
    del first
    control.read(
        HOST, "mkdir -p /root/other/rig && cp -r /root/carried/rig/hosts.ini /root/carried/rig/profiles /root/other/rig"
    )
    error = inside.document(*LOCKED, code=2, folder="/root/other")["error"]
    assert error["what"].startswith("there is no rig/deploy.lock")


def test_away_and_a_store_that_lacks_something(inside: Inside, control: Rig, first: dict[str, Any]) -> None:
    """What the store lacks comes from the bundle; without one, what it lacks or has damaged is named."""
    del first
    inside.document("down", *INVENTORY, "--purge", "--yes")
    there = "ls /opt; getent passwd agentrig-runtime agentrig-gateway; command -v nginx || :"
    assert control.read(HOST, there).strip() == ""

    lock = json.loads((control.folder / "rig/deploy.lock").read_text())
    blobs = {one["name"]: one["digest"].removeprefix("sha256:") for one in lock["artefacts"] if not one["parts"]}
    nginx, weights = (f"{STATE}/store/sha256/{blobs[name][:2]}/{blobs[name]}" for name in ("nginx", "smollm2-135m"))
    control.read(HOST, f"rm {nginx}")
    error = inside.document(*LOCKED, code=1)["error"]
    assert error["kind"] == "lock"
    assert "nginx" in error["what"], error
    assert control.read(HOST, there).strip() == ""

    control.read(HOST, f"printf x | dd of={weights} conv=notrunc seek=9 bs=1 status=none")
    error = inside.document(*UP, code=1)["error"]
    assert f"{weights} was damaged" in error["what"]
    landed = "command -v nginx || find /opt/agentrig/store /opt/agentrig/releases -mindepth 1"
    assert control.read(HOST, landed).strip() == ""
    control.read(HOST, f"test -f {nginx}")
