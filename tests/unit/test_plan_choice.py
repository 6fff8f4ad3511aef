from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import NoFit, UsageError
from orchestrator.plan import Asked, explain, next_steps, parse_gpu, plan, rehearse
from orchestrator.profile import LlmWish, Profile, RuntimeWish
from orchestrator.render import render
from orchestrator.snapshot import RunningEndpoint
from tests.unit.planning import catalog, machine, machine_of

AUTO = Profile(name="auto")


def decide(*cards: Any, kv_dtype: Any = None, **wishes: Any) -> Any:
    ram_mib = wishes.pop("ram_mib", 65536)
    profile = AUTO.model_copy(update={"llm": LlmWish(kv_dtype=kv_dtype)})
    return plan(machine(*cards, ram_mib=ram_mib), profile, catalog(), **wishes)


@pytest.mark.parametrize("name", [name for name, row in catalog().profiles.items() if row.use != "external"])
def test_every_profile_plans_on_its_own_hardware(name: Any) -> None:
    decision = plan(machine_of(name), catalog().profiles[name], catalog())
    for row in decision.ledger:
        assert row.weights_mib + row.kv_mib + row.compute_mib + row.reserve_mib <= row.capacity_mib + 0.2
    assert decision.reasons


@pytest.mark.parametrize(
    "name", [name for name, row in catalog().profiles.items() if row.hardware.gpus and row.use != "external"]
)
def test_every_profile_with_cards_refuses_a_machine_without(name: Any) -> None:
    with pytest.raises(UsageError) as refused:
        plan(machine(), catalog().profiles[name], catalog())
    assert refused.value.exit_code == 2
    assert "expects" in refused.value.what
    assert "found no card" in refused.value.what


def test_a_profile_by_name_refuses_other_cards_of_the_same_size() -> None:
    with pytest.raises(UsageError, match="RTX 4090"):
        plan(machine("RTX 4090", "RTX 4090"), catalog().profiles["dual-3090"], catalog())


def test_two_3090_serve_a_strong_llm_with_tensor_parallel_two() -> None:
    decision = plan(machine_of("dual-3090"), catalog().profiles["dual-3090"], catalog())
    assert (decision.runtime, decision.parallel.tensor, len(decision.gpus)) == ("vllm", 2, 2)
    assert decision.agentic_class == "strong"
    assert "INT4" in decision.quant
    assert decision.context_tokens >= 65536


def test_windows_of_the_guide_come_out() -> None:
    one_card = decide("RTX 3090", llm="Qwen2.5-Coder-32B", quant="Q4_K_M", kv_dtype="f16")
    assert 16_000 <= one_card.context_tokens <= 24_576
    both = decide("RTX 3090", "RTX 3090", llm="Llama 3.3 70B", quant="Q4_K_M", runtime="llama_cpp", kv_dtype="q8_0")
    assert 32_000 <= both.context_tokens <= 49_152
    assert decide("RTX A6000").context_tokens >= 65_536


def test_nothing_below_the_floor_is_chosen_while_something_above_fits() -> None:
    assert decide("RTX 3090").agentic_class in ("floor", "strong", "near-frontier")
    everything = decide("RTX 4090")
    assert "qwen2.5-coder-7b" not in {everything.llm, *(one.llm for one in everything.rejections)}


def test_one_card_and_one_person_get_llama_cpp_and_several_people_vllm() -> None:
    assert decide("RTX 4090").runtime == "llama_cpp"
    assert decide("RTX 6000 Ada", users=4).runtime == "vllm"


def test_sglang_is_not_for_ampere_workstation_cards() -> None:
    with pytest.raises(NoFit) as refused:
        decide("RTX 3090", "RTX 3090", runtime="sglang")
    assert any("8.6" in one.reason for one in refused.value.rejections)
    assert decide("RTX 4090", "RTX 4090", runtime="sglang").runtime == "sglang"


def test_cards_that_cannot_share_a_layer_evenly_are_dealt_whole_layers() -> None:
    decision = decide("RTX 3090", "RTX 3090", "RTX 3090")
    assert decision.runtime == "llama_cpp"
    refused = decide("RTX 3090", "RTX 3090", "RTX 3090", llm="qwen3.6-27b")
    assert refused.parallel.tensor == 1


