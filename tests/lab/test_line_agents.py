"""Coding agents on a real host: their requests through the gateway, people with tokens of their own, and away again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.rig import Rig

PEOPLE = ("ada", "Jürgen \"O'B $x`")
HOST = "lab-people"
AGENTS = "/opt/agentrig/current/agents"
#: Asks the gateway with the token of whoever runs it: the one file among all that he can read.
ASKS = f"""
import pathlib, urllib.request
for path in pathlib.Path("{AGENTS}/tokens").iterdir():
    try:
        token = path.read_text().strip()
    except PermissionError:
        continue
    request = urllib.request.Request(
        "http://127.0.0.1:8080/v1/models", headers={{"Authorization": f"Bearer {{token}}"}}
    )
    print(path.name, urllib.request.urlopen(request).status)
"""
#: Reads Aider's settings as Aider does: its own parser of options, its own registries of llms.
READS = """
import sys
from aider.args import get_parser
from aider.models import register_litellm_models, register_models
options = get_parser([sys.argv[1]], None).parse_args([])
register_models([options.model_settings_file])
register_litellm_models([options.model_metadata_file])
from aider.models import Model
llm = Model(options.model, weak_model=options.weak_model)
print(llm.info["max_input_tokens"], llm.extra_params["max_tokens"], options.analytics, options.check_update)
"""


@pytest.fixture(scope="module")
def people(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A folder with a profile that has people, on the store and the lab that the others use; away at the end."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "profiles").mkdir()
    profile = {"extends": "cpu-agents", "people": PEOPLE}
    (folder / "profiles/people.yml").write_text(json.dumps(profile), encoding="utf-8")
    mine = replace(rig, folder=folder)
    yield mine
    mine.run("down", "--lab", "--limit", HOST, "--purge")


@pytest.fixture(scope="module")
def refused(people: Rig) -> dict[str, Any]:
    """What ``up`` says where nobody of those names has an account."""
    return people.document("up", "--lab", "--profile", "people", code=1)


@pytest.fixture(scope="module")
def brought_up(people: Rig, refused: dict[str, Any]) -> dict[str, Any]:
    """The rig with its agents, once the people have accounts."""
    assert refused
    for name in PEOPLE:
        people.read(HOST, f"useradd --badname --create-home --shell /bin/bash -- {shlex.quote(name)}")
    (host,) = people.document("up", "--lab", "--profile", "people")["hosts"]
    assert isinstance(host, dict)
    return host


def as_person(people: Rig, name: str, command: str) -> Any:
    return people.on(HOST, f"runuser -u {shlex.quote(name)} -- sh -c {shlex.quote('cd; ' + command)}")


def test_a_person_without_an_account_is_refused_before_anything_is_changed(
    people: Rig, refused: dict[str, Any]
) -> None:
    (host,) = refused["hosts"]
    assert host["result"] == "failed"
    assert "no account of this host is called 'ada'" in host["error"]["what"]
    assert people.on(HOST, "test -e /opt/agentrig").returncode == 1


def test_requests_of_every_agent_arrived_and_were_answered(brought_up: dict[str, Any]) -> None:
    checks = json.loads(Path(brought_up["evidence"]).read_text())["checks"]
    found = {one["name"]: one for one in checks if one["area"] == "agents"}
    assert sorted(found) == [f"{name}: its requests arrive and are answered" for name in ("Aider", "OpenCode")]
    assert all(one["result"] == "passed" and one["figure"] >= 1 for one in found.values())
    assert all("POST /v1/chat/completions -> 200" in one["detail"] for one in found.values())


def test_the_next_up_has_nothing_to_do(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["result"] == "changed"
    (host,) = people.document("up", "--lab", "--profile", "people")["hosts"]
    assert (host["result"], host["changed"]) == ("unchanged", 0)


@pytest.mark.parametrize("name", PEOPLE)
def test_a_person_has_the_commands_and_one_token(people: Rig, brought_up: dict[str, Any], name: str) -> None:
    assert brought_up["error"] is None
    for command, version in (("aider", "0.86"), ("opencode", "1.18")):
        done = as_person(people, name, f"{command} --version")
        assert done.returncode == 0, done.stderr
        assert version in done.stdout
    asked = as_person(people, name, f"/usr/bin/python3 -c {shlex.quote(ASKS)}").stdout.split()
    assert len(asked) == 2, "more than one token can be read, or none"
    assert asked[1] == "200"
    logged = people.read(HOST, "journalctl --sync; journalctl -t agentrig_gateway -o cat -n 1")
    assert logged.startswith(f"{asked[0]} 127.0.0.1 GET /v1/models -> 200")


def test_who_has_no_token_is_told_so(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    done = as_person(people, "nobody", "HOME=/tmp aider --version")
    assert done.returncode == 1
    assert "you have no token on this host" in done.stderr


def test_aider_reads_its_settings_with_its_own_parser(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    environment = "HOME=/root LITELLM_LOCAL_MODEL_COST_MAP=True"
    python = f"{environment} /opt/agentrig/current/artefacts/aider/bin/python -B -c {shlex.quote(READS)}"
    read = people.read(HOST, f"{python} {AGENTS}/aider/aider.conf.yml")
    assert read.split()[-4:] == ["8192", "256", "False", "False"]
    strange = f"""sed 's/"timeout"/"patience"/' {AGENTS}/aider/aider.conf.yml > /tmp/strange.yml"""
    assert people.on(HOST, f"{strange} && {python} /tmp/strange.yml").returncode != 0


def test_opencode_resolves_all_of_its_settings(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    resolved = json.loads(as_person(people, "ada", "opencode debug config").stdout)
    (file,) = people.document("agents", "config", "opencode", "--lab", "--limit", HOST)["files"]
    wanted = json.loads(file["content"])
    wanted["provider"]["local"]["options"].pop("apiKey")
    assert lacking(resolved, wanted) == []
    wrong = f'sed \'s/"context": 8192/"context": "many"/\' {AGENTS}/opencode/opencode.json > /tmp/wrong.json'
    people.read(HOST, wrong)
    program = "/opt/agentrig/current/artefacts/opencode/bin/opencode debug config"
    assert as_person(people, "ada", f"OPENCODE_CONFIG=/tmp/wrong.json {program}").returncode != 0


def test_a_repository_cannot_lead_an_agent_elsewhere(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    elsewhere = "http://127.0.0.1:9/v1"
    hostile = json.dumps({"provider": {"local": {"options": {"baseURL": elsewhere}}}})
    lines = f"echo '{hostile}' > opencode.json; echo AIDER_OPENAI_API_BASE={elsewhere} > .env"
    people.read(
        HOST, f"rm -rf /tmp/hostile && git init -q /tmp/hostile && cd /tmp/hostile && {lines}; chmod -R a+rwX ."
    )
    resolved = json.loads(as_person(people, "ada", "cd /tmp/hostile && opencode debug config").stdout)
    assert resolved["provider"]["local"]["options"]["baseURL"] != elsewhere
    program = "cd /tmp/hostile && /opt/agentrig/current/artefacts/opencode/bin/opencode debug config"
    control = as_person(people, "ada", f"export OPENCODE_CONFIG={AGENTS}/opencode/opencode.json; {program}")
    assert json.loads(control.stdout)["provider"]["local"]["options"]["baseURL"] == elsewhere, (
        "the control shows nothing"
    )
    said = as_person(people, "ada", "cd /tmp/hostile && aider --exit --verbose --yes-always --no-git").stdout
    assert "openai_api_base" in said
    assert elsewhere not in next(line for line in said.splitlines() if "- openai_api_base:" in line)


def lacking(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Name each value of ``wanted`` that is not in ``found``."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [fault for key, value in wanted.items() for fault in lacking(found.get(key), value, f"{path}.{key}")]
    return [] if found == wanted else [f"{path} is {found!r}, not {wanted!r}"]


def test_an_agent_that_asks_for_nothing_is_not_accepted(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    silent = "printf '#!/bin/sh\\nexit 0\\n'"
    for name in ("aider", "opencode"):
        file = f"$(readlink -f {AGENTS}/{name}/{name})"
        people.read(HOST, f"cp -p {file} /tmp/{name}.kept && {silent} > {file}")
    document = people.document("verify", "--lab", "--limit", HOST, "--only", "agents", code=5)
    for name in ("aider", "opencode"):
        people.read(HOST, f"cp -p /tmp/{name}.kept $(readlink -f {AGENTS}/{name}/{name})")
    assert [(one["result"], one["figure"]) for one in document["checks"]] == [("failed", 0), ("failed", 0)]
    assert all("none reached the gateway; it ended with 0" in one["detail"] for one in document["checks"])


def test_the_agents_are_listed(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    found = {one["name"]: one for one in people.document("agents", "list", "--lab", "--limit", HOST)["agents"]}
    assert all(one["installed"] and one["wire"] == "openai" for one in found.values())
    assert {(one["window_tokens"], one["output_tokens"]) for one in found.values()} == {(8192, 256)}
    assert sorted(found) == ["aider", "opencode"]
    words = people.run("agents", "env", "aider", "--lab", "--limit", HOST).stdout
    secrets = json.loads((people.state / "lab/rigs" / HOST / "secrets.json").read_text())
    assert "export OPENAI_API_KEY=\"$(cat '" in words
    assert not [name for name, secret in secrets.items() if secret in words]


def test_nothing_of_the_agents_stays(people: Rig, brought_up: dict[str, Any]) -> None:
    assert brought_up["error"] is None
    people.document("down", "--lab", "--limit", HOST, "--purge")
    gone = "/opt/agentrig /usr/local/bin/aider /usr/local/bin/opencode"
    assert people.read(HOST, f"ls -d {gone} /var/tmp/agentrig-agent-* 2>/dev/null || true").strip() == ""
    assert people.on(HOST, "id agentrig-agent").returncode != 0
    assert people.on(HOST, "id ada").returncode == 0
