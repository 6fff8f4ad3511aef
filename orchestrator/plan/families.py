"""Layers of families that tell them by keys of their own: sparse, compressed, mixed, or each of its own width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.plan.mixed import MIXED
from orchestrator.plan.numbers import first, need, number, table
from orchestrator.plan.shape import Layer, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Width and heads of the index where a configuration is silent: defaults of the families' own configuration classes.
INDEX_WIDTH, INDEX_HEADS = 128, {"deepseek_v32": 64, "glm_moe_dsa": 32, "minimax_m3": 4}
#: Tokens that DeepSeek V4 joins in its two compressed kinds of layer; 0 and 1: none. The finer kind has an index.
FINE, COARSE = 4, 128
JOINED = (0, 1, FINE, COARSE)
#: What a NAS feeding layer's width is a multiple of (DeciLM's own code).
FEED_STEP = 256


def own_layers(family: str, fields: Mapping[str, Any], count: int) -> tuple[Layer, ...] | None:
    """Give the layers of a family with rules of its own, None for any other; raises Unknown naming what is missing."""
    learnt = _LEARNT.get(family)
    if learnt is None:
        return None
    layers = learnt(fields, count)
    if len(layers) != count:
        raise Unknown(f"{len(layers)} layers are told and num_hidden_layers says {count}")
    return layers


def index_heads(family: str, fields: Mapping[str, Any]) -> int:
    """Give the heads of the index that picks what is read, 0 where there is none."""
    sparse = table(fields, "sparse_attention_config")
    return number(fields, "index_n_heads") or number(sparse, "sparse_num_index_heads") or INDEX_HEADS.get(family, 0)


def dense_layers(fields: Mapping[str, Any]) -> int:
    """Give how many layers come before the first with experts."""
    told = fields.get("moe_layer_freq")
    if isinstance(told, list) and 1 in told:
        return told.index(1)
    return first(fields, "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")


def _sparse_latent(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """DeepSeek V3.2 and GLM-5: latent attention over what an index picks; a shared index is kept by one layer."""
    width = number(fields, "index_head_dim") or INDEX_WIDTH
    kinds = _listed(fields, "indexer_types", count) or ["full"] * count
    key = need(fields, "kv_lora_rank") + need(fields, "qk_rope_head_dim")
    return tuple(Layer("latent", heads=1, key=key, index=width if kind == "full" else 0) for kind in kinds)


def _compressed(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """DeepSeek V4: each layer keeps a window, and most keep what came before it joined by 4 or by 128 tokens."""
    ratios = (_listed(fields, "compress_ratios", None) or [])[:count]
    if not ratios:
        raise Unknown("the configuration lacks compress_ratios, so its compressed cache cannot be counted")
    strange = next((one for one in ratios if one not in JOINED), None)
    if strange is not None:
        raise Unknown(f"compress_ratios names {strange}, which is not understood")
    width, window = need(fields, "head_dim"), need(fields, "sliding_window")
    index = number(fields, "index_head_dim") or INDEX_WIDTH
    joined = {ratio: (ratio if ratio > 1 else 0, index if ratio == FINE else 0) for ratio in JOINED}
    return tuple(
        Layer("sliding", heads=1, key=width, window=window, ratio=joined[one][0], index=joined[one][1])
        for one in ratios
    )


def _kimi(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """Kimi Linear and K3: delta attention with a state for each sequence, and latent attention among it."""
    mixed = table(fields, "linear_attn_config")
    whole = _listed(mixed, "full_attn_layers", None)
    if not whole:
        raise Unknown("the configuration lacks linear_attn_config, which says which layers keep every token")
    heads, width = need(mixed, "num_heads"), need(mixed, "head_dim")
    taps = number(mixed, "short_conv_kernel_size") or 4
    latent = Layer("latent", heads=1, key=need(fields, "kv_lora_rank") + need(fields, "qk_rope_head_dim"))
    delta = Layer("recurrent", state=heads * width * width, convolution=3 * (taps - 1) * heads * width)
    # They are counted from one there.
    return tuple(latent if place + 1 in whole else delta for place in range(count))


def _minimax(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """MiniMax M3: grouped attention, over what an index picks in most layers."""
    sparse = table(fields, "sparse_attention_config")
    kinds = _listed(sparse, "sparse_attention_freq", count)
    if not kinds:
        raise Unknown("the configuration lacks sparse_attention_config, which says which layers keep an index")
    width, heads = need(fields, "head_dim"), need(fields, "num_key_value_heads")
    index = number(sparse, "sparse_index_dim") or INDEX_WIDTH
    return tuple(Layer("full", heads=heads, key=width, value=width, index=index if kind else 0) for kind in kinds)


def _mimo(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """MiMo V2: full and sliding layers, each kind with heads and widths of its own, keys wider than values."""
    pattern = _listed(fields, "hybrid_layer_pattern", count)
    if not pattern:
        raise Unknown("the configuration lacks hybrid_layer_pattern, which says which layers have a window")
    key, value = need(fields, "head_dim"), first(fields, "v_head_dim", "head_dim")
    full = Layer("full", heads=need(fields, "num_key_value_heads"), key=key, value=value)
    sliding = Layer(
        "sliding",
        heads=need(fields, "swa_num_key_value_heads"),
        key=number(fields, "swa_head_dim") or key,
        value=number(fields, "swa_v_head_dim") or value,
        window=first(fields, "sliding_window", "sliding_window_size"),
        queries=number(fields, "swa_num_attention_heads"),
    )
    return tuple(sliding if one else full for one in pattern)


def _step(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """Step 3.5 and 3.7: sliding layers with more query heads than the full ones."""
    kinds = _listed(fields, "layer_types", count)
    if not kinds:
        raise Unknown("the configuration lacks layer_types")
    other = table(fields, "attention_other_setting")
    width, heads = need(fields, "head_dim"), first(fields, "num_attention_groups", "num_key_value_heads")
    full = Layer("full", heads=heads, key=width, value=width)
    sliding = Layer(
        "sliding",
        heads=number(other, "num_attention_groups") or heads,
        key=width,
        value=width,
        window=need(fields, "sliding_window"),
        queries=number(other, "num_attention_heads") or -1,
    )
    return tuple(full if kind == "full_attention" else sliding for kind in kinds)


def _searched(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """Nemotron NAS: a search chose each layer's heads and width, and left some out."""
    blocks = _listed(fields, "block_configs", count)
    if not blocks:
        raise Unknown("the configuration lacks block_configs, which says what each layer is")
    return tuple(_block(block, fields) for block in blocks)


