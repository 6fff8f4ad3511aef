"""Parts of an llm that configurations name in many ways: shared experts, layers that borrow another's cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.plan.numbers import first, number
from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.plan.shape import Layer


#: Width of Llama 4's layers without experts where a configuration is silent (its own configuration class).
LLAMA_DENSE = 16384


def dense_width(family: str, fields: Mapping[str, Any]) -> int:
    """Give the width of what feeds each token in a layer without experts."""
    width = number(fields, "intermediate_size")
    if family.startswith("llama4") and number(fields, "num_local_experts"):
        return number(fields, "intermediate_size_mlp") or LLAMA_DENSE
    if family == "granitemoehybrid" and not number(fields, "num_local_experts"):
        return number(fields, "shared_intermediate_size") or width
    if family == "lfm2" and fields.get("block_auto_adjust_ff_dim"):
        # Two thirds of what is told, in whole steps (its own code).
        step = number(fields, "block_multiple_of") or 256
        return -(-int(2 * (number(fields, "block_ff_dim") or width) / 3) // step) * step
    return width


def pattern(fields: Mapping[str, Any]) -> int:
    """Give every how-manyth layer keeps all tokens, as a number or as letters (``LLLG``); 0 where it is not said."""
    told = fields.get("sliding_window_pattern")
    if isinstance(told, str) and told.endswith("G") and set(told[:-1]) == {"L"}:
        return len(told)
    return number(fields, "sliding_window_pattern")


def shared_width(family: str, fields: Mapping[str, Any], width: int) -> int:
    """Give the width of what works beside the experts on every token, 0 where nothing does."""
    if family.startswith("gemma4"):
        # Its experts work beside a dense pair of matrices in every layer.
        return number(fields, "intermediate_size")
    if family.startswith("llama4"):
        # One more expert works on every token, whose number no key tells (its own code).
        return width
    told = first(
        fields,
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
    )
    return told or first(fields, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts") * width


def without_own_cache(fields: Mapping[str, Any], layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Give the layers with no cache in the last ones that read an earlier layer's (Gemma 3n and 4's small llms)."""
    borrowed = number(fields, "num_kv_shared_layers")
    if not borrowed:
        return layers
    if borrowed >= len(layers):
        raise Unknown(f"num_kv_shared_layers is {borrowed} of {len(layers)} layers, so none would keep a cache")
    kept = len(layers) - borrowed
    return (*layers[:kept], *(replace(one, kind="none", heads=0, key=0, value=0) for one in layers[kept:]))


def uncounted(family: str, fields: Mapping[str, Any]) -> str:
    """Give what is there whose weights the configuration does not tell, empty where all can be counted."""
    if number(fields, "hidden_size_per_layer_input") or number(fields, "num_kv_shared_layers"):
        return "embeddings of each layer"
    letters = fields.get("hybrid_override_pattern")
    if family == "nemotron_h" and isinstance(letters, str) and "E" in letters:
        # Its experts work in a width of their own in some llms: a configuration cut short does not say which.
        whole = "moe_latent_size" in fields or "moe_shared_expert_intermediate_size" in fields
        return "" if whole else "experts without moe_shared_expert_intermediate_size"
    return ""
