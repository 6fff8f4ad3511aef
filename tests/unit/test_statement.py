"""An accepted deployment as a statement: its form, its envelope, and what is refused when it is held against a host."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.errors import SigningError, UsageError
from orchestrator.inventory import Host
from orchestrator.line import attest
from orchestrator.line.attest import hold
from orchestrator.line.ports import Ports, Way
from orchestrator.line.up import up
from orchestrator.line.values import HostOutcome, Wish
from orchestrator.progress import silent
from orchestrator.signing import Kind, Signers
from orchestrator.state import State
from orchestrator.statement import PAYLOAD_TYPE, envelope, opened, pae, read_statement
from tests.strangers import somebody_else
from tests.unit.test_line_up import SNAPSHOT, Rooms, other_port

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = Host(name="one", lab=True)


@pytest.fixture(autouse=True)
def nobody_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENTRIG_SIGNERS", "AGENTRIG_SIGNING_KEY", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    return Rooms(State(tmp_path / "state"), {"one": SNAPSHOT, "two": SNAPSHOT.model_copy(update={"name": "two"})})


def only(rooms: Rooms, *, full: bool = False) -> HostOutcome:
    (host,) = rooms.up("one", full=full).hosts
    assert host.error is None
    return host


def held(rooms: Rooms, text: str, host: Host = ONE) -> dict[str, tuple[str, str]]:
    """Give result and detail of each check by its name."""
    found = hold(Path("attestation.json"), text, [host], lambda _: rooms.lock, rooms.ports)
    failed = [check.detail or check.name for check in found.checks if check.result == "failed"]
    assert (found.refusal.exit_code if found.refusal else 0) == (5 if failed else 0)
    if found.refusal:
        assert failed[0] in found.refusal.what
    return {check.name: (check.result, check.detail) for check in found.checks}


def signed_anew(text: str, edit: Callable[[dict[str, Any]], None], state: State) -> str:
    """Give an envelope whose statement was edited and signed with the key of a state."""
    document = json.loads(opened(text)[0])
    edit(document)
    payload = json.dumps(document).encode()
    return envelope(payload, state.sign(pae(payload), Kind.ATTESTATION), "")


def test_the_bytes_that_are_signed_are_those_of_the_specification() -> None:
    said = pae(b"hello world", "http://example.com/HelloWorld")
    assert said == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("é".encode(), "é") == b"DSSEv1 2 \xc3\xa9 2 \xc3\xa9"


def test_what_was_accepted_is_said_and_signed(rooms: Rooms, tmp_path: Path) -> None:
    host = only(rooms)
    assert host.attestation is not None
    assert host.document()["attestation"] == str(host.attestation)
    document = json.loads(host.attestation.read_text(encoding="utf-8"))
    assert document["payloadType"] == PAYLOAD_TYPE
    payload = base64.b64decode(document["payload"])
    said = json.loads(payload)
    manifest, evidence = rooms.state.host("one", lab=True).manifest(), host.evidence
    assert manifest is not None
    assert evidence is not None
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["subject"] == [{"name": "one", "digest": {"sha256": manifest.fingerprint()}}]
    told = said["predicate"]
    assert rooms.lock is not None
    assert (told["lock_digest"], told["release"]) == (rooms.lock.lock_digest, manifest.release)
    assert told["snapshot_digest"] == f"sha256:{SNAPSHOT.fingerprint()}"
    assert (told["machine"]["cpus"], told["machine"]["ram_mib"]) == (SNAPSHOT.cpus, SNAPSHOT.ram_mib)
    assert told["checks"] == [check.document() for check in evidence.checks]
    assert told["stand_ins"] == [one.document() for one in host.stand_ins]
    signature = base64.b64decode(document["signatures"][0]["sig"])
    (tmp_path / "sig").write_bytes(signature)
    (tmp_path / "known").write_text("me " + (rooms.state.keys / "owner.pub").read_text(encoding="utf-8"))
    command = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "known", "-I", "me", "-n", "agentrig-attestation"]
    done = subprocess.run([*command, "-s", tmp_path / "sig"], input=pae(payload), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_made_once_and_anew_with_each_acceptance(rooms: Rooms) -> None:
    first = only(rooms).attestation
    assert first is not None
    before = first.read_bytes()
    assert only(rooms).attestation == first
    assert first.read_bytes() == before
    first.unlink()
    assert only(rooms).attestation == first
    rooms.drifted.add("one")
    rooms.checks = (*rooms.checks, *rooms.checks)
    assert only(rooms).attestation == first
    assert first.read_bytes() != before


def test_check_mode_and_what_is_not_accepted_state_nothing(rooms: Rooms) -> None:
    (host,) = rooms.up("one", check=True).hosts
    assert host.attestation is None
    rooms.checks = (rooms.checks[0].model_copy(update={"result": "failed"}),)
    (host,) = rooms.up("one").hosts
    assert host.error is not None
    assert host.attestation is None
    assert not rooms.state.host("one", lab=True).attestation_file.exists()


def test_a_key_that_does_not_sign_leaves_the_rig_and_a_note(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise SigningError("the key did not sign", where="key", do="ssh-add key")

    with monkeypatch.context() as patch:
        patch.setattr(Rooms, "ports", property(lambda self: replace(_ports(self), sign=refuse)))
        (host,) = rooms.up("one").hosts
    assert (host.result, host.error, host.attestation) == ("changed", None, None)
    assert host.notes[-1] == "no attestation was made: key: the key did not sign; ssh-add key"
    assert only(rooms).attestation is not None


_own_ports = Rooms.ports


def _ports(rooms: Rooms) -> Ports:
    return _own_ports.__get__(rooms)


def test_it_holds_as_long_as_the_host_is_what_was_accepted(rooms: Rooms) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    text = attestation.read_text(encoding="utf-8")
    found = held(rooms, text)
    assert {result for result, _ in found.values()} == {"passed"}
    assert found[attest.SIGNED][1] == "by owner"
    rooms.up("two")
    assert "the lock has changed since" in held(rooms, text)[attest.OF_LOCK][1]
    rooms.drifted.add("one")
    found = held(rooms, text)
    assert [name for name, (result, _) in found.items() if result == "failed"] == ["the host agrees with its manifest"]


def test_a_statement_of_a_former_release_is_told_as_such(rooms: Rooms) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    text = attestation.read_text(encoding="utf-8")
    hosts = {"one": (ONE, other_port())}
    (host,) = up(hosts, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, silent)).hosts
    assert host.error is None
    result, why = held(rooms, text)[attest.OF_RELEASE]
    assert (result, f"{host.deployment_id} runs there" in why) == ("failed", True)
    assert "former release" in why
    assert {result for result, _ in held(rooms, attestation.read_text(encoding="utf-8")).values()} == {"passed"}
    kept = sorted(path.name for path in (attestation.parent / "attestations").iterdir())
    assert len(kept) == 2


def test_a_statement_of_another_host_is_told_as_such(rooms: Rooms) -> None:
    rooms.up("two")
    attestation = only(rooms).attestation
    assert attestation is not None
    text = attestation.read_text(encoding="utf-8")
    found = held(rooms, text, Host(name="two", lab=True))
    assert found[attest.OF_HOST] == ("failed", "it is of another host: one, not two")
    assert found[attest.OF_RELEASE][0] == "skipped"
    both = [Host(name="two", lab=True), ONE]
    assert hold(Path("a.json"), text, both, lambda _: rooms.lock, rooms.ports).host == "one"


def test_an_edited_statement_is_not_believed_whatever_it_says(rooms: Rooms) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    text = attestation.read_text(encoding="utf-8")
    payload, signature = opened(text)
    edited = payload.replace(b'"cpus": ', b'"cpus": 1')
    assert edited != payload
    found = held(rooms, envelope(edited, signature, ""))
    assert found[attest.SIGNED][0] == "failed"
    assert "edited since" in found[attest.SIGNED][1]
    assert {result for name, (result, _) in found.items() if name != attest.SIGNED} == {"skipped"}
    unsigned = held(rooms, envelope(payload, "", ""))
    assert unsigned[attest.SIGNED] == ("failed", "the signature of the attestation is missing")
    other_kind = rooms.state.sign(pae(payload), Kind.LOCK)
    assert "another kind" in held(rooms, envelope(payload, other_kind, ""))[attest.SIGNED][1]


def test_anothers_statement_counts_once_his_key_is_known(rooms: Rooms, tmp_path: Path) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    other = State(tmp_path / "other")
    with somebody_else(tmp_path / "away"):
        text = signed_anew(attestation.read_text(encoding="utf-8"), lambda _: None, other)
    found = held(rooms, text)
    assert found[attest.SIGNED][0] == "failed"
    assert "nobody gave beforehand" in found[attest.SIGNED][1]
    line = f"friend {(other.keys / 'owner.pub').read_text(encoding='utf-8')}"
    known = replace(rooms.ports, signers=lambda: Signers(line, Path("known")))
    assert hold(Path("a.json"), text, [ONE], lambda _: rooms.lock, known).refusal is None


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda said: said["subject"][0]["digest"].update(sha256="0" * 64), attest.OF_MANIFEST),
        (lambda said: said["predicate"].update(decision_digest="sha256:0"), attest.OF_LOCK),
        (lambda said: said["predicate"].update(release="0000"), attest.OF_RELEASE),
        (lambda said: said["subject"][0].update(name="three"), attest.OF_HOST),
    ],
)
def test_what_the_owner_signed_wrongly_does_not_hold_either(rooms: Rooms, edit: Any, name: str) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    text = signed_anew(attestation.read_text(encoding="utf-8"), edit, rooms.state)
    assert next(check for check, (result, _) in held(rooms, text).items() if result == "failed") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"payload": "e30=", "payloadType": "text/plain", "signatures": []}',
        f'{{"payload": "%", "payloadType": "{PAYLOAD_TYPE}", "signatures": []}}',
        f'{{"payload": "e30=", "payloadType": "{PAYLOAD_TYPE}", "signatures": [{{"sig": "/w=="}}]}}',
        f'{{"payload": "e30=", "payloadType": "{PAYLOAD_TYPE}", "signatures": []}}',
    ],
)
def test_what_is_no_attestation_is_the_callers_to_change(rooms: Rooms, text: str) -> None:
    only(rooms)
    with pytest.raises(UsageError, match="this is no attestation"):
        held(rooms, text)


def test_keys_that_a_reader_does_not_know_are_ignored(rooms: Rooms) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    later = signed_anew(
        attestation.read_text(encoding="utf-8"), lambda said: said["predicate"].update(later="x"), rooms.state
    )
    assert read_statement(opened(later)[0]).host == "one"
    assert {result for result, _ in held(rooms, later).values()} == {"passed"}


def test_a_host_that_nothing_is_known_of_is_told(rooms: Rooms, tmp_path: Path) -> None:
    attestation = only(rooms).attestation
    assert attestation is not None
    elsewhere = Rooms(State(tmp_path / "elsewhere"), rooms.snapshots)
    with pytest.raises(UsageError, match="nothing of ours is known"):
        held(elsewhere, attestation.read_text(encoding="utf-8"))
