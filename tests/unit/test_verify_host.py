"""The area host: sockets against the declared ones, and what keeps the specs from running."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.deployment import Deployment
from orchestrator.inventory import LOCAL, Host
from orchestrator.manifest import Before, FileItem, Manifest, Reading
from orchestrator.snapshot import Listener
from orchestrator.verify import Subject, host_specs, listeners, run
from orchestrator.verify.child import ssh_config

if TYPE_CHECKING:
    from collections.abc import Collection

    from orchestrator.evidence import Area
    from orchestrator.progress import Event

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - what is compared, not bound
SSHD = Listener(protocol="tcp", address=EVERY_ADDRESS, port=22, program="sshd")
RUNTIME = Listener(protocol="tcp", address="127.0.0.1", port=18080)
GATEWAY = Listener(protocol="tcp", address="127.0.0.1", port=8080)
FILE = FileItem(path="/nowhere/file", mode="0600", owner="root", group="root", sha256="0" * 64)
MANIFEST = Manifest(
    host="h1",
    release="0011223344556677",
    deployment_id="d",
    lock_digest="l",
    files=(FILE,),
    listeners=(RUNTIME, GATEWAY),
    before=Before(listeners=(SSHD,)),
)
WHOLE = Reading(listeners=(SSHD, GATEWAY, RUNTIME.model_copy(update={"program": "python"})))


def without(*left_out: Listener) -> Reading:
    return Reading(listeners=tuple(item for item in WHOLE.listeners if item.port not in {out.port for out in left_out}))


def with_more(*more: Listener) -> Reading:
    return Reading(listeners=(*WHOLE.listeners, *more))


def test_the_declared_sockets_and_those_of_before_are_all_there_is() -> None:
    check = listeners.list_check(MANIFEST, WHOLE)
    assert (check.result, check.figure, check.unit, check.limit) == ("passed", 3, "sockets", 3)
    assert "tcp 127.0.0.1:18080 (python)" in check.detail


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (
            with_more(Listener(protocol="tcp", address=EVERY_ADDRESS, port=80, program="nginx")),
            "not declared: tcp 0.0.0.0:80",
        ),
        (with_more(Listener(protocol="udp", address="127.0.0.1", port=8080)), "not declared: udp 127.0.0.1:8080"),
        (with_more(Listener(protocol="tcp", address="::1", port=8080)), "not declared: tcp ::1:8080"),
        (without(GATEWAY), "declared and not there: tcp 127.0.0.1:8080"),
        (None, "could not be read"),
    ],
)
def test_one_socket_more_or_less_is_red_and_named(reading: Reading | None, words: str) -> None:
    check = listeners.list_check(MANIFEST, reading)
    assert check.result == "failed"
    assert words in check.detail


def test_a_socket_of_its_owner_s_may_go() -> None:
    assert listeners.list_check(MANIFEST, without(SSHD)).result == "passed"


def test_every_difference_is_named() -> None:
    extra = [Listener(protocol="tcp", address=EVERY_ADDRESS, port=port) for port in (80, 443)]
    check = listeners.list_check(MANIFEST, Reading(listeners=(SSHD, GATEWAY, *extra)))
    assert all(f":{port}" in check.detail for port in (80, 443, 18080))


@pytest.mark.parametrize(
    ("reading", "result"),
    [
        (WHOLE, "passed"),
        (with_more(Listener(protocol="tcp", address=EVERY_ADDRESS, port=18080)), "failed"),
        (with_more(Listener(protocol="tcp", address="*", port=18080)), "failed"),
        (without(RUNTIME), "failed"),
        (None, "failed"),
    ],
)
def test_the_runtime_is_open_to_its_own_host_alone(reading: Reading | None, result: str) -> None:
    assert listeners.runtime_check(reading, 18080).result == result


def test_the_specs_run_over_a_local_connection_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    absent = FILE.model_copy(update={"path": str(tmp_path / "absent file")})
    found = {check.name: check for check in host_specs.checks(LOCAL, MANIFEST.model_copy(update={"files": (absent,)}))}
    files = found["files have their declared mode, owner and group"]
    assert (files.result, files.figure, files.detail) == ("failed", 1, f"{absent.path} is not there")
    assert len(found) > 5
    assert host_specs.NAME not in found


def test_a_host_that_cannot_be_reached_fails_every_spec_and_is_asked_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = host_specs.checks(Host(name="away", port=free.getsockname()[1]), MANIFEST)
    assert len(found) > 5
    assert {check.result for check in found} == {"failed"}
    assert "the host cannot be reached: " in found[0].detail
    assert {check.detail for check in found[1:]} == {"it could not be run"}


def test_a_child_that_breaks_off_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert [check.result for check in host_specs.checks(LOCAL, MANIFEST)] == ["failed"]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert [check.name for check in host_specs.checks(LOCAL, MANIFEST)] == [host_specs.NAME]


def test_ssh_is_told_whom_to_trust_and_to_ask_nothing() -> None:
    host = Host(name="h1", address="192.0.2.1", port=2222, private_key="/keys/a b", known_hosts="/keys/known")
    lines = [line.strip() for line in ssh_config(host, Path("/folder/c")).splitlines()]
    assert {"Host 192.0.2.1", "Port 2222", "BatchMode yes", 'IdentityFile "/keys/a b"'} <= set(lines)
    assert {'UserKnownHostsFile "/keys/known"', "StrictHostKeyChecking yes", "ControlPath /folder/c"} <= set(lines)


def test_a_person_s_own_ssh_settings_count_for_real_hosts_alone() -> None:
    assert "~/.ssh/config" in ssh_config(Host(name="h1"), Path("/folder/c"))
    assert "~/.ssh/config" not in ssh_config(Host(name="h1", lab=True), Path("/folder/c"))


def subject() -> Subject:
    deployment = Deployment(
        host="localhost",
        profile="cpu",
        llm="small",
        served_name="small",
        quant="q4",
        runtime="llama_cpp",
        context_tokens=4096,
        kv_dtype="f16",
        output_tokens=512,
        agentic_class="demonstration",
        ledger=(),
        confidence="exact",
        reasons=(),
    )
    return Subject(
        host=LOCAL,
        deployment=deployment,
        manifest=MANIFEST,
        reading=None,
        base_url="http://127.0.0.1:1",
        token="secret-of-the-test",
    )


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ({"tools"}, ["tools"]),
        ({"tools", "endpoint"}, ["endpoint", "tools"]),
        ({"tools", "host"}, ["host", "tools"]),
        ({"context", "walls", "agents"}, ["context"]),
        ({"walls", "agents"}, []),
        (set(), []),
    ],
)
def test_only_what_was_asked_for_runs_in_the_order_of_the_areas(areas: Collection[Area], expected: list[Area]) -> None:
    events: list[Event] = []
    found = run(subject(), areas, events.append)
    assert list(dict.fromkeys(check.area for check in found)) == expected
    tried = [check for check in found if check.area != "host"]
    assert not [check for check in tried if check.result == "passed"]
    assert not tried or "failed" in {check.result for check in tried}
    assert [event.state for event in events].count("failed") == len([one for one in found if one.result == "failed"])


def test_a_subject_does_not_show_its_token() -> None:
    assert "secret-of-the-test" not in repr(subject())
