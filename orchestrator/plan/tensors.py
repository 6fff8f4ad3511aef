"""The weights of an llm tensor by tensor, as a runtime keeps them: how many elements, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.plan.shape import Layer, Shape

Role = Literal[
    "embedding",
    "head",
    "query_key_value",
    "query",
    "key",
    "value",
    "output",
    "gate_up",
    "gate",
    "up",
    "down",
    "experts_gate_up",
    "experts_gate",
    "experts_up",
    "experts_down",
    "router",
    "latent",
    "recurrent",
    "recurrent_mixed",
    "norm",
    "vision",
    "draft",
]


#: Families whose cache is understood and whose weights are not.
UNCOUNTED = {
    "deepseek_v4": "compressors",
    "kimi_linear": "delta attention",
    "kimi_k3": "delta attention",
}


@dataclass(frozen=True)
class Tensor:
    """One tensor on one card: what it is for, its elements there, its layer (None outside the layers)."""

    role: Role
    elements: int
    layer: int | None = None


def tensors(shape: Shape, tensor: int = 1, *, merged: bool = True) -> Iterator[Tensor]:
    """Give the tensors of one card of ``tensor`` that share each layer; raises Unknown naming what is missing.

    ``merged``: query, key and value in one, gate and up in one, as vLLM and SGLang keep them; a GGUF file keeps
    them apart.
    """
    for name in ("hidden", "vocab", "heads", "head_dim"):
        if not getattr(shape, name):
            raise Unknown(f"the configuration lacks {_KEYS[name]}, so the weights cannot be counted")
    what = shape.uncounted or UNCOUNTED.get(shape.family, "")
    if not what and any(layer.queries < 0 for layer in shape.layers):
        what = "layers without attention_other_setting"
    if what:
        raise Unknown(f"the weights of its {what} cannot be counted; give their size (--weight-bytes)")
    rows = ceil(shape.vocab / tensor / 64) * 64 if merged else shape.vocab
    yield Tensor("embedding", rows * shape.hidden)
    if not shape.tied:
        yield Tensor("head", rows * shape.hidden)
    for index, layer in enumerate(shape.layers):
        yield from _mixing(shape, layer, index, tensor, merged=merged)
        if layer.feed < 0:
            yield from _feeding(shape, index, tensor, merged=merged)
        else:
            yield from _dense(shape, layer.feed, index, tensor, merged=merged)
        yield Tensor("norm", 2 * shape.hidden, index)
    if shape.draft:
        yield Tensor("draft", 2 * shape.hidden**2, len(shape.layers) - 1)
    if shape.vision is not None and merged:
        yield from _vision(shape, tensor)


def parameters(shape: Shape) -> int:
    """Give how many weights the llm has in all."""
    return sum(tensor.elements for tensor in tensors(shape, merged=False))


_KEYS = {
    "hidden": "hidden_size",
    "vocab": "vocab_size",
    "heads": "num_attention_heads",
    "head_dim": "head_dim",
}


def _mixing(shape: Shape, layer: Layer, index: int, tensor: int, *, merged: bool) -> Iterator[Tensor]:
    """Give what mixes tokens in a layer: attention or a recurrence."""
    if layer.kind == "none":
        return
    if layer.kind == "latent":
        yield from _latent(shape, index, tensor, merged=merged)
        if layer.index:
            wide = shape.latent.query or shape.hidden if shape.latent else shape.hidden
            own = wide * shape.index_heads * layer.index + shape.hidden * (layer.index + shape.index_heads)
            yield Tensor("latent", own, index)
        return
    if layer.own:
        yield Tensor("recurrent", layer.own // tensor, index)
        return
    if layer.kind == "recurrent":
        yield from _recurrent(shape, index, tensor, merged=merged)
        return
    heads = ceil((layer.queries or shape.heads) / tensor)
    kv_heads = max(1, ceil(layer.heads / tensor))
    queries = heads * layer.key * shape.hidden * (2 if shape.output_gate else 1)
    keys = kv_heads * layer.key * shape.hidden
    values = 0 if shape.value_is_key and layer.kind == "full" else kv_heads * layer.value * shape.hidden
    if layer.index:
        yield Tensor("latent", shape.hidden * layer.index * (shape.index_heads + 1), index)
    if merged:
        yield Tensor("query_key_value", queries + keys + values, index)
    else:
        yield Tensor("query", queries, index)
        yield Tensor("key", keys, index)
        if values:
            yield Tensor("value", values, index)
    yield Tensor("output", heads * layer.value * shape.hidden, index)


def _latent(shape: Shape, index: int, tensor: int, *, merged: bool) -> Iterator[Tensor]:
    latent = shape.latent
    if latent is None or not latent.nope or not latent.value:
        raise Unknown("the configuration lacks qk_nope_head_dim or v_head_dim, so the weights cannot be counted")
    heads, hidden = ceil(shape.heads / tensor), shape.hidden
    width = latent.nope + latent.rope
    if latent.query:
        yield Tensor("latent", hidden * latent.query, index)
        yield Tensor("query", latent.query * heads * width, index)
    else:
        yield Tensor("query", hidden * heads * width, index)
    yield Tensor("latent", hidden * (latent.rank + latent.rope), index)
    yield Tensor("latent", latent.rank * heads * (latent.nope + latent.value), index)
    if merged:
        # Decoding multiplies by the two halves apart, so the runtime keeps them a second time.
        yield Tensor("latent", latent.rank * heads * (latent.nope + latent.value), index)
    yield Tensor("output", heads * latent.value * hidden, index)


def _recurrent(shape: Shape, index: int, tensor: int, *, merged: bool) -> Iterator[Tensor]:
    linear = shape.linear
    if linear is None:
        raise Unknown("the widths of its recurrent layers are not known, so the weights cannot be counted")
    keys, values = linear.key_heads * linear.key, linear.value_heads * linear.value
    mixed, gate = (2 * keys + values) // tensor, values // tensor
    if merged:
        yield Tensor("recurrent", (mixed + gate) * shape.hidden, index)
    else:
        yield Tensor("recurrent_mixed", mixed * shape.hidden, index)
        yield Tensor("recurrent", gate * shape.hidden, index)
    yield Tensor("norm", 2 * linear.value_heads * shape.hidden // tensor, index)
    yield Tensor("norm", linear.taps * (2 * keys + values) // tensor, index)
    yield Tensor("output", values // tensor * shape.hidden, index)


def _feeding(shape: Shape, index: int, tensor: int, *, merged: bool) -> Iterator[Tensor]:
    """Give what works on each token alone: a dense pair of matrices, or experts."""
    hidden = shape.hidden
    both = 2 if shape.gated else 1
    if shape.has_experts(index):
        width = ceil(shape.expert_width / tensor)
        wide = shape.expert_hidden or hidden
        total = shape.experts * width * wide
        if wide != hidden:
            yield Tensor("latent", 2 * hidden * wide, index)
        if merged or both == 1:
            yield Tensor("experts_gate_up", both * total, index)
        else:
            yield Tensor("experts_gate", total, index)
            yield Tensor("experts_up", total, index)
        yield Tensor("experts_down", total, index)
        yield Tensor("router", shape.experts * hidden, index)
        yield from _dense(shape, shape.shared_width, index, tensor, merged=merged)
        return
    if not shape.intermediate:
        raise Unknown("the configuration lacks intermediate_size, so the weights cannot be counted")
    yield from _dense(shape, shape.intermediate, index, tensor, merged=merged)


def _dense(shape: Shape, intermediate: int, index: int, tensor: int, *, merged: bool) -> Iterator[Tensor]:
    hidden, both = shape.hidden, 2 if shape.gated else 1
    width = ceil(intermediate / tensor)
    if not width:
        return
    if merged or both == 1:
        yield Tensor("gate_up", both * width * hidden, index)
    else:
        yield Tensor("gate", width * hidden, index)
        yield Tensor("up", width * hidden, index)
    yield Tensor("down", width * hidden, index)


def _vision(shape: Shape, tensor: int) -> Iterator[Tensor]:
    """Give the tower that reads pictures, and the matrix that leads from it to the llm."""
    vision = shape.vision
    if vision is None:
        return
    matrices = 3 if vision.gated else 2
    each = 4 * vision.hidden**2 + matrices * vision.hidden * vision.intermediate
    joined = vision.merge**2 * vision.hidden
    leads = joined**2 + joined * shape.hidden if vision.merge else vision.hidden * shape.hidden
    yield Tensor("vision", (vision.layers * each + leads) // tensor)
