"""Families that tell their layers by keys of their own: what they keep, and which key is missing where none tells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.line.described import architecture
from orchestrator.plan.cache import Store, growth, state_bytes, token_bytes
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.shape import Unknown
from orchestrator.plan.tensors import parameters
from orchestrator.plan.weights import card_mib, storage_of
from tests.unit.planning import catalog

CONFIGS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "fixtures" / "ground_truth" / "configs.jsonl").read_text().splitlines()
]
LATENT = {
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "vocab_size": 129280, "kv_lora_rank": 512,
    "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "tie_word_embeddings": False,
}  # fmt: skip
SMALL = {"num_hidden_layers": 4, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
         "hidden_size": 8192, "intermediate_size": 28672, "vocab_size": 128256}  # fmt: skip


def store(runtime: Any, dtype: Any = "bfloat16", **more: Any) -> Any:
    return Store(runtime, dtype, dtype, **more)


def test_a_sparse_latent_layer_also_keeps_its_index() -> None:
    sparse = shape_of({**LATENT, "model_type": "deepseek_v32"})
    assert token_bytes(sparse, store("vllm")) == 61 * (576 * 2 + 128 + 4)
    assert token_bytes(sparse, store("llama_cpp", "f16")) == 61 * (576 + 128) * 2
    plain = shape_of({**LATENT, "model_type": "deepseek_v3"})
    assert parameters(sparse) - parameters(plain) == 61 * (1536 * 64 * 128 + 7168 * (128 + 64))


def test_layers_that_share_an_index_keep_one() -> None:
    shared = ["full" if place % 4 == 0 else "shared" for place in range(61)]
    sparse = shape_of({**LATENT, "model_type": "glm_moe_dsa", "indexer_types": shared})
    assert token_bytes(sparse, store("vllm")) == 61 * 576 * 2 + 16 * 132


def test_a_compressed_cache_grows_as_it_was_logged() -> None:
    """Logged of DeepSeek V4 Flash with q8_0: 145.55 MiB of compressed cache at 32K, 547.27 at 128K, windows apart."""
    whole = growth(shape_of(catalog().llms["deepseek-v4-flash"].config), store("llama_cpp", "q8_0"))
    grown = whole.bytes_at(131072) - whole.bytes_at(32768)
    assert grown / 2**20 == pytest.approx(547.27 - 145.55, abs=0.1)
    with pytest.raises(Unknown, match="how vllm packs"):
        token_bytes(shape_of(catalog().llms["deepseek-v4-flash"].config), store("vllm"))


def test_delta_attention_keeps_a_state_and_only_latent_layers_grow() -> None:
    mixed = {"full_attn_layers": [4, 8], "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4}
    kimi = shape_of({**LATENT, "model_type": "kimi_linear", "num_hidden_layers": 8, "linear_attn_config": mixed})
    assert (kimi.count("latent"), kimi.count("recurrent")) == (2, 6)
    assert token_bytes(kimi, store("sglang")) == 2 * 576 * 2


def test_kinds_of_layers_have_heads_and_widths_of_their_own() -> None:
    mimo = shape_of({
        **SMALL, "model_type": "mimo_v2", "hybrid_layer_pattern": [0, 1, 1, 0], "head_dim": 192, "v_head_dim": 128,
        "num_key_value_heads": 4, "swa_num_key_value_heads": 8, "sliding_window": 128,
    })  # fmt: skip
    assert token_bytes(mimo, store("sglang")) == (2 * 4 + 2 * 8) * (192 + 128) * 2
    step = shape_of({
        **SMALL, "model_type": "step3p7", "layer_types": ["full_attention", *["sliding_attention"] * 3],
        "sliding_window": 512, "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8},
    })  # fmt: skip
    assert {layer.queries for layer in step.layers} == {0, 96}
    assert parameters(step) > parameters(shape_of({**SMALL, "model_type": "llama"}))


def test_a_searched_llm_is_counted_block_by_block() -> None:
    block = {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 5.25, "no_op": False}}
    none = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 2.625, "no_op": False}}
    config = {**SMALL, "model_type": "nemotron-nas", "num_key_value_heads": None, "intermediate_size": None}
    searched = shape_of({**config, "block_configs": [block, block, none, none]})
    assert token_bytes(searched, store("vllm")) == 2 * 2 * 8 * 128 * 2
    assert [layer.feed for layer in searched.layers] == [28672, 28672, 14336, 14336]
    two = parameters(shape_of({**SMALL, "model_type": "llama", "num_hidden_layers": 2}))
    assert parameters(searched) == two + 2 * (3 * 14336 * 8192 + 2 * 8192)


@pytest.mark.parametrize(
    ("family", "missing"),
    [
        ("deepseek_v4", "compress_ratios"),
        ("kimi_linear", "linear_attn_config"),
        ("minimax_m3", "sparse_attention_config"),
        ("mimo_v2_flash", "hybrid_layer_pattern"),
        ("step3p7", "layer_types"),
        ("nemotron-nas", "block_configs"),
    ],
)
def test_what_is_missing_is_named(family: Any, missing: Any) -> None:
    with pytest.raises(Unknown, match=missing):
        shape_of({**SMALL, "model_type": family})


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("deepseek_v4", {"compress_ratios": [0, 4, 7, 128], "sliding_window": 128}, "names 7"),
        ("deepseek_v4", {"compress_ratios": [0, 4], "sliding_window": 128}, "2 layers are told"),
        ("mimo_v2", {"hybrid_layer_pattern": [0, 1], "swa_num_key_value_heads": 8}, "names 2 layers"),
        ("nemotron-nas", {"block_configs": ["a"] * 4}, "is 'a'"),
        ("nemotron-nas", {"block_configs": [{"attention": {"n_heads_in_group": 7}}] * 4}, "64 heads by 7"),
        ("nemotron-nas", {"block_configs": [{"attention": {"replace_with_linear": True}}] * 4}, "one matrix"),
    ],
)
def test_what_contradicts_itself_is_refused(family: Any, changes: Any, said: Any) -> None:
    with pytest.raises(Unknown, match=said):
        shape_of({**SMALL, "model_type": family, **changes})


#: Weights in all, in thousand millions, as their makers or llama.cpp's own print_info tell them.
TOLD = {
    "granite-4.0-h-small": 32.21,
    "granite-4.0-h-tiny": 6.94,
    "nemotron-3-nano-30b-a3b": 31.58,
    "jamba-1.5-mini": 51.57,
    "llama-4-scout": 107.77,
    "minimax-m2": 228.7,
    "ernie-4.5-21b-a3b": 21.83,
    "exaone-4.0-32b": 32.0,
    "c4ai-command-r": 34.98,
}


@pytest.mark.parametrize("name", TOLD)
def test_weights_add_up_to_what_is_told(name: Any) -> None:
    assert parameters(shape_of(catalog().shapes[name].config)) / 1e9 == pytest.approx(TOLD[name], rel=0.002)


def test_llama_4_has_a_shared_expert_and_wider_layers_between() -> None:
    maverick = {
        **catalog().shapes["llama-4-scout"].config, "num_local_experts": 128, "interleave_moe_layer_step": 2,
        "n_shared_experts": None,
    }  # fmt: skip
    assert parameters(shape_of(maverick)) / 1e9 == pytest.approx(400.7, rel=0.001)


def test_recurrent_states_are_as_llama_cpp_logged_them() -> None:
    """Logged of a 27B hybrid: 299.25 MiB for two sequences, 448.88 for three (R and S together)."""
    hybrid = shape_of(catalog().llms["qwen3.6-27b"].config)
    for sequences, logged in ((2, 299.25), (3, 448.88)):
        assert state_bytes(hybrid, store("llama_cpp", "f16"), sequences) / 2**20 == pytest.approx(logged, abs=0.01)


def test_layers_that_borrow_a_cache_keep_none() -> None:
    """Logged of Gemma 4's E4B: 4 of 42 layers keep all tokens, 2048 MiB for 131072; the last 18 borrow theirs."""
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 7
    fields = {
        "model_type": "gemma4_text", "num_hidden_layers": 42, "num_attention_heads": 8, "num_key_value_heads": 2,
        "head_dim": 256, "global_head_dim": 512, "hidden_size": 2560, "intermediate_size": 10240, "vocab_size": 262144,
        "sliding_window": 512, "layer_types": kinds, "num_kv_shared_layers": 18,
    }  # fmt: skip
    small = shape_of(fields)
    assert (small.count("full"), small.count("sliding"), small.count("none")) == (4, 20, 18)
    whole = growth(small, store("llama_cpp", "f16"))
    assert (whole.bytes_at(131072) - whole.bytes_at(4096)) / 2**20 == pytest.approx(2048 - 64)
    with pytest.raises(Unknown, match="embeddings of each layer"):
        parameters(small)
    with pytest.raises(Unknown, match="none would keep a cache"):
        shape_of({**fields, "num_kv_shared_layers": 42})


