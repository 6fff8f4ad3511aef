"""Reads what a hub said of a repository into a row's parts. Pure; what is not said is not guessed."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.rows import LlmQuant, WeightFile
from orchestrator.plan.tensors import tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.catalog.rows import Catalog
    from orchestrator.lock.describe import Description, Packed
    from orchestrator.plan.shape import Shape

#: Numbers of a ``config.json`` that a row keeps: those that an llm's shape is read from.
KEPT = (
    "model_type", "architectures", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "hidden_size", "intermediate_size", "vocab_size", "tie_word_embeddings", "max_position_embeddings", "layer_types",
    "sliding_window", "sliding_window_pattern", "use_sliding_window", "attention_chunk_size",
    "full_attention_interval", "n_full_attention_layers", "n_sliding_layers", "hybrid_override_pattern",
    "num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size",
    "n_shared_experts", "shared_expert_intermediate_size", "first_k_dense_replace", "interleave_moe_layer_step",
    "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "linear_num_key_heads",
    "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim",
    "mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel", "global_head_dim",
    "num_global_key_value_heads", "attention_k_eq_v", "attn_output_gate", "gated_mlp", "partial_rotary_factor",
    "rope_scaling", "moe_layer_freq", "num_dense_layers", "expert_layer_period",
    "intermediate_size_mlp", "moe_latent_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size",
    "num_shared_experts", "moe_num_experts", "moe_num_shared_experts", "moe_k", "moe_layer_start_index",
    "num_experts_per_token", "num_kv_shared_layers", "hidden_size_per_layer_input",
    "mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv", "mamba_expand",
    "mamba_dt_rank", "attn_layer_period", "attn_layer_offset", "conv_L_cache", "block_ff_dim", "block_multiple_of",
    "block_auto_adjust_ff_dim", "index_head_dim", "index_n_heads", "indexer_types", "compress_ratios",
    "linear_attn_config", "sparse_attention_config", "hybrid_layer_pattern", "swa_num_key_value_heads",
    "swa_num_attention_heads", "swa_head_dim", "swa_v_head_dim", "sliding_window_size", "attention_other_setting",
    "num_attention_groups", "block_configs", "first_k_dense_replace",
)  # fmt: skip
_OF_VISION = ("num_hidden_layers", "depth", "hidden_size", "intermediate_size")
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
#: A file named after a quantisation whose layers have so many times its bits a weight, or as many times fewer, lies.
OTHER_BITS = 1.5

_GGUF_NAME = re.compile(r"(?:UD-)?(?:I?Q\d[A-Z0-9_]*|MXFP4[A-Z0-9_]*|BF16|F16|F32)$", re.IGNORECASE)
_PART, _NUMBERED = re.compile(r"-\d{5}-of-\d{5}$"), re.compile(r"-\d{5}-of-(?=\d{5}\.)")


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the numbers that a row keeps, those of the text's part over those of the whole."""
    inner = config.get("text_config")
    fields = {**config, **(inner if isinstance(inner, dict) else {})}
    kept = {name: fields[name] for name in KEPT if fields.get(name) is not None}
    vision = config.get("vision_config")
    if isinstance(vision, dict):
        kept["vision_config"] = {name: vision[name] for name in _OF_VISION if vision.get(name) is not None}
    return kept


def active_share(shape: Shape) -> float:
    """Give the share of the weights that one token goes through: of the experts only those that are chosen."""
    total = experts = 0
    for one in tensors(shape, merged=False):
        total += one.elements
        experts += one.elements if one.role.startswith("experts") else 0
    used = shape.experts_used / shape.experts if shape.experts else 1.0
    return 1 - experts / total * (1 - used)


