"""Signatures on a real host: whose lock it takes, a lock edited by hand, an attestation, and no secret in any of it."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.statement import opened
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST, NAME = "lab-signed", "signed"
UP = ("up", "--lab", "--profile", NAME)
LIMIT = ("--lab", "--limit", HOST)
SIGNERS = "/etc/agentrig/allowed_signers"
#: Stands in for a token of the hub's, and for secrets of the host: none may be seen anywhere.
PLANTED = {"HF_TOKEN": "hf_plantedPLANTEDplantedPLANTEDplanted"}
SECRETS = {"gateway_token": "planted-gateway-token-0123456789", "runtime_key": "planted-runtime-key-0123456789"}


def name_signers(rig: Rig, *keys: Path) -> None:
    """Write on the host whose locks it takes, as its owner would."""
    lines = "\n".join(f"known {key.read_text(encoding='utf-8').strip()}" for key in keys)
    rig.read(HOST, f"install -d /etc/agentrig && printf '%s\\n' '{lines}' > {SIGNERS} && chmod 644 {SIGNERS}")


def outcome(rig: Rig, *arguments: str, code: int) -> dict[str, Any]:
    done = rig.run(*UP, *arguments, "--json")
    assert done.returncode == code, done.stderr[-3000:]
    (host,) = json.loads(done.stdout)["hosts"]
    return dict(host)


@pytest.fixture(scope="module")
def signed(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Path, dict[str, Any]]]:
    """A fresh host whose owner named a stranger's key, and what ``up`` said there; then the owner's, and a rig."""
    rig.small(NAME)
    rig = replace(rig, environment=rig.environment | PLANTED)
    kept = rig.state / "lab/rigs" / HOST
    kept.mkdir(parents=True)
    (kept / "secrets.json").write_text(json.dumps(SECRETS), encoding="utf-8")
    stranger = tmp_path_factory.mktemp("stranger") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    assert rig.run(*UP, "--check").returncode == 0
    name_signers(rig, stranger.with_suffix(".pub"))
    refused = outcome(rig, code=2)
    refused["there"] = rig.read(HOST, "ls /opt; getent passwd agentrig-runtime || :; dpkg -l nginx 2>/dev/null || :")
    name_signers(rig, stranger.with_suffix(".pub"), rig.state / "keys/owner.pub")
    host = outcome(rig, code=0)
    assert host["error"] is None
    yield rig, stranger, {**host, "refused": refused}
    rig.read(HOST, f"rm -f {SIGNERS}")


def test_a_host_takes_nothing_whose_signer_its_owner_did_not_name(signed: tuple[Rig, Path, dict[str, Any]]) -> None:
    rig, _, host = signed
    refused = host["refused"]
    assert (refused["result"], refused["changed"], refused["error"]["kind"]) == ("failed", 0, "signature")
    key = (rig.state / "keys/owner.pub").read_text(encoding="utf-8")
    shown = subprocess.run(["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] in refused["error"]["what"]
    assert SIGNERS in refused["error"]["what"]
    assert refused["there"].strip() == ""
    evidence = json.loads((rig.state / "lab/rigs" / HOST / "evidence.json").read_text(encoding="utf-8"))
    (check,) = [one for one in evidence["checks"] if "takes the lock" in one["name"]]
    assert (check["result"], "signed by known" in check["detail"]) == ("passed", True)
    (there,) = rig.document("status", *LIMIT)["hosts"]
    assert there["trusts"] == "allowed_signers"
    assert SIGNERS in rig.run("status", *LIMIT).stdout


def test_a_host_that_serves_stays_as_it_was(signed: tuple[Rig, Path, dict[str, Any]]) -> None:
    """A key taken off the host's list, a host without ssh-keygen: refused, and what serves goes on serving."""
    rig, stranger, host = signed
    main = "systemctl show -p MainPID --value agentrig-runtime.service"
    before = rig.read(HOST, main)
    name_signers(rig, stranger.with_suffix(".pub"))
    assert outcome(rig, "--full", "--check", code=2)["error"]["kind"] == "signature"
    name_signers(rig, stranger.with_suffix(".pub"), rig.state / "keys/owner.pub")
    rig.read(HOST, "mv /usr/bin/ssh-keygen /usr/bin/ssh-keygen.away")
    assert "no ssh-keygen" in outcome(rig, "--full", code=1)["error"]["what"]
    rig.read(HOST, "mv /usr/bin/ssh-keygen.away /usr/bin/ssh-keygen")
    (there,) = rig.document("status", *LIMIT)["hosts"]
    assert (there["drift"], there["serving"], there["deployment_id"]) == ([], True, host["deployment_id"])
    assert rig.read(HOST, main) == before
    full = outcome(rig, "--full", code=0)
    assert (full["changed"], full["result"]) == (0, "unchanged")