def test_an_old_driver_rules_out_what_is_built_for_a_newer_one() -> None:
    old = machine("RTX 3090", "RTX 3090").model_copy(update={"driver": "535.261.03"})
    decision = plan(old, AUTO, catalog())
    assert decision.runtime == "llama_cpp"
    assert any("driver 580" in one.reason and "535" in one.reason for one in decision.rejections)


def test_cards_of_different_kinds_are_dealt_whole_layers() -> None:
    decision = decide("RTX 5090", "RTX 3090")
    assert decision.runtime == "llama_cpp"
    assert decision.ledger[0].weights_mib > decision.ledger[1].weights_mib


def test_memory_that_others_hold_is_left_alone_and_our_own_counts_as_free() -> None:
    free = plan(machine("RTX 4090"), AUTO, catalog(), llm="qwen3.6-27b", quant="UD-Q4_K_XL")
    held = machine("RTX 4090", vram_free_mib=20_000)
    ours = machine("RTX 4090", vram_free_mib=4_000, vram_ours_mib=20_564)
    assert plan(held, AUTO, catalog(), llm="qwen3.6-27b", quant="UD-Q4_K_XL").context_tokens < free.context_tokens
    assert plan(ours, AUTO, catalog(), llm="qwen3.6-27b", quant="UD-Q4_K_XL") == free


def test_a_card_nobody_has_heard_of_works_with_its_memory_and_not_without() -> None:
    assert decide("Voodoo 5:24576").gpus
    with pytest.raises(UsageError) as refused:
        parse_gpu("RTX 3O90", catalog())
    assert "RTX 3090" in refused.value.do
    with pytest.raises(UsageError):
        parse_gpu("RTX 3090:lots", catalog())


