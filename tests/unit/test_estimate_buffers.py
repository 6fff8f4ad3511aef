"""What runtimes lay out beside weights and cache, held against buffers that they logged."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.plan import estimate_line, knowledge
from orchestrator.plan.buffers import Step, buffers
from orchestrator.plan.compute import Run, graphs, sglang_mib
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.version import counts_graphs, counts_own_reserve
from tests.unit.planning import catalog


def shape(name: Any) -> Any:
    return shape_of(catalog().llms[name].config)


def ask(**line: Any) -> Any:
    return estimate_line({"id": "one", **line}, knowledge(catalog(), {}), catalog())


def test_two_cards_in_turn_hold_four_copies_of_the_mask() -> None:
    """Logged: CUDA0 1244.06 MiB, CUDA1 1021.07 MiB, 131072 tokens, ``-ub 512``."""
    first, last = buffers(shape("qwen3.6-35b-a3b"), Step(512, in_turn=True), 2)
    assert first.mib(131072) == pytest.approx(1244, abs=5)
    assert last.mib(131072) == pytest.approx(1021, abs=40)


def test_one_card_holds_the_mask_in_both_widths() -> None:
    """Logged: 613.01 MiB for Llama 3.1 8B, 16384 tokens, ``-ub 1024``; and with its unified memory no mask at all."""
    llama = shape_of({
        "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256,
    })  # fmt: skip
    (alone,) = buffers(llama, Step(1024), 1)
    assert alone.mib(16384) == pytest.approx(613, abs=1)
    (unified,) = buffers(llama, Step(1024, unified=True), 1)
    assert unified.mib(16384) == pytest.approx(517, abs=1)


@pytest.mark.parametrize(
    ("heads", "hidden", "context", "logged"),
    [
        (64, 8192, 8192, 1104.0),
        (64, 5120, 40960, 5252.01),
        (32, 2048, 16384, 1080.0),
        (32, 2048, 70016, 4757131264 / 2**20),
        (32, 4096, 2048, 164.0),
        (32, 4096, 32768, 2144.0),
    ],
)
def test_without_flash_attention_every_heads_scores_are_held(
    heads: Any, hidden: Any, context: Any, logged: Any
) -> None:
    """Logged of llms of 70, 32, 30 and 7 billion weights with ``-ub 512``; the last three are of other threads."""
    config = {
        "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": heads, "num_key_value_heads": 8,
        "head_dim": 128, "hidden_size": hidden, "intermediate_size": 14336, "vocab_size": 32000,
    }  # fmt: skip
    (alone,) = buffers(shape_of(config), Step(512, flash=False), 1)
    assert alone.mib(context) == pytest.approx(logged, abs=0.02)


def test_a_longer_window_never_needs_a_smaller_buffer() -> None:
    for step in (
        Step(512),
        Step(512, in_turn=True),
        Step(512, unified=True),
        Step(512, flash=False),
        Step(512, fork=True),
    ):
        for buffer in buffers(shape("glm-4.7-flash"), step, 3):
            needed = [buffer.mib(context) for context in range(1, 400_000, 9973)]
            assert needed == sorted(needed)


def test_graphs_are_a_part_of_their_own_and_counted_where_the_version_does() -> None:
    assert graphs(Run(batch=2048, requests=4)) == 4 + 3
    assert graphs(Run(batch=2048, requests=256)) == 51 + 35
    line = {"model": "qwen2.5-coder-32b", "runtime": "vllm", "quant": "AWQ", "gpus": ["RTX A6000"], "n_ctx": 8192}
    counted, not_counted = (ask(**line, runtime_version=version)["per_gpu"][0] for version in ("0.25.1", "0.32.0"))
    assert counted["graphs_mib"] == not_counted["graphs_mib"] > 0
    assert not_counted["kv_mib"] - counted["kv_mib"] == pytest.approx(counted["graphs_mib"], abs=0.01)
    assert ask(**line, enforce_eager=True)["per_gpu"][0]["graphs_mib"] == 0
    assert [counts_graphs(version) for version in ("0.19.0", "0.21.0", "0.27.1", "0.28.0", None)] == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_fewer_requests_leave_more_cache() -> None:
    line = {"model": "qwen2.5-coder-32b", "runtime": "vllm", "quant": "AWQ", "gpus": ["RTX A6000"], "n_ctx": 8192}
    assert ask(**line, max_num_seqs=8)["per_gpu"][0]["kv_mib"] > ask(**line)["per_gpu"][0]["kv_mib"]


def test_a_head_that_drafts_costs_weights_and_cache() -> None:
    """Logged of Qwen3.8-27B in 16 bits: 51.1 GiB without and 51.89 GiB with it."""
    line = {"runtime": "vllm", "quant": "none (bfloat16)", "gpus": ["H200"], "n_ctx": 8192}
    plain, drafting = (ask(model=f"Qwen3.8-27B{more}", **line) for more in ("", " MTP"))
    more = drafting["per_gpu"][0]["weights_mib"] - plain["per_gpu"][0]["weights_mib"]
    assert more == pytest.approx(0.79 * 1024, rel=0.01)
    assert drafting["kv_bytes_per_token"] == pytest.approx(plain["kv_bytes_per_token"] * 17 / 16)


def test_sglang_reckons_by_its_own_rule() -> None:
    assert sglang_mib(Run(0, 0, 1), 24564) == 512 + 2048 * 1.5 + 2 * 24 + 128
    assert sglang_mib(Run(0, 0, 1), 81559) == 512 + 8192 * 1.5 + 2 * 256 + 128
    assert [counts_own_reserve(version) for version in ("0.4.6", "0.5.23", "2025-05", "2026-06", None)] == [
        False, True, False, True, True,
    ]  # fmt: skip


def test_exllama_keeps_every_token_of_a_sliding_layer() -> None:
    """Logged: 4256 MiB more for 22528 tokens than for 2048, at 6 bits."""
    line = {"model": "gemma-3-27b", "runtime": "exllamav3", "quant": "exl3 5.0 bpw", "kv_dtype": "q6",
            "gpus": ["RTX 4090"], "arch": {"n_layer": 62, "n_head": 32, "n_head_kv": 16, "head_dim": 128,
            "n_embd": 5376, "n_ff": 21504, "n_vocab": 262208, "sliding_window": 1024}}  # fmt: skip
    short, long = (ask(**line, n_ctx=context)["kv_needed_mib"] for context in (2048, 22528))
    assert long - short == pytest.approx(4256, rel=0.06)


@pytest.mark.parametrize(
    ("line", "confidence"),
    [
        (
            {"model": "qwen2.5-coder-32b", "runtime": "llama.cpp", "quant": "Q4_K_M", "weight_bytes": 19850000000},
            "exact",
        ),
        ({"model": "qwen2.5-coder-32b", "runtime": "llama.cpp", "quant": "Q4_K_M"}, "estimated"),
        ({"model": "qwen2.5-coder-32b", "runtime": "vllm", "quant": "AWQ", "weight_bytes": 19000000000}, "estimated"),
        ({"model": "qwen2.5-coder-32b", "runtime": "tensorrt_llm", "quant": "FP8"}, "lower_bound"),
    ],
)
def test_confidence_is_told_by_what_the_figures_rest_on(line: Any, confidence: Any) -> None:
    assert ask(**line, gpus=["RTX A6000"], n_ctx=8192)["confidence"] == confidence
