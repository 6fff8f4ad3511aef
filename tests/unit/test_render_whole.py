"""The whole rendering: what must be declared, where secrets stand, and that it is pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import jinja2
import pytest

from orchestrator.catalog.rows import WireForm
from orchestrator.deployment import Deployment
from orchestrator.render import render
from orchestrator.render.texts import verbatim
from tests.unit.rendering import CATALOG, CPU, DUAL

if TYPE_CHECKING:
    from orchestrator.rendered import Rendered

BOTH = pytest.mark.parametrize("deployment", [CPU, DUAL], ids=["cpu", "dual"])


def content(rendered: Rendered, path: str) -> str:
    return next(file.content for file in rendered.files if file.path == path)


@BOTH
def test_the_same_decision_gives_the_same_bytes(deployment: Deployment) -> None:
    first, second = render(deployment, CATALOG), render(Deployment.from_json(deployment.to_json()), CATALOG)
    assert first.to_json() == second.to_json()


@BOTH
def test_no_file_bears_the_name_of_its_host(deployment: Deployment) -> None:
    """Two hosts of one decision have one release, and one host can be held against the other."""
    other = deployment.model_copy(update={"host": "another-name"})
    assert render(deployment, CATALOG) == render(other, CATALOG)


@BOTH
def test_the_decision_is_among_the_files(deployment: Deployment) -> None:
    rendered = render(deployment, CATALOG)
    assert json.loads(content(rendered, "deployment.json")) == deployment.decision()


@BOTH
def test_other_words_for_the_same_decision_render_the_same(deployment: Deployment) -> None:
    reworded = deployment.model_copy(update={"reasons": ("in other words",), "confidence": "exact"})
    assert render(reworded, CATALOG) == render(deployment, CATALOG)
    moved = deployment.model_copy(update={"context_tokens": deployment.context_tokens // 2})
    assert render(moved, CATALOG) != render(deployment, CATALOG)


@BOTH
def test_each_unit_has_its_file_its_two_links_and_its_user(deployment: Deployment) -> None:
    rendered = render(deployment, CATALOG)
    links = {link.path: link.target for link in rendered.links}
    for unit in rendered.units:
        assert links.pop(f"/etc/systemd/system/{unit.name}") == f"/opt/agentrig/current/units/{unit.name}"
        assert (
            links.pop(f"/etc/systemd/system/multi-user.target.wants/{unit.name}") == f"/etc/systemd/system/{unit.name}"
        )
        user = next(line for line in content(rendered, f"units/{unit.name}").splitlines() if line.startswith("User="))
        assert user.removeprefix("User=") in {one.name for one in rendered.users}
    assert links == {}


@BOTH
def test_a_file_with_a_secret_is_closed_to_others(deployment: Deployment) -> None:
    for file in render(deployment, CATALOG).files:
        assert bool(file.secrets) == (file.mode in {"0600", "0640"}), file.path


@BOTH
def test_what_listens_is_on_loopback_and_declared(deployment: Deployment) -> None:
    moved = deployment.model_copy(update={"runtime_port": 28080, "gateway_port": 28081})
    rendered = render(moved, CATALOG)
    assert {(one.protocol, one.address, one.port) for one in rendered.listeners} == {
        ("tcp", "127.0.0.1", 28080),
        ("tcp", "127.0.0.1", 28081),
    }
    assert "listen 127.0.0.1:28081;" in content(rendered, "gateway/nginx.conf")
    assert "server 127.0.0.1:28080 " in content(rendered, "gateway/nginx.conf")
    assert "--port 28080" in content(rendered, "units/agentrig-runtime.service")


@BOTH
def test_artefacts_are_named_through_current_and_never_by_digest(deployment: Deployment) -> None:
    rendered = render(deployment, CATALOG)
    assert rendered.artefacts == ("llm", "runtime")
    assert not [file.path for file in rendered.files if "/opt/agentrig/store" in file.content]


@BOTH
def test_each_variable_bears_its_roles_name(deployment: Deployment) -> None:
    names = render(deployment, CATALOG).variables
    roles = {re.match("host_base|sandbox_host|[a-z]+", name)[0] for name in names}  # type: ignore[index]
    assert roles == {"runtime", "gateway", "host_base", "sandbox_host"}


def test_only_cards_open_devices_and_only_compilers_write_code() -> None:
    without, with_cards = (content(render(one, CATALOG), "units/agentrig-runtime.service") for one in (CPU, DUAL))
    assert "PrivateDevices=yes" in without
    assert "MemoryDenyWriteExecute=yes" in without
    assert "DeviceAllow" not in without
    assert "PrivateDevices" not in with_cards
    assert "DeviceAllow=char-nvidia* rw" in with_cards
    assert "MemoryDenyWriteExecute" not in with_cards


def test_a_wire_form_that_is_not_spoken_has_no_path() -> None:
    mute = CATALOG.runtimes["vllm"].model_copy(update={"anthropic": WireForm(spoken=False, why="hand-written")})
    catalog = CATALOG.model_copy(update={"runtimes": {**CATALOG.runtimes, "vllm": mute}})
    assert "/v1/messages" in content(render(DUAL, CATALOG), "gateway/nginx.conf")
    assert "/v1/messages" not in content(render(DUAL, catalog), "gateway/nginx.conf")


def conversation(messages: list[dict[str, object]], tools: list[dict[str, object]] | None = None) -> str:
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)  # noqa: S701 - a prompt
    environment.filters["tojson"] = json.dumps
    template = environment.from_string(verbatim("runtimes/smollm2-tools.jinja"))
    full = [{"content": None, "tool_calls": None, **message} for message in messages]
    return template.render(messages=full, tools=tools, add_generation_prompt=True)


def test_a_chat_without_tools_hears_nothing_of_tools() -> None:
    prompt = conversation([{"role": "user", "content": "Hello"}])
    assert "tool" not in prompt
    assert prompt.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_a_conversation_with_tools_keeps_its_order(arguments: object) -> None:
    call = {"function": {"name": "add_one", "arguments": arguments}}
    prompt = conversation(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Add."},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "2"},
            {"role": "system", "content": "Carry on."},
        ],
        [{"type": "function", "function": {"name": "add_one"}}],
    )
    parts = ["Be brief.", "<tools>", '"name": "add_one"', "Add.", '{"name": "add_one", "arguments": {"a": 1}}']
    parts += ["<tool_response>\n2\n</tool_response>", "Carry on.", "<|im_start|>assistant\n"]
    places = [prompt.index(part, prompt.index("</tools>") if part.startswith("{") else 0) for part in parts]
    assert places[:-1] == sorted(places[:-1])
    assert prompt.endswith(parts[-1])


@BOTH
def test_packages_are_the_gateways_the_venvs_and_the_runtimes_own(deployment: Deployment) -> None:
    own = ("libgomp1",) if deployment.runtime == "xllamacpp" else ("gcc", "libc6-dev", "python3-dev")
    assert render(deployment, CATALOG).packages == tuple(sorted(("nginx", "python3-venv", *own)))