def test_a_lock_edited_by_hand_is_refused_by_every_verb(signed: tuple[Rig, Path, dict[str, Any]]) -> None:
    rig, _, _ = signed
    lock = rig.state / "lab/deploy.lock"
    signature = lock.with_name("deploy.lock.sig")
    before, kept = lock.read_bytes(), signature.read_bytes()
    try:
        lock.write_bytes(before.replace(b'"profile": "signed"', b'"profile": "edited"'))
        for words in (("status", *LIMIT), UP, ("verify", *LIMIT), ("agents", "list", *LIMIT)):
            done = rig.run(*words, "--json")
            assert done.returncode == 2, words
            error = json.loads(done.stdout)["error"]
            assert (error["kind"], error["where"]) == ("signature", str(lock)), words
            assert "edited by hand" in error["what"]
        lock.write_bytes(before)
        signature.unlink()
        done = rig.run("status", *LIMIT)
        assert (done.returncode, "is not signed" in done.stderr) == (2, True)
        again = done.stderr.strip().splitlines()[-1].split("deploy ", 1)[1].split()
        assert rig.run(*again).returncode == 2
        assert rig.run(*again, "--yes").returncode == 0
        assert signature.read_bytes() == kept
    finally:
        lock.write_bytes(before)
        signature.write_bytes(kept)


def test_an_attestation_holds_until_something_is_changed(signed: tuple[Rig, Path, dict[str, Any]]) -> None:
    rig, _, host = signed
    ask = ("verify", *LIMIT, "--attestation", host["attestation"])
    assert {check["result"] for check in rig.document(*ask)["checks"]} == {"passed"}
    document = json.loads((rig.state / "lab/rigs" / HOST / "attestation.json").read_text(encoding="utf-8"))
    edited = rig.folder / "edited.json"
    payload = (
        base64.b64decode(document["payload"]).replace(b'"skipped"', b'"passed"').replace(b'"cpus": ', b'"cpus": 9')
    )
    edited.write_text(json.dumps(document | {"payload": base64.b64encode(payload).decode()}), encoding="utf-8")
    said = rig.document("verify", *LIMIT, "--attestation", "edited.json", code=5)
    assert "edited since" in said["error"]["what"]
    assert rig.run("verify", *LIMIT, "--attestation", "nowhere.json").returncode == 2
    rig.read(HOST, "chmod 600 /opt/agentrig/current/gateway/nginx.conf")
    try:
        failed = rig.document(*ask, code=5)
        (drift,) = [check for check in failed["checks"] if check["result"] == "failed"]
        assert "nginx.conf" in drift["detail"]
        assert failed["error"]["kind"] == "not_accepted"
    finally:
        rig.read(HOST, "chmod 644 /opt/agentrig/current/gateway/nginx.conf")


def test_no_secret_is_in_lock_signature_manifest_attestation_or_log(signed: tuple[Rig, Path, dict[str, Any]]) -> None:
    rig, _, host = signed
    own = rig.state / "lab/rigs" / HOST
    assert json.loads((own / "secrets.json").read_text(encoding="utf-8")) == SECRETS
    files = [path for path in own.rglob("*") if path.is_file() and path.name not in {"token", "header", "secrets.json"}]
    files += [rig.state / "lab/deploy.lock", rig.state / "lab/deploy.lock.sig", *rig.state.glob("keys/*.pub")]
    names = {path.name for path in files}
    assert {"deploy.lock", "deploy.lock.sig", "manifest.json", "attestation.json", "evidence.json"} <= names
    assert any(path.suffix == ".log" for path in files)
    texts = {str(path): path.read_bytes() for path in files}
    texts["the statement"] = opened((own / "attestation.json").read_text(encoding="utf-8"))[0]
    assert host["deployment_id"].encode() in texts["the statement"]
    secrets = [*SECRETS.values(), *PLANTED.values()]
    assert not [(name, secret) for name, text in texts.items() for secret in secrets if secret.encode() in text]
    arguments = rig.read(HOST, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert not [secret for secret in secrets if secret in arguments]