def sampling(generation: Mapping[str, Any]) -> dict[str, float]:
    """Give the sampling that a repository advises."""
    said = {name: generation.get(name) for name in SAMPLING}
    return {
        name: float(value)
        for name, value in said.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def quants(described: Description, catalog: Catalog) -> tuple[tuple[LlmQuant, ...], tuple[str, ...]]:
    """Give the quantisations that the catalog knows, and for the rest why they are left out."""
    found: dict[str, LlmQuant] = {}
    left_out = list(described.left_out)
    plain = described.plain
    if plain is not None:
        name = plain_quant(described.config or {}, catalog)
        if name is None:
            left_out.append(f"safetensors: {_stored(described.config or {})} is no quantisation of the catalog")
        else:
            found[name] = LlmQuant(
                quant=name,
                weights_bytes=plain.bytes,
                files=_files(described, plain.members),
                source=f"{plain.read_from} of its safetensors at {described.commit}",
            )
    for one in described.packed:
        named = gguf_quant(one.name, catalog)
        if named is None or named in found:
            left_out.append(f"{one.name}: another file is the {named} of this row")
        elif (reason := _other_bits(one, named, catalog)) is not None:
            left_out.append(f"{one.name}: {reason}")
        else:
            found[named] = _packed_quant(described, one, named)
    return tuple(found.values()), tuple(left_out)


def _packed_quant(described: Description, one: Packed, name: str) -> LlmQuant:
    types = ", ".join(f"{count} {kind}" for kind, count in one.header.types.items())
    return LlmQuant(
        quant=name,
        weights_bytes=one.header.bytes,
        files=_files(described, one.members),
        source=f"header of {PurePosixPath(one.members[0]).name} at {described.commit}: tensors {types}",
    )


def _other_bits(one: Packed, name: str, catalog: Catalog) -> str | None:
    """Give why a file cannot be what its name says, None where it can."""
    said, has = catalog.quants[name].bits_per_weight, one.header.layer_bits
    if has and not said / OTHER_BITS <= has <= said * OTHER_BITS:
        return f"its name says {name}, and its layers have {has:.2f} bits a weight"
    return None


def gguf_quant(path: str, catalog: Catalog) -> str | None:
    """Give the catalog's quantisation that a GGUF file's name ends with, None where it has none."""
    stem = _PART.sub("", PurePosixPath(path).name.removesuffix(".gguf"))
    found = _GGUF_NAME.search(stem)
    if found is None or (found.start() and stem[found.start() - 1] not in "-._"):
        return None
    said = found.group().casefold()
    names = (row.name for row in catalog.quants.values() if row.format == "gguf")
    return next((name for name in names if name.casefold() in (said, f"{said}-gguf")), None)


def plain_quant(config: Mapping[str, Any], catalog: Catalog) -> str | None:
    """Give the catalog's quantisation that a configuration says its safetensors are stored in, None for another."""
    how = _quantised(config)
    method = str(how.get("quant_method") or "").casefold()
    if method == "compressed-tensors":
        method = str(how.get("format") or "").casefold()
    if method == "modelopt":
        method = str(how.get("quant_algo") or "").casefold()
    if method == "exl3":
        method = f"exl3-{how.get('bits')}"
    bits = how.get("bits")
    names = {
        "fp8": "FP8",
        "fbgemm_fp8": "FP8",
        "float-quantized": "FP8",
        "nvfp4": "NVFP4",
        "nvfp4-pack-quantized": "NVFP4",
        "mxfp4": "MXFP4",
        "exl3-4.0": "EXL3-4.0",
        "exl3-4": "EXL3-4.0",
    }
    if bits == 4:  # noqa: PLR2004 - a width in bits
        names |= {"awq": "AWQ-INT4", "gptq": "GPTQ-INT4"}
        names |= dict.fromkeys(("auto-round", "auto_round", "intel/auto-round"), "AutoRound-INT4")
    name = names.get(method) if how else _unquantised(config)
    return name if name in catalog.quants else None


def _unquantised(config: Mapping[str, Any]) -> str | None:
    return "BF16" if _type(config) in ("bfloat16", "float16") else None


def _type(config: Mapping[str, Any]) -> str:
    inner = config.get("text_config")
    tables = (config, inner if isinstance(inner, dict) else {})
    said = (table.get(key) for table in tables for key in ("dtype", "torch_dtype"))
    return str(next((one for one in said if one), "")).removeprefix("torch.")


def _quantised(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    tables = (config, inner if isinstance(inner, dict) else {})
    found = (table.get("quantization_config") for table in tables)
    return next((one for one in found if isinstance(one, dict) and one), {})


def _stored(config: Mapping[str, Any]) -> str:
    """Say how safetensors are stored, for a sentence."""
    how = _quantised(config)
    said = [str(how[key]) for key in ("quant_method", "format", "quant_algo", "bits") if how.get(key) is not None]
    return " ".join(said) or _type(config) or "a type that config.json does not say"


def _files(described: Description, members: Sequence[str]) -> tuple[WeightFile, ...]:
    """Give files by name, all parts of a set by one glob."""
    revision = described.asked if described.asked != "main" else None
    globs = dict.fromkeys(_NUMBERED.sub(r"-*-of-", one) for one in members) if len(members) > 1 else members
    return tuple(
        WeightFile(origin="hub", repository=described.repository, revision=revision, member=one) for one in globs
    )