@pytest.mark.parametrize(
    ("wishes", "hint"),
    [
        ({"llm": "qwen3.6-72b"}, "qwen3.6"),
        ({"quant": "Q4_K_N"}, "Q4_K"),
        ({"runtime": "vlm"}, "vllm"),
        ({"context": -1}, "--context"),
        ({"context": 10**12}, "--context"),
        ({"users": 0}, "--users"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_in_one_line(wishes: Any, hint: Any) -> None:
    with pytest.raises(UsageError) as refused:
        decide("RTX 4090", **wishes)
    assert hint in refused.value.do
    assert refused.value.exit_code == 2


def test_no_fit_carries_every_rejection_with_a_reason() -> None:
    with pytest.raises(NoFit) as refused:
        decide("RTX 3050 8GB", llm="llama-3.3-70b")
    assert refused.value.exit_code == 3
    assert refused.value.rejections
    assert all(one.reason for one in refused.value.rejections)


def test_an_architecture_that_is_not_understood_is_refused_and_not_guessed() -> None:
    with pytest.raises(NoFit) as refused:
        decide("H200", "H200", "H200", "H200", llm="deepseek-v4-flash", quant="FP8", runtime="vllm")
    assert any("not understood" in one.reason for one in refused.value.rejections)


def test_a_short_window_is_said_aloud() -> None:
    decision = decide("RTX 3090", llm="qwen2.5-coder-32b", quant="Q4_K_M", kv_dtype="f16")
    assert any("it is short" in reason for reason in decision.reasons)


def test_the_order_of_cards_changes_nothing() -> None:
    snapshot = machine("RTX 5090", "RTX 3090")
    turned = snapshot.model_copy(update={"gpus": snapshot.gpus[::-1]})
    assert plan(snapshot, AUTO, catalog()) == plan(turned, AUTO, catalog())


def test_cards_of_one_vendor_serve_and_the_others_are_left_alone() -> None:
    decision = decide("RTX 3090", "RX 7900 XTX", "RTX 3090")
    assert (decision.runtime, decision.gpus) == ("vllm", ("00000000:01:00.0", "00000000:03:00.0"))
    assert decision.gpu_indices == ()
    assert any("7900" in reason and "left alone" in reason for reason in decision.reasons)


def test_a_divided_card_is_left_alone_and_said_aloud() -> None:
    decision = plan(machine("H100 80GB", mig=True), AUTO, catalog())
    assert decision.gpus == ()
    assert any("MIG" in reason for reason in decision.reasons)


def test_a_card_that_is_not_used_is_left_out_of_what_the_runtime_sees() -> None:
    snapshot = machine("RTX 3090", "RTX 3090", "RTX 3090")
    first = snapshot.gpus[0].model_copy(update={"integrated": True})
    one_left_out = snapshot.model_copy(update={"gpus": (first, *snapshot.gpus[1:])})
    assert plan(one_left_out, AUTO, catalog()).gpu_indices == (1, 2)


def test_a_window_that_loses_the_beginning_counts_less_than_a_long_one_at_the_floor() -> None:
    decision = decide("RTX 4080")
    assert decision.context_tokens >= 65_536
    assert decision.agentic_class == "floor"
    assert any(one.llm == "qwen3.6-27b" and "strong counts as floor" in one.reason for one in decision.rejections)


@pytest.mark.parametrize("cards", [("RTX 3090",) * 2, ("RTX 6000 Ada",), ("RTX 5090", "RTX 3090"), ("M4 Max 128GB",)])
def test_a_sidecar_leaves_the_main_llm_its_place_and_both_fit(cards: Any) -> None:
    alone, both = decide(*cards), decide(*cards, autocomplete=True)
    assert (both.llm, both.quant, both.runtime) == (alone.llm, alone.quant, alone.runtime)
    assert both.context_tokens >= min(alone.context_tokens, 65_536)
    assert catalog().llms[both.sidecar].parameters <= 15
    assert [row.part for row in both.ledger].count("sidecar") == 1
    for gpu in both.gpus:
        rows = [row for row in both.ledger if row.gpu == gpu]
        used = sum(row.weights_mib + row.kv_mib + row.compute_mib + row.reserve_mib for row in rows)
        assert used <= rows[0].capacity_mib + 0.5
        assert all(row.reserve_mib >= 0 for row in rows)


def test_there_is_no_sidecar_unless_it_is_asked_for_and_fits() -> None:
    assert decide("RTX 6000 Ada").sidecar is None
    full = decide("RTX 4090", autocomplete=True)
    assert full.sidecar is None
    assert any("no autocomplete" in reason for reason in full.reasons)
    assert full.ledger == decide("RTX 4090").ledger


def test_a_sidecar_that_nothing_serves_is_refused_and_not_left_out() -> None:
    both = decide("RTX 6000 Ada", autocomplete=True)
    with pytest.raises(UsageError, match="no unit serves a second llm"):
        render(both, catalog())
    _, stand_ins = rehearse(both, machine("RTX 6000 Ada"), catalog())
    assert any(both.sidecar in one.what for one in stand_ins)


def external(**runtime: Any) -> Any:
    wish = RuntimeWish(name="external", **runtime)
    return catalog().profiles["external"].model_copy(update={"runtime": wish})


def test_an_endpoint_is_planned_from_what_its_owner_says() -> None:
    profile = external(url="https://llm.example:8443/v1")
    decision = plan(machine(), profile, catalog(), llm="qwen3.6-27b", context=131_072)
    assert (decision.runtime, decision.context_tokens, decision.ledger) == ("external", 131_072, ())
    assert decision.agents == profile.agents
    assert any("llm.example" in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("url", "wishes", "key"),
    [
        (None, {}, "runtime.url"),
        ("https://llm.example/v1", {}, "llm.name"),
        ("https://llm.example/v1", {"llm": "qwen3.6-27b"}, "llm.context_tokens"),
        ("https://llm.example/v1", {"llm": "qwen3.6-27b", "context": 10_000_000}, "262144"),
        ("ftp://llm.example", {"llm": "qwen3.6-27b", "context": 65_536}, "https://HOST:PORT"),
        ("http://[", {"llm": "qwen3.6-27b", "context": 65_536}, "https://HOST:PORT"),
        ("http://llm.example/v1", {"llm": "qwen3.6-27b", "context": 65_536}, "https"),
        ("https://me:word@llm.example/v1", {"llm": "qwen3.6-27b", "context": 65_536}, "without user"),
    ],
)
def test_an_endpoint_that_is_not_described_is_refused_by_what_is_missing(url: Any, wishes: Any, key: Any) -> None:
    with pytest.raises(UsageError) as refused:
        plan(machine(), external(url=url), catalog(), **wishes)
    assert key in refused.value.do


def test_rehearsal_keeps_name_ports_and_agents_and_lists_each_substitution() -> None:
    snapshot, profile = machine_of("dual-3090"), catalog().profiles["dual-3090"]
    real = plan(snapshot, profile, catalog())
    served, stand_ins = rehearse(real, snapshot, catalog())
    assert (served.served_name, served.runtime_port, served.agents) == (
        real.served_name,
        real.runtime_port,
        real.agents,
    )
    assert (served.runtime, served.llm, served.gpus) == ("xllamacpp", "smollm2-135m", ())
    assert served.context_tokens <= catalog().llms["smollm2-135m"].max_context_tokens
    assert [one.what.split()[0] for one in stand_ins] == ["runtime", "weights", "2", "answers", "window"]


def test_rehearsal_of_what_runs_anyway_substitutes_nothing() -> None:
    snapshot, profile = machine(), catalog().profiles["cpu"]
    real = plan(snapshot, profile, catalog())
    assert rehearse(real, snapshot, catalog()) == (real, ())
    assert real.agentic_class == "demonstration"


def test_the_page_shows_ledger_window_and_alternatives() -> None:
    decision = decide("RTX 3090", "RTX 3090", llm="Qwen2.5-Coder-32B")
    page = explain(decision, catalog())
    assert page.count("GiB") >= 2 * len(decision.ledger)
    assert str(decision.context_tokens) in page
    assert "88 to 94 % of its tool calls land" in page
    assert all(len(line) < 400 for line in page.splitlines())


def test_the_page_says_what_more_memory_would_buy() -> None:
    here = machine("RTX 4090")
    now = plan(here, AUTO, catalog())
    steps = next_steps(here, AUTO, catalog(), now, Asked())
    assert steps[0].cards == "1 more RTX 4090"
    assert all(
        step.deployment.agentic_class != now.agentic_class or step.deployment.context_tokens > now.context_tokens
        for step in steps
    )
    page = explain(now, catalog(), steps)
    assert "What more memory would buy" in page
    assert "1 more RTX 4090: " in page


def test_nothing_is_bought_where_nothing_would_be_better() -> None:
    here = machine("RTX 6000 Ada")
    now = plan(here, AUTO, catalog(), llm="phi-4")
    assert next_steps(here, AUTO, catalog(), now, Asked(llm="phi-4")) == ()


def test_an_ollama_that_runs_already_is_built_upon_and_named_as_the_reason() -> None:
    there = RunningEndpoint(url="http://127.0.0.1:11434", kind="ollama")
    found = machine("RTX 4090").model_copy(update={"endpoints": (there,)})
    decision = plan(found, AUTO, catalog())
    assert decision.runtime == "ollama"
    assert any("already runs here" in reason for reason in decision.reasons)
    assert plan(machine("RTX 4090"), AUTO, catalog()).runtime == "llama_cpp"


def test_a_measured_speed_is_told_with_whose_it_is() -> None:
    measured = decide("RTX 3090", "RTX 3090", llm="qwen3.6-27b", quant="AutoRound-INT4")
    assert any("54 tokens a second, as measured" in reason for reason in measured.reasons)
    others = decide("RTX 4090", "RTX 4090", llm="qwen3.6-27b", quant="AutoRound-INT4")
    assert any("by what measured llms reached" in reason for reason in others.reasons)


def test_a_mixture_is_slower_than_its_reading_and_faster_than_a_dense_llm_of_its_size() -> None:
    def speed(name: Any) -> Any:
        reason = next(one for one in decide("RTX A6000", llm=name).reasons if "tokens a second" in one)
        return int(reason.split()[1]), int(reason.split()[-1])

    (mixture, allowed), (dense, _) = speed("qwen3-coder-30b-a3b"), speed("qwen2.5-coder-32b")
    assert dense < mixture < 0.5 * allowed
