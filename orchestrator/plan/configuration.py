"""Reads an llm's shape from the numbers of its own ``config.json``, and says which is missing or cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.plan.families import dense_layers, index_heads, own_layers
from orchestrator.plan.named import WITHOUT_GATE, family_of, refuse_strangers
from orchestrator.plan.numbers import first, need, number, share, table
from orchestrator.plan.parts import dense_width, pattern, shared_width, uncounted, without_own_cache
from orchestrator.plan.shape import Kind, Latent, Layer, Linear, Shape, Unknown, Vision
from orchestrator.plan.stored import left_alone, stored_as

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMED: dict[str, Kind] = {
    "full_attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "recurrent",
}


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Give the shape; raises Unknown naming the number that is missing, or what contradicts what."""
    fields = {**config, **table(config, "text_config")}
    family = family_of(fields)
    refuse_strangers(family)
    count, heads = need(fields, "num_hidden_layers"), number(fields, "num_attention_heads")
    hidden = number(fields, "hidden_size")
    layers = own_layers(family, fields, count)
    told = number(fields, "head_dim") or (number(fields, "v_head_dim") if layers is not None else 0)
    head_dim = told or _divided(hidden, heads)
    experts = first(fields, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    width = first(fields, "moe_intermediate_size", "intermediate_size")
    shared = shared_width(family, fields, width)
    if layers is None:
        layers = tuple(_layer(kind, fields, heads, head_dim) for kind in _kinds(fields, count))
        layers = without_own_cache(fields, layers)
    return Shape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_dim=head_dim,
        vocab=number(fields, "vocab_size"),
        intermediate=dense_width(family, fields),
        gated=bool(fields.get("gated_mlp", family not in WITHOUT_GATE)),
        experts=experts,
        experts_used=first(fields, "num_experts_per_tok", "num_experts_per_token", "moe_k"),
        expert_width=width if experts else 0,
        shared_width=shared if experts else 0,
        dense_layers=dense_layers(fields),
        expert_step=first(fields, "interleave_moe_layer_step", "expert_layer_period") or 1,
        expert_hidden=number(fields, "moe_latent_size"),
        uncounted=uncounted(family, fields),
        tied=bool(fields.get("tie_word_embeddings", False)),
        window=number(fields, "max_position_embeddings"),
        rotary=int(head_dim * share(fields, "partial_rotary_factor")),
        rotary_stretch=_stretch(fields),
        output_gate=bool(fields.get("attn_output_gate", False)) or family.startswith(("qwen3_5", "qwen3_next")),
        value_is_key=bool(fields.get("attention_k_eq_v", False)),
        latent=_latent(fields),
        linear=_linear(fields),
        vision=_vision(config, family),
        stored_as=stored_as(fields),
        left_alone=left_alone(fields),
        family=family,
        index_heads=index_heads(family, fields),
    )


def _kinds(fields: Mapping[str, Any], count: int) -> tuple[Kind, ...]:
    if count > 1000:  # noqa: PLR2004 - no llm is that deep
        raise Unknown(f"num_hidden_layers is {count}, which no llm has")
    listed = _listed(fields, count)
    if listed:
        return listed
    if number(fields, "kv_lora_rank"):
        return _all("latent", count)
    every = number(fields, "full_attention_interval")
    full, sliding = number(fields, "n_full_attention_layers"), number(fields, "n_sliding_layers")
    kinds = _all("full", count)
    if every:
        kinds = _patterned("recurrent", every, count)
    elif full and sliding:
        if full + sliding != count:
            raise Unknown(f"{full} full and {sliding} sliding layers are not num_hidden_layers, {count}")
        kinds = _spread("sliding", full, count)
    elif number(fields, "sliding_window") and (step := pattern(fields)):
        kinds = _patterned("sliding", step, count)
    elif number(fields, "attention_chunk_size"):
        kinds = _patterned("chunked", 4, count)
    return kinds


def _listed(fields: Mapping[str, Any], count: int) -> tuple[Kind, ...]:
    """Give the kinds that the configuration names layer by layer; empty where it doesn't."""
    types = fields.get("layer_types")
    if not isinstance(types, list) or not types:
        return ()
    names = [str(one) for one in types]
    strange = sorted(set(names) - set(_NAMED))
    if strange:
        raise Unknown(f"layers of the kind {strange[0]} are not understood")
    if len(names) != count:
        raise Unknown(f"{len(names)} layers are listed and num_hidden_layers says {count}")
    return tuple(_NAMED[one] for one in names)


