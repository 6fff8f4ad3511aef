from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from orchestrator.errors import UsageError
from orchestrator.plan import estimate_line, knowledge
from tests.unit.planning import catalog

KNOWN = knowledge(catalog(), {})
LLMS = ("qwen3.6-27b", "qwen2.5-coder-32b", "gpt-oss-20b", "llama-3.3-70b", "gemma-4-31b", "glm-4.7-flash")
CARDS = ("RTX 3090", "RTX 4090", "RTX 5090", "RTX A6000", "H100 80GB")


def ask(**line: Any) -> Any:
    return estimate_line({"id": "one", **line}, KNOWN, catalog())


@some.composite
def choices(draw: Any) -> Any:
    runtime = draw(some.sampled_from(("vllm", "sglang", "llama.cpp", "exllamav3")))
    count = draw(some.sampled_from((1, 2, 4)))
    quants = {"llama.cpp": ("Q4_K_M", "Q6_K", "Q8_0"), "exllamav3": ("exl3 4.0 bpw",)}
    drafted = {"draft": "qwen2.5-coder-7b", "draft_quant": draw(some.sampled_from(("Q8_0", "Q4_K_M")))}
    if runtime != "llama.cpp":
        drafted = {"draft": draw(some.sampled_from(("mtp", "llama-3.2-1b"))), "draft_quant": "none (bfloat16)"}
    return {
        **(drafted if runtime != "exllamav3" and draw(some.booleans()) else {}),
        "model": draw(some.sampled_from(LLMS)),
        "runtime": runtime,
        "quant": draw(some.sampled_from(quants.get(runtime, ("AWQ", "FP8", "none (bfloat16)")))),
        "gpus": [draw(some.sampled_from(CARDS))] * count,
        "n_ctx": draw(some.integers(1, 300_000)),
        "tp": count if runtime in ("vllm", "sglang") else 1,
        "slots": draw(some.integers(1, 4)),
    }


def demand(answer: Any) -> Any:
    return sum(sum(card[key] or 0 for key in ("weights_mib", "compute_mib", "draft_mib")) for card in answer["per_gpu"])


@given(choices(), some.integers(1, 100_000))
@settings(deadline=None, max_examples=60)
def test_more_context_never_needs_less(choice: Any, more: Any) -> None:
    less = ask(**choice)
    longer = ask(**{**choice, "n_ctx": choice["n_ctx"] + more})
    assume(less["verdict"] != "unknown")
    assert longer["kv_needed_mib"] >= less["kv_needed_mib"]
    assert (less["verdict"], longer["verdict"]) != ("wont_fit", "fits")


@given(choices(), some.floats(1, 200))
@settings(deadline=None, max_examples=60)
def test_more_memory_never_gives_a_shorter_window(choice: Any, gib: Any) -> None:
    small = ask(**{**choice, "gpu_total_gib": gib})
    large = ask(**{**choice, "gpu_total_gib": gib + 1})
    assume(small["verdict"] != "unknown")
    assert large["max_context_tokens"] >= small["max_context_tokens"]


@given(choices())
@settings(deadline=None, max_examples=60)
def test_splitting_never_needs_less_in_total(choice: Any) -> None:
    whole = ask(**{**choice, "gpus": choice["gpus"][:1], "tp": 1})
    parts = ask(**choice)
    assume("unknown" not in (whole["verdict"], parts["verdict"]))
    assert demand(parts) >= demand(whole) - 1


@given(choices())
@settings(deadline=None, max_examples=60)
def test_the_longest_window_fits_and_one_step_more_does_not(choice: Any) -> None:
    longest = ask(**choice)["max_context_tokens"]
    assume(longest)
    assert ask(**{**choice, "n_ctx": longest})["verdict"] == "fits"
    if longest < 100_000_000:
        assert ask(**{**choice, "n_ctx": longest + 1})["verdict"] == "wont_fit"