def test_experts_of_a_width_of_their_own_are_counted_only_where_it_is_told() -> None:
    nano = dict(catalog().shapes["nemotron-3-nano-30b-a3b"].config)
    narrow = parameters(shape_of({**nano, "moe_latent_size": 1024}))
    assert narrow < parameters(shape_of(nano))
    del nano["moe_shared_expert_intermediate_size"]
    with pytest.raises(Unknown, match="moe_shared_expert_intermediate_size"):
        parameters(shape_of(nano))


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("nemotron_h", {}, "hybrid_override_pattern"),
        ("nemotron_h", {"hybrid_override_pattern": "M*", "mamba_num_heads": 8, "ssm_state_size": 64}, "2 layers are"),
        ("nemotron_h", {"hybrid_override_pattern": "M*X-", "mamba_num_heads": 8, "ssm_state_size": 64}, "kind X"),
        ("granitemoehybrid", {}, "mamba_n_heads"),
        ("granitemoehybrid", {"mamba_n_heads": 8, "mamba_d_state": 64}, "layer_types"),
        ("lfm2", {"layer_types": ["conv", "rnn", "conv", "conv"]}, "kind rnn"),
        ("jamba", {"num_key_value_heads": 7}, "64 heads do not share 7"),
    ],
)
def test_mixed_layers_say_what_is_missing(family: Any, changes: Any, said: Any) -> None:
    with pytest.raises(Unknown, match=said):
        shape_of({**SMALL, "model_type": family, **changes})


def test_what_a_quantisation_left_alone_stays_in_16_bits() -> None:
    """Their makers' own files: 595 GB of Kimi K2.5 in 4 bits, 591 of it in NVFP4, where attention was left alone."""
    known = {line["model"]: line["fields"] for line in CONFIGS}
    for name, told in (("moonshotai/Kimi-K2.5", 595), ("nvidia/Kimi-K2.5-NVFP4", 591), ("openai/gpt-oss-120b", 65.2)):
        kept = shape_of(known[name])
        storage = storage_of(kept.stored_as)
        assert card_mib(kept, storage) * 2**20 / 1e9 == pytest.approx(told, rel=0.005), name


@pytest.mark.parametrize("line", CONFIGS, ids=lambda line: line["model"])
def test_a_row_keeps_what_its_shape_is_read_from(line: Any) -> None:
    fields = line["fields"]
    try:
        whole = shape_of(fields)
    except Unknown:
        return
    kept = shape_of(architecture(fields))
    assert replace(kept, stored_as="", left_alone=frozenset()) == replace(whole, stored_as="", left_alone=frozenset())