def _all(kind: Kind, count: int) -> tuple[Kind, ...]:
    return tuple(kind for _ in range(count))


def _patterned(kind: Kind, every: int, count: int) -> tuple[Kind, ...]:
    full: Kind = "full"
    return tuple(full if (index + 1) % every == 0 else kind for index in range(count))


def _spread(kind: Kind, full: int, count: int) -> tuple[Kind, ...]:
    """Give ``full`` full layers evenly among others; where exactly they stand changes no sum."""
    mark: Kind = "full"
    marks = {(index + 1) * count // full - 1 for index in range(full)}
    return tuple(mark if index in marks else kind for index in range(count))


def _layer(kind: Kind, fields: Mapping[str, Any], heads: int, head_dim: int) -> Layer:
    if kind == "none":
        return Layer("none")
    if kind == "latent":
        return Layer("latent", heads=1, key=need(fields, "kv_lora_rank") + need(fields, "qk_rope_head_dim"))
    if kind == "recurrent":
        return _recurrent(fields)
    kv_heads = number(fields, "num_key_value_heads") or heads
    if not kv_heads:
        raise Unknown("the configuration lacks num_key_value_heads")
    if heads and heads % kv_heads:
        raise Unknown(f"{heads} heads do not share {kv_heads} key-value heads evenly")
    window = need(fields, "sliding_window") if kind == "sliding" else 0
    if kind == "chunked":
        window = need(fields, "attention_chunk_size")
    if kind == "full":
        kv_heads = number(fields, "num_global_key_value_heads") or kv_heads
        head_dim = number(fields, "global_head_dim") or head_dim
    if not head_dim:
        raise Unknown("the configuration lacks head_dim")
    return Layer(kind, heads=kv_heads, key=head_dim, value=head_dim, window=window)


def _recurrent(fields: Mapping[str, Any]) -> Layer:
    linear = _linear(fields)
    if linear is None:
        raise Unknown("the configuration lacks the heads of its recurrent layers (linear_num_key_heads and others)")
    mixed = 2 * linear.key_heads * linear.key + linear.value_heads * linear.value
    return Layer(
        "recurrent", state=linear.value_heads * linear.key * linear.value, convolution=(linear.taps - 1) * mixed
    )


def _linear(fields: Mapping[str, Any]) -> Linear | None:
    if not number(fields, "linear_num_key_heads"):
        return None
    return Linear(
        key_heads=need(fields, "linear_num_key_heads"),
        value_heads=need(fields, "linear_num_value_heads"),
        key=need(fields, "linear_key_head_dim"),
        value=need(fields, "linear_value_head_dim"),
        taps=need(fields, "linear_conv_kernel_dim"),
    )


def _latent(fields: Mapping[str, Any]) -> Latent | None:
    if not number(fields, "kv_lora_rank"):
        return None
    return Latent(
        rank=need(fields, "kv_lora_rank"),
        rope=need(fields, "qk_rope_head_dim"),
        nope=number(fields, "qk_nope_head_dim"),
        value=number(fields, "v_head_dim"),
        query=number(fields, "q_lora_rank"),
    )


def _vision(fields: Mapping[str, Any], family: str) -> Vision | None:
    tower = table(fields, "vision_config")
    if not tower or not number(tower, "hidden_size"):
        return None
    return Vision(
        layers=first(tower, "num_hidden_layers", "depth"),
        hidden=number(tower, "hidden_size"),
        intermediate=number(tower, "intermediate_size"),
        gated=bool(tower.get("gated", False)),
        merge=number(tower, "spatial_merge_size") if family.startswith("qwen") else 0,
    )


def _stretch(fields: Mapping[str, Any]) -> float:
    """Give by how much linear scaling lengthens the table of rotary positions."""
    scaling = table(fields, "rope_scaling")
    kind = scaling.get("rope_type") or scaling.get("type")
    factor = scaling.get("factor")
    return float(factor) if kind == "linear" and isinstance(factor, (int, float)) and factor >= 1 else 1.0


def _divided(hidden: int, heads: int) -> int:
    if not hidden or not heads:
        return 0
    if hidden % heads:
        raise Unknown(f"hidden_size {hidden} is no multiple of {heads} heads, and head_dim is missing")
    return hidden // heads
