"""Families that tell their layers by keys of their own: what they keep, and which key is missing where none tells."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.plan.cache import Store, growth, token_bytes
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.shape import Unknown
from orchestrator.plan.tensors import parameters
from tests.unit.planning import catalog

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