def _block(block: Any, fields: Mapping[str, Any]) -> Layer:
    if not isinstance(block, dict):
        raise Unknown(f"a block of block_configs is {block!r}")
    hidden, heads = need(fields, "hidden_size"), need(fields, "num_attention_heads")
    attention, feeding = table(block, "attention"), table(block, "ffn")
    if attention.get("replace_with_linear") or feeding.get("replace_with_linear"):
        raise Unknown("a block of block_configs is one matrix in place of attention, which is not understood")
    wide = feeding.get("ffn_mult")
    feed = 0
    if not feeding.get("no_op") and isinstance(wide, (int, float)):
        feed = -(-int(2 * wide * hidden / 3) // FEED_STEP) * FEED_STEP
    if attention.get("no_op"):
        return Layer("none", feed=feed)
    shared = number(attention, "n_heads_in_group")
    if not shared or heads % shared:
        raise Unknown(f"a block of block_configs shares {heads} heads by {shared}")
    width = number(fields, "head_dim") or hidden // heads
    return Layer("full", heads=heads // shared, key=width, value=width, feed=feed)


def _listed(fields: Mapping[str, Any], name: str, count: int | None) -> list[Any]:
    """Give a list of a configuration, empty where it is silent; raises Unknown where it names another number."""
    found = fields.get(name)
    if not isinstance(found, list) or not found:
        return []
    if count is not None and len(found) != count:
        raise Unknown(f"{name} names {len(found)} layers and num_hidden_layers says {count}")
    return found


_LEARNT: dict[str, Callable[[Mapping[str, Any], int], tuple[Layer, ...]]] = {
    "deepseek_v32": _sparse_latent,
    "glm_moe_dsa": _sparse_latent,
    "deepseek_v4": _compressed,
    "kimi_linear": _kimi,
    "kimi_k3": _kimi,
    "minimax_m3": _minimax,
    "mimo_v2": _mimo,
    "mimo_v2_flash": _mimo,
    "step3p5": _step,
    "step3p7": _step,
    "nemotron-nas": _searched,
    **MIXED,
}
#: Families that are told by keys of their own.
FAMILIES = frozenset(_LEARNT)