@given(
    some.dictionaries(
        some.sampled_from(
            ("model", "runtime", "quant", "gpus", "n_ctx", "tp", "pp", "slots", "arch", "kv_dtype", "gpu_total_gib",
             "gpu_memory_utilization", "runtime_version", "model_size", "checkpoint_mib_per_gpu")
        ),
        some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20)
        | some.lists(some.text(max_size=9), max_size=3) | some.dictionaries(some.text(max_size=9), some.integers()),
    )
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_a_line_of_nonsense_is_unknown_with_a_reason(line: Any) -> None:
    answer = ask(**line)
    assert answer["verdict"] in ("fits", "wont_fit", "unknown")
    assert answer["reason"] or answer["verdict"] == "fits"
    json.dumps(answer)


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"vocab_size": 32000}, "num_hidden_layers"),
        ({"num_hidden_layers": -4}, "num_hidden_layers"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"num_hidden_layers": 32, "hidden_size": 4097, "num_attention_heads": 32}, "head_dim"),
        ({"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 5, "head_dim": 128}, "evenly"),
        ({"num_hidden_layers": 4, "layer_types": ["full_attention"] * 3}, "3 layers"),
        ({"num_hidden_layers": 1, "layer_types": ["telepathy"]}, "telepathy"),
        ({"num_hidden_layers": 32, "model_type": "deepseek_v4"}, "lacks compress_ratios"),
        ({"num_hidden_layers": 32, "model_type": "deepseek_ref"}, "not understood"),
        ({"num_hidden_layers": 32, "model_type": "brain2"}, "brain2 is not understood"),
        ({"num_hidden_layers": 32, "architectures": ["BrainForCausalLM"]}, "BrainForCausalLM is not understood"),
        ({"num_hidden_layers": 32, "num_attention_heads": 32, "head_dim": 128}, "hidden_size"),
    ],
)
def test_a_configuration_that_cannot_be_is_unknown_and_says_why(config: Any, missing: Any) -> None:
    answer = estimate_line(
        {"id": "one", "model": "a/b", "runtime": "vllm", "gpus": ["H100 80GB"], "n_ctx": 4096},
        knowledge(catalog(), {"a/b": config}),
        catalog(),
    )
    assert answer["verdict"] == "unknown"
    assert missing in answer["reason"]


@pytest.mark.parametrize("key", ["measured", "quote", "answerable"])
def test_a_line_that_carries_its_own_answer_is_refused(key: Any) -> None:
    with pytest.raises(UsageError):
        ask(model="gpt-oss-20b", runtime="vllm", **{key: {}})


@pytest.mark.parametrize("model", ["gemma-4-31b", "gpt-oss-20b", "llama-3.3-70b"])
@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_a_card_just_above_where_vllm_profiles_more_holds_no_less(model: Any, fraction: Any) -> None:
    windows = [
        ask(model=model, runtime="vllm", quant="AWQ", gpus=["a card"], gpu_total_gib=gib / 4, n_ctx=100,
            gpu_memory_utilization=fraction)["max_context_tokens"]
        for gib in range(270, 360)
    ]  # fmt: skip
    assert windows == sorted(windows)


@given(choices())
@settings(deadline=None, max_examples=60)
def test_an_llm_that_drafts_never_takes_nothing(choice: Any) -> None:
    alone = ask(**{key: value for key, value in choice.items() if not key.startswith("draft")})
    both = ask(**choice)
    assume("unknown" not in (alone["verdict"], both["verdict"]) and choice.get("draft"))
    assert both["kv_needed_mib"] > alone["kv_needed_mib"]
    assert both["max_context_tokens"] <= alone["max_context_tokens"]
    assert (alone["verdict"], both["verdict"]) != ("wont_fit", "fits")
    assert (both["per_gpu"][0]["draft_mib"] is None) == (choice["draft"] == "mtp")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"draft": "nobody"}, "no configuration of nobody"),
        ({"draft": 7}, "draft is 7"),
        ({"draft": "llama-3.2-1b", "draft_quant": "Q9_Z"}, "Q9_Z"),
        ({"draft": "llama-3.2-1b", "runtime": "exllamav3", "quant": "4.0 bpw"}, "leave --draft out"),
        ({"draft": "smollm2-135m", "runtime": "vllm", "quant": "AWQ", "tp": 2, "gpus": ["RTX 4090"] * 2}, "9 heads"),
    ],
)
def test_a_draft_that_cannot_be_sized_says_why(line: Any, said: Any) -> None:
    whole = {
        "model": "qwen2.5-coder-32b",
        "runtime": "llama.cpp",
        "quant": "Q4_K_M",
        "gpus": ["RTX 5090"],
        "n_ctx": 8192,
    }
    answer = ask(**{**whole, **line})
    assert answer["verdict"] == "unknown"
    assert said in answer["reason"]
