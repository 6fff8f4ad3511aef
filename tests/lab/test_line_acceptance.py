"""Acceptance on a real host: a window that is not what was promised brings the former release back, exit 5."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.catalog.loader import profile
from orchestrator.cli.wired import wired
from orchestrator.lab import Lab, as_host
from orchestrator.line.ports import Way
from orchestrator.line.up import up
from orchestrator.line.values import Wish
from orchestrator.verify import AGAIN_NAMES, context, tools
from tests.lab.rig import SMALL_WINDOW as WINDOW
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.deployment import Deployment
    from orchestrator.progress import Event
    from orchestrator.rendered import Rendered

HOST = "lab-mine"
UP = ("up", "--lab", "--profile", "mine")


def set_port(rig: Rig, port: int) -> None:
    """Write the profile ``mine``: as ``cpu``, with a small window and a gateway port of its own."""
    rig.small("mine", gateway={"port": port})


@pytest.fixture(scope="module")
def mine(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig of this module's own, on one fresh host."""
    rig = Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"), (str(installed),))
    set_port(rig, 8080)
    yield rig
    assert rig.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def accepted(mine: Rig) -> dict[str, Any]:
    """The first ``up``, whose release all below goes back to."""
    (host,) = mine.document(*UP)["hosts"]
    assert host["error"] is None
    return host


def evidence(host: dict[str, Any]) -> dict[str, Any]:
    """Give what was measured, each check by its name."""
    return {check["name"]: check for check in json.loads(Path(host["evidence"]).read_text())["checks"]}


def test_it_was_filled_called_and_started_anew_before_it_was_accepted(mine: Rig, accepted: dict[str, Any]) -> None:
    found = evidence(accepted)
    assert {found[name]["result"] for name in (*tools.NAMES, *AGAIN_NAMES)} == {"passed"}
    turns, whole = found[context.TURNS_NAME], found[context.WHOLE_NAME]
    assert WINDOW - WINDOW // 4 - context.SLACK <= turns["figure"] <= WINDOW - WINDOW // 4
    assert WINDOW - context.SLACK <= whole["figure"] <= whole["limit"] == WINDOW
    again = found[AGAIN_NAMES[0]]
    assert 0 < again["figure"] <= again["limit"]
    starts = mine.read(HOST, "journalctl -u agentrig-runtime -o cat | grep -c '^Started '")
    assert int(starts) == 2, "once by apply, once by acceptance"


def test_again_it_has_one_short_chat_and_is_not_filled(mine: Rig, accepted: dict[str, Any]) -> None:
    began = json.loads(Path(accepted["evidence"]).read_text())["began"]
    done = mine.run(*UP)
    assert done.returncode == 0
    told = [line for line in done.stderr.splitlines() if line.strip().startswith("verify")]
    assert len(told) == 1, told
    assert "chat, OpenAI form" in told[0]
    assert json.loads(Path(accepted["evidence"]).read_text())["began"] == began


def test_no_limit_of_the_gateway_stands_between_a_runtime_and_the_longest_window(
    mine: Rig, accepted: dict[str, Any]
) -> None:
    """A prompt of a quarter of a million tokens reaches the runtime, which refuses it by its own count."""
    token = (mine.state / f"lab/rigs/{HOST}/token").read_text().strip()
    prompt = "river stone north green " * 65_000
    body = {"model": "smollm2-135m", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = accepted["endpoint"]["openai"] + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - our own address
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=120)  # noqa: S310
    assert refused.value.code == 400
    assert json.loads(refused.value.read())["error"]["n_prompt_tokens"] > 260_000


def test_a_window_smaller_than_promised_brings_the_former_release_back(
    mine: Rig, accepted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renderer is a stand-in that starts the runtime with half of what it promises to everybody else."""
    monkeypatch.setenv("AGENTRIG_STATE", str(mine.state))
    monkeypatch.setenv("HF_ENDPOINT", mine.env["HF_ENDPOINT"])
    monkeypatch.chdir(mine.folder)
    set_port(mine, 8090)
    rooms = wired(yes=True)

    def half(deployment: Deployment) -> Rendered:
        rendered = rooms.ports.render(deployment)
        files = tuple(
            file.model_copy(update={"content": file.content.replace(f"-c {WINDOW}", f"-c {WINDOW // 2}")})
            for file in rendered.files
        )
        assert files != rendered.files
        return rendered.model_copy(update={"files": files})

    told: list[Event] = []
    (made,) = Lab(mine.state / "lab").hosts()
    hosts = {HOST: (as_host(made), profile(rooms.catalog, "mine"))}
    wish = Wish(rooms.state.lock_file(lab=True), lab=True)
    outcome = up(hosts, wish, Way(replace(rooms.ports, render=half), told.append))
    (host,) = outcome.hosts

    assert (host.result, outcome.exit_code) == ("rolled_back", 5)
    assert host.error is not None
    assert host.error.what.startswith(f"{context.TURNS_NAME}: turn ")
    assert "exceeds the available context size" in host.error.what
    assert host.deployment_id == accepted["deployment_id"]
    assert mine.read(HOST, "readlink /opt/agentrig/current").strip() == f"releases/{accepted['deployment_id']}"
    assert host.evidence is not None
    results = {check.name: check.result for check in host.evidence.checks}
    assert results["chat, OpenAI form"] == "passed", "it would have been called ready by a short chat alone"
    assert {results[name] for name in (context.WHOLE_NAME, *AGAIN_NAMES)} == {"skipped"}
    (status,) = mine.document("status", "--lab", "--check")["hosts"]
    assert (status["serving"], status["drift"]) == (True, [])
    set_port(mine, 8080)
    (again,) = mine.document(*UP)["hosts"]
    assert again["error"] is None
    assert again["deployment_id"] == accepted["deployment_id"]
