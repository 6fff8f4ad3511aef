"""Families of llms by the names that configurations give them: those whose layers are understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.plan.families import FAMILIES
from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Families whose cache or layers follow rules that the planner has not learnt.
NOT_UNDERSTOOD = {"deepseek_ref": "its compressed and windowed attention"}

#: Families whose layers are those that the planner knows; another one is refused, however plain it looks.
UNDERSTOOD = frozenset(
    {
        "apertus",
        "arcee",
        "cohere",
        "cohere2",
        "deepseek_v2",
        "deepseek_v3",
        "dots1",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone",
        "exaone4",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gemma3n",
        "gemma3n_text",
        "gemma4",
        "gemma4_text",
        "glm4",
        "glm4_moe",
        "glm4_moe_lite",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "granitemoe",
        "granitemoeshared",
        "hunyuan_v1_dense",
        "internlm2",
        "internlm3",
        "kimi_k2",
        "kimi_k25",
        "kimi_vl",
        "llama",
        "llama4",
        "llama4_text",
        "llava",
        "llava_next",
        "mimo",
        "minimax_m2",
        "ministral",
        "ministral3",
        "mistral",
        "mistral3",
        "mixtral",
        "nemotron",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "phi",
        "phi3",
        "phimoe",
        "pixtral",
        "qwen2",
        "qwen2_5_vl",
        "qwen2_moe",
        "qwen2_vl",
        "qwen3",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_moe",
        "qwen3_next",
        "qwen3_vl",
        "qwen3_vl_moe",
        "qwen3_vl_moe_text",
        "qwen3_vl_text",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
#: Families whose feeding layer has no gate: two matrices, not three.
WITHOUT_GATE = frozenset({"phi", "starcoder2", "nemotron", "nemotron_h", "gpt_neox", "arcee", "apertus"})


def family_of(fields: Mapping[str, Any]) -> str:
    """Give the family as ``model_type`` names it, else as the name of its code does; empty where neither is said."""
    told, names = str(fields.get("model_type") or ""), fields.get("architectures")
    if told or not isinstance(names, list) or not names:
        return told
    bare = str(names[0]).removesuffix("ForCausalLM").removesuffix("ForConditionalGeneration").casefold()
    found = sorted(one for one in UNDERSTOOD | FAMILIES if one.replace("_", "") == bare)
    return found[0] if found else str(names[0])


def refuse_strangers(family: str) -> None:
    """Refuse a family that the planner has not learnt; a configuration that names none is told by its numbers."""
    if family in NOT_UNDERSTOOD:
        raise Unknown(f"{family} is not understood: {NOT_UNDERSTOOD[family]}")
    if family and family not in UNDERSTOOD and family not in FAMILIES:
        raise Unknown(f"the architecture {family} is not understood")
