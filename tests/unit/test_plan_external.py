"""An endpoint that already runs: found, planned, rendered without a runtime of ours, and offered."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.deployment import Deployment
from orchestrator.errors import UsageError
from orchestrator.lock import wanted
from orchestrator.plan import offers, plan, rehearse
from orchestrator.profile import Gateway, LlmWish, RuntimeWish
from orchestrator.render import render
from orchestrator.snapshot import RunningEndpoint
from tests.unit.planning import catalog, machine

OLLAMA = RunningEndpoint(
    url="http://127.0.0.1:11434", kind="ollama", version="0.12.6", llms=("llama3.2:3b",), context_tokens=4096
)
VLLM = RunningEndpoint(
    url="http://127.0.0.1:8000", kind="vllm", llms=("Qwen/Qwen3.6-27B", "other"), context_tokens=65536
)


def front(*found: RunningEndpoint, llm: LlmWish | None = None, gateway: Gateway | None = None, **runtime: Any) -> Any:
    profile = (
        catalog()
        .profiles["external"]
        .model_copy(
            update={
                "runtime": RuntimeWish(name="external", **runtime),
                "llm": llm or LlmWish(),
                "gateway": gateway or Gateway(),
                "agents": (),
            }
        )
    )
    return plan(machine().model_copy(update={"endpoints": found}), profile, catalog())


def test_the_one_endpoint_that_was_found_needs_no_word_of_its_owner() -> None:
    decision = front(OLLAMA)
    assert (decision.runtime, decision.runtime_url, decision.runtime_port) == ("external", OLLAMA.url, 11434)
    assert (decision.served_name, decision.context_tokens) == ("llama3.2:3b", 4096)
    assert (decision.agentic_class, decision.quant, decision.ledger) == ("completion", "as served", ())
    assert any("an Ollama 0.12.6" in reason for reason in decision.reasons)


def test_of_several_llms_the_catalog_s_own_name_finds_the_one_that_is_served() -> None:
    decision = front(VLLM, llm=LlmWish(name="qwen3.6-27b"))
    assert (decision.served_name, decision.llm) == ("Qwen/Qwen3.6-27B", "qwen3.6-27b")


@pytest.mark.parametrize(
    ("found", "changes", "what", "do"),
    [
        ((), {}, "none was found", "runtime.url"),
        ((OLLAMA, VLLM), {}, "2 endpoints answer", "runtime.url"),
        ((VLLM,), {}, "Qwen/Qwen3.6-27B, other", "llm.name"),
        ((VLLM,), {"llm": LlmWish(name="llama-3.3-70b")}, "and not", "llm.name"),
        ((OLLAMA,), {"llm": LlmWish(context_tokens=8192)}, "started with 4096 tokens", "4096"),
        ((OLLAMA,), {"gateway": Gateway(port=11434)}, "which is to be the gateway's", "gateway.port"),
        ((), {"url": "http://127.0.0.1:9/v1; return 200"}, "is no address", "runtime.url"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_set(found: Any, changes: Any, what: str, do: str) -> None:
    with pytest.raises(UsageError) as refused:
        front(*found, **changes)
    assert what in refused.value.what
    assert do in refused.value.do


def files(decision: Deployment) -> dict[str, str]:
    return {file.path: file.content for file in render(decision, catalog()).files}


def test_it_is_rendered_with_a_gateway_and_without_a_runtime_or_weights() -> None:
    decision = front(OLLAMA)
    found = render(decision, catalog())
    assert [unit.name for unit in found.units] == ["agentrig-gateway.service"]
    assert (found.artefacts, [user.name for user in found.users]) == ((), ["agentrig-gateway"])
    assert [one.port for one in found.listeners] == [8080]
    assert found.variables["runtime_state"] == "absent"
    content = files(decision)
    assert not [path for path in content if path.startswith("runtime/")]
    assert "server 127.0.0.1:11434 max_fails=0;" in content["gateway/nginx.conf"]
    assert "runtime_key" not in "".join(content.values())
    assert "IPAddressDeny=any" in content["units/agentrig-gateway.service"]
    assert wanted(decision, found.packages, catalog()).weights is None


def test_an_endpoint_elsewhere_is_held_to_its_certificate() -> None:
    decision = front(url="https://llm.example:8443/team/v1", llm=LlmWish(name="mine", context_tokens=4096))
    assert (decision.runtime_url, decision.served_name) == ("https://llm.example:8443/team", "mine")
    content = files(decision)
    configuration = content["gateway/nginx.conf"]
    assert "server llm.example:8443 max_fails=0;" in configuration
    assert "proxy_pass https://runtime/team/v1/chat/completions;" in configuration
    assert "proxy_ssl_verify on;" in configuration
    assert "proxy_ssl_name llm.example;" in configuration
    assert "IPAddressDeny" not in content["units/agentrig-gateway.service"]


def test_a_rehearsal_replaces_nothing_of_it() -> None:
    decision = front(OLLAMA)
    assert rehearse(decision, machine(), catalog()) == (decision, ())


def test_each_endpoint_is_offered_in_a_sentence() -> None:
    (one,) = offers(machine().model_copy(update={"endpoints": (OLLAMA,)}))
    assert one == (
        "an Ollama 0.12.6 already answers at http://127.0.0.1:11434 with llama3.2:3b: "
        "deploy up --profile external puts the gateway before it"
    )
    both = offers(machine().model_copy(update={"endpoints": (OLLAMA, VLLM)}))
    assert ["(runtime.url: http" in sentence for sentence in both] == [True, True]
    assert offers(machine()) == ()
