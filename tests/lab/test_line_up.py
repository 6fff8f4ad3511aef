"""One true line, from the installed wheel in an empty folder: up, again, checked, broken, mended, away."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lab.rig import Rig

UP = ("up", "--lab", "--profile", "cpu")
HOST = "lab-cpu"
#: The same with a small window: what is broken by hand and mended is accepted anew each time.
UP_SMALL = ("up", "--lab", "--profile", "small")
SMALL = "lab-small"


def curl(endpoint: dict[str, Any], path: str, body: dict[str, Any], *, header: str) -> dict[str, Any]:
    """Ask as a person would, from an ordinary shell."""
    token = Path(endpoint["token_file"]).read_text().strip()
    base = endpoint["openai"].removesuffix("/v1")
    command = ["curl", "-sS", "--max-time", "120", "-H", header.format(token), "-H", "content-type: application/json"]
    done = subprocess.run([*command, "-d", json.dumps(body), base + path], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.fixture(scope="module")
def first(rig: Rig) -> dict[str, Any]:
    """The first ``up``, which everything below looks at."""
    (host,) = rig.document(*UP)["hosts"]
    return host


@pytest.fixture(scope="module")
def small(rig: Rig) -> dict[str, Any]:
    """A second host of the rig, whose window is filled in a few seconds."""
    rig.small()
    (host,) = rig.document(*UP_SMALL)["hosts"]
    assert host["error"] is None
    return host


def test_the_rig_is_accepted_and_says_what_stood_in(first: dict[str, Any]) -> None:
    assert first["result"] == "changed"
    assert first["changed"] > 0
    assert first["error"] is None
    assert first["stand_ins"] == [], "the profile asks for what really runs: no card, no substitution"
    evidence = json.loads(Path(first["evidence"]).read_text())
    assert {check["result"] for check in evidence["checks"]} == {"passed"}
    assert {"host", "endpoint", "tools", "context"} <= {check["area"] for check in evidence["checks"]}
    assert set(first["phases"]) >= {"detect", "plan", "lock", "apply", "verify"}


def test_it_answers_an_ordinary_shell_in_both_forms(first: dict[str, Any]) -> None:
    endpoint = first["endpoint"]
    message = {"model": "smollm2-135m", "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}
    chat = curl(endpoint, "/v1/chat/completions", message, header="Authorization: Bearer {}")
    assert chat["choices"][0]["message"]["content"].strip()
    assert endpoint["anthropic"] == endpoint["openai"].removesuffix("/v1")
    answer = curl(endpoint, "/v1/messages", message, header="x-api-key: {}")
    assert answer["content"][0]["text"].strip()


def test_the_token_is_private_and_stands_in_nothing_that_is_kept(rig: Rig, first: dict[str, Any]) -> None:
    path = Path(first["endpoint"]["token_file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("header").stat().st_mode) == 0o600
    secrets = json.loads((path.parent / "secrets.json").read_text())
    disks = rig.state / "lab/hosts"  # the hosts themselves, where the runtime's key has its place
    kept = [one for one in rig.state.rglob("*") if disks not in one.parents and one.is_file()]
    kept = [one for one in kept if one.name not in ("token", "header", "secrets.json")]
    texts = [one for one in kept if one.stat().st_size < 1 << 20 and "store" not in one.parts]
    assert any(one.name == "deploy.lock" for one in texts)
    assert any(one.suffix == ".log" for one in texts)
    for one in texts:
        content = one.read_bytes()
        assert not [name for name, secret in secrets.items() if secret.encode() in content], one
    arguments = rig.read(HOST, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert not [name for name, secret in secrets.items() if secret in arguments]


def test_again_changes_nothing(rig: Rig, first: dict[str, Any]) -> None:
    (again,) = rig.document(*UP)["hosts"]
    assert (again["result"], again["changed"]) == ("unchanged", 0)
    assert again["endpoint"] == first["endpoint"]
    assert again["deployment_id"] == first["deployment_id"]
    assert "apply" not in again["phases"], "the manifest was read, Ansible was not asked"
    (full,) = rig.document(*UP, "--full")["hosts"]
    assert full["changed"] == 0
    assert "apply" in full["phases"]
    (checked,) = rig.document(*UP, "--check", "--locked")["hosts"]
    assert (checked["result"], checked["changed"]) == ("unchanged", 0)


def test_status_and_verify_agree(rig: Rig, first: dict[str, Any]) -> None:
    (status,) = rig.document("status", "--lab", "--limit", HOST, "--check")["hosts"]
    assert status["serving"] is True
    assert status["drift"] == []
    assert status["deployment_id"] == first["deployment_id"]
    checks = rig.document("verify", "--lab", "--limit", HOST, "--only", "endpoint")["checks"]
    assert {check["area"] for check in checks} == {"endpoint"}


@pytest.mark.parametrize(
    ("damage", "kind", "name"),
    [
        ("chmod 0666 /opt/agentrig/current/deployment.json", "file", "deployment.json"),
        ("echo x >> /opt/agentrig/current/gateway/nginx.conf", "file", "nginx.conf"),
        ("systemctl stop agentrig-runtime", "unit", "agentrig-runtime"),
        ("apt-mark unhold nginx", "hold", "nginx"),
        ("echo x >> /opt/agentrig/current/artefacts/runtime/pyvenv.cfg", "tree", "/opt/agentrig/store/"),
        ("systemd-run --unit=stranger --property=Type=exec python3 -m http.server 8099", "listener", "8099"),
    ],
)
def test_a_change_by_hand_is_named_and_mended(
    rig: Rig, small: dict[str, Any], damage: str, kind: str, name: str
) -> None:
    del small
    rig.read(SMALL, damage)
    if kind == "listener":
        rig.read(SMALL, "for i in $(seq 50); do grep -q ':1FA3 ' /proc/net/tcp && break; sleep 0.1; done")
    (status,) = rig.document("status", "--lab", "--limit", SMALL, "--check", code=4)["hosts"]
    assert [drift for drift in status["drift"] if drift["kind"] == kind and name in drift["name"]], status["drift"]
    if kind == "listener":
        rig.read(SMALL, "systemctl stop stranger")
    (mended,) = rig.document(*UP_SMALL)["hosts"]
    assert mended["error"] is None
    assert rig.document("status", "--lab", "--limit", SMALL, "--check")["hosts"][0]["drift"] == []


def test_a_rig_that_does_not_answer_is_not_accepted(rig: Rig, small: dict[str, Any]) -> None:
    """The control of acceptance: the gateway is stopped, and verify turns red."""
    del small
    rig.read(SMALL, "systemctl stop agentrig-gateway")
    document = rig.document("verify", "--lab", "--limit", SMALL, code=5)
    failed = [check["name"] for check in document["checks"] if check["result"] == "failed"]
    assert len(failed) > 3
    assert document["error"]["kind"] == "not_accepted"
    assert rig.document(*UP_SMALL)["hosts"][0]["error"] is None


def test_two_at_once(rig: Rig, first: dict[str, Any]) -> None:
    del first
    with rig.start(*UP, "--full") as running:
        assert running.stderr is not None
        running.stderr.readline()
        document = rig.document(*UP, code=2)
        assert document["error"]["kind"] == "busy"
        assert f"pid {running.pid}" in document["error"]["what"]
        running.communicate(timeout=300)
    assert running.returncode == 0
