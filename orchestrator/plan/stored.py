"""What a configuration's ``quantization_config`` says: how the weights are stored, and which were left alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.plan.numbers import table

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where the makers of quantised llms list what they left in 16 bits.
_LISTS = ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers")
#: What a name in such a list is about, the first that stands in it.
_PARTS = (
    ("shared", re.compile(r"shared_?expert")),
    ("recurrent", re.compile(r"linear_attn|mamba|mixer")),
    ("attention", re.compile(r"attn|attention")),
    ("experts", re.compile(r"experts")),
    ("feeding", re.compile(r"(mlp|ffn)(\.|\\|\*|$)(?!.*(router|gate$|gate\.))")),
)
#: Weights that share a scale, at most, where the scales count.
SMALL_GROUP = 32
_LAYER = re.compile(r"layers\.(\d+)\.")


def stored_as(fields: Mapping[str, Any]) -> str:
    """Give how the weights are stored, as a quantisation is named; empty where the configuration is silent."""
    told = table(fields, "quantization_config")
    method, algorithm = str(told.get("quant_method") or ""), str(told.get("quant_algo") or "")
    if "mxfp4" in f"{method} {told.get('format')}":
        return "mxfp4"
    if algorithm.casefold() in ("nvfp4", "fp8"):
        return algorithm
    groups = [one for one in table(told, "config_groups").values() if isinstance(one, dict)]
    kinds = {(table(one, "weights").get("num_bits"), table(one, "weights").get("group_size")) for one in groups}
    if len(kinds) != 1:
        return method
    bits, group = kinds.pop()
    if not bits:
        return method
    # A scale of 16 bits for each small group is half a bit a weight; for 128 weights it is next to nothing.
    return f"{bits} bits" if isinstance(group, int) and 0 < group <= SMALL_GROUP else f"{method} w{bits}a16"


def left_alone(fields: Mapping[str, Any]) -> frozenset[tuple[str, int]]:
    """Give the parts that stay in 16 bits, each with its layer, -1 for all layers."""
    told = table(fields, "quantization_config")
    names = [name for one in _LISTS if isinstance(listed := told.get(one), list) for name in listed]
    found = set()
    for name in names:
        text = str(name).casefold()
        part = next((part for part, pattern in _PARTS if pattern.search(text)), None)
        if part is None or re.search(r"vision|mm_projector|mtp", text):
            continue
        layer = _LAYER.search(text)
        found.add((part, int(layer.group(1)) if layer else -1))
    return frozenset(found)
