"""An llm's architecture as a GGUF header tells it, under the names of a ``config.json``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.lock.gguf import Lying

if TYPE_CHECKING:
    from orchestrator.lock.gguf import Header

#: llama.cpp's name of an architecture -> ``model_type``. Only those whose header says all that a configuration says.
FAMILIES = {
    "llama": "llama", "mistral3": "mistral3", "qwen2": "qwen2", "qwen2moe": "qwen2_moe", "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe", "qwen3next": "qwen3_next", "qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text",
    "gemma2": "gemma2", "gemma3": "gemma3_text", "phi3": "phi3", "deepseek2": "deepseek_v2", "gpt-oss": "gpt_oss",
    "glm4": "glm4", "glm4moe": "glm4_moe", "granite": "granite", "starcoder2": "starcoder2",
    "seed_oss": "seed_oss", "smollm3": "smollm3", "minimax-m2": "minimax_m2",
}  # fmt: skip

#: Every so many layers one attends to the whole window: llama.cpp's own rule where a header has no pattern.
PATTERNS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}
#: The same for attention among recurrent layers.
INTERVAL = 4

_NUMBERS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.sliding_window": "sliding_window",
    "full_attention_interval": "full_attention_interval",
}
_RECURRENT = {
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
}


class Strange(Exception):  # noqa: N818 - a header that is right and not understood
    """The header does not tell the architecture; the sentence says why."""


def configuration(header: Header) -> dict[str, Any]:
    """Give the architecture's numbers; raises Strange, and Lying where the tensors contradict them."""
    name = str(header.metadata.get("general.architecture", ""))
    if name not in FAMILIES:
        raise Strange(f"a GGUF header of the architecture {name or '(none)'} does not tell enough")
    config: dict[str, Any] = {"model_type": FAMILIES[name]}
    for key, ours in _NUMBERS.items():
        value = _one(header, f"{name}.{key}")
        if value is not None:
            config[ours] = value
    if "num_key_value_heads" not in config and f"{name}.attention.head_count_kv" in header.metadata:
        raise Strange("its key-value heads differ from layer to layer")
    width = _one(header, f"{name}.attention.value_length")
    if not config.get("kv_lora_rank") and width not in (None, config.get("head_dim")):
        raise Strange("its key and value heads are of unequal width")
    _of_tensors(header, config)
    _of_family(header, name, config)
    return config


def _one(header: Header, key: str) -> int | None:
    """Give a number; one that stands in a list for every layer counts where all are the same."""
    value = header.metadata.get(key)
    if isinstance(value, tuple):
        value = value[0] if len(set(value)) == 1 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _of_family(header: Header, name: str, config: dict[str, Any]) -> None:
    """Set what each family's header says in a way of its own."""
    if config.get("kv_lora_rank"):
        rope = _one(header, f"{name}.rope.dimension_count") or 0
        width = _one(header, f"{name}.attention.key_length_mla") or config.pop("head_dim", 0)
        config.pop("head_dim", None)
        values = _one(header, f"{name}.attention.value_length_mla") or _one(header, f"{name}.attention.value_length")
        config |= {"qk_rope_head_dim": rope, "qk_nope_head_dim": max(0, width - rope), "v_head_dim": values or 0}
    if config.get("sliding_window") and name in PATTERNS:
        said = _one(header, f"{name}.attention.sliding_window_pattern")
        config["sliding_window_pattern"] = said or PATTERNS[name]
    if f"{name}.ssm.state_size" in header.metadata:
        config |= {ours: _one(header, f"{name}.{key}") or 0 for key, ours in _RECURRENT.items()}
        inner, heads = _one(header, f"{name}.ssm.inner_size") or 0, config["linear_num_value_heads"]
        config["linear_value_head_dim"] = inner // heads if heads else 0
        config.setdefault("full_attention_interval", INTERVAL)
    drafting = _one(header, f"{name}.nextn_predict_layers") or 0
    config["num_hidden_layers"] = config.get("num_hidden_layers", 0) - drafting


def _of_tensors(header: Header, config: dict[str, Any]) -> None:
    """Set what only the tensors tell, and refuse numbers that they contradict."""
    tensors = {one.name: one.widths for one in header.tensors}
    embedding = tensors.get("token_embd.weight", ())
    if len(embedding) != 2:  # noqa: PLR2004 - a matrix
        raise Lying("it carries no token embedding")
    config["vocab_size"] = embedding[1]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    layers = {int(found.group(1)) for name in tensors if (found := re.match(r"blk\.(\d+)\.", name))}
    said = config.get("num_hidden_layers", 0)
    if len(layers) != said or max(layers, default=-1) != said - 1:
        raise Lying(f"it says {said} layers and carries {len(layers)}")
    hidden = config.get("hidden_size")
    if embedding[0] != hidden:
        raise Lying(f"it says a width of {hidden} and its token embedding has {embedding[0]}")
    _heads_hold(tensors, config)


def _heads_hold(tensors: dict[str, tuple[int, ...]], config: dict[str, Any]) -> None:
    """Refuse key-value heads that the key's matrix has not: they decide how much the cache takes."""
    keys = next((widths for name, widths in tensors.items() if name.endswith(".attn_k.weight")), None)
    heads, queries = config.get("num_key_value_heads"), config.get("num_attention_heads")
    if keys is None or config.get("kv_lora_rank") or not queries:
        return
    width = config.get("head_dim") or config["hidden_size"] // queries
    expected = (heads or queries) * width
    if keys[-1] != expected:
        raise Lying(f"it says {heads or queries} key-value heads of {width} and its keys are {keys[-1]} wide")
