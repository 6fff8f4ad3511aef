"""Layers of families that mix attention with Mamba or short convolutions: what each keeps, and its own matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.plan.numbers import first, need, number
from orchestrator.plan.shape import Layer, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Defaults of the architectures' own configuration classes, where a configuration is silent.
HEAD_WIDTH, GROUPS, TAPS = 64, 8, 4
#: Jamba: every eighth layer from the fourth on is attention, and Mamba's inner width is twice the llm's.
JAMBA_EVERY, JAMBA_FIRST, JAMBA_WIDER, JAMBA_STATE = 8, 4, 2, 16


@dataclass(frozen=True)
class _Mamba:
    """Heads, widths and taps of Mamba-2 layers, in elements."""

    heads: int
    width: int
    state: int
    groups: int
    taps: int

    def layer(self, hidden: int, feed: int = -1) -> Layer:
        """Give the layer: its state, the last taps of what is mixed, and its matrices in and out (mamba_mixer2.py)."""
        inner, shared = self.heads * self.width, 2 * self.groups * self.state
        leads = hidden * (2 * inner + shared + self.heads)
        return Layer(
            "recurrent",
            state=inner * self.state,
            convolution=(self.taps - 1) * (inner + shared),
            feed=feed,
            own=leads + inner * hidden + self.taps * (inner + shared),
        )


def nemotron_h(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """Nemotron-H and Nemotron 3: a letter a layer, and each layer does one thing: mixes tokens, or feeds."""
    letters = fields.get("hybrid_override_pattern")
    if not isinstance(letters, str) or not letters:
        raise Unknown("the configuration lacks hybrid_override_pattern, which says what each layer is")
    hidden = number(fields, "hidden_size")
    mamba = _Mamba(
        heads=need(fields, "mamba_num_heads"),
        width=number(fields, "mamba_head_dim") or HEAD_WIDTH,
        state=need(fields, "ssm_state_size"),
        groups=number(fields, "n_groups") or GROUPS,
        taps=number(fields, "conv_kernel") or TAPS,
    )
    kinds = {
        "M": mamba.layer(hidden, feed=0),
        "*": _attention(fields, feed=0),
        "-": Layer("none", feed=number(fields, "intermediate_size")),
        "E": Layer("none"),
    }
    strange = sorted(set(letters) - set(kinds))
    if strange:
        raise Unknown(f"layers of the kind {strange[0]} are not understood")
    if len(letters) != count:
        raise Unknown(f"{len(letters)} layers are listed and num_hidden_layers says {count}")
    return tuple(kinds[one] for one in letters)


def granite_hybrid(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """Granite 4: Mamba-2 in most layers, attention in the others."""
    mamba = _Mamba(
        heads=need(fields, "mamba_n_heads"),
        width=number(fields, "mamba_d_head") or HEAD_WIDTH,
        state=need(fields, "mamba_d_state"),
        groups=number(fields, "mamba_n_groups") or 1,
        taps=number(fields, "mamba_d_conv") or TAPS,
    )
    kinds = {"mamba": mamba.layer(number(fields, "hidden_size")), "attention": _attention(fields)}
    return _named(fields, kinds, count)


def jamba(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """Jamba: Mamba of the first kind in most layers, attention in every eighth, experts in every second."""
    every = number(fields, "attn_layer_period") or JAMBA_EVERY
    start = number(fields, "attn_layer_offset") or JAMBA_FIRST
    hidden = need(fields, "hidden_size")
    inner = (number(fields, "mamba_expand") or JAMBA_WIDER) * hidden
    state, taps = number(fields, "mamba_d_state") or JAMBA_STATE, number(fields, "mamba_d_conv") or TAPS
    rank = number(fields, "mamba_dt_rank") or -(-hidden // 16)
    mamba = Layer(
        "recurrent",
        state=inner * state,
        convolution=(taps - 1) * inner,
        own=3 * hidden * inner + inner * (2 * rank + 3 * state + taps),
    )
    whole = _attention(fields)
    return tuple(whole if place % every == start else mamba for place in range(count))


def liquid(fields: Mapping[str, Any], count: int) -> tuple[Layer, ...]:
    """LFM2: short convolutions over a few tokens in most layers, attention in the others."""
    hidden, taps = need(fields, "hidden_size"), number(fields, "conv_L_cache") or 3
    short = Layer("recurrent", convolution=(taps - 1) * hidden, own=4 * hidden * hidden + taps * hidden)
    return _named(fields, {"conv": short, "full_attention": _attention(fields)}, count)


def _named(fields: Mapping[str, Any], kinds: Mapping[str, Layer], count: int) -> tuple[Layer, ...]:
    types = fields.get("layer_types")
    if not isinstance(types, list) or not types:
        raise Unknown("the configuration lacks layer_types")
    strange = sorted({str(one) for one in types} - set(kinds))
    if strange:
        raise Unknown(f"layers of the kind {strange[0]} are not understood")
    if len(types) != count:
        raise Unknown(f"{len(types)} layers are listed and num_hidden_layers says {count}")
    return tuple(kinds[str(one)] for one in types)


def _attention(fields: Mapping[str, Any], feed: int = -1) -> Layer:
    heads = need(fields, "num_attention_heads")
    shared = number(fields, "num_key_value_heads") or heads
    if heads % shared:
        raise Unknown(f"{heads} heads do not share {shared} key-value heads evenly")
    hidden = first(fields, "head_dim") * heads or need(fields, "hidden_size")
    if hidden % heads:
        raise Unknown(f"hidden_size {hidden} is no multiple of {heads} heads, and head_dim is missing")
    width = hidden // heads
    return Layer("full", heads=shared, key=width, value=width, feed=feed)


#: Families whose layers are told here.
MIXED: dict[str, Callable[[Mapping[str, Any], int], tuple[Layer, ...]]] = {
    "nemotron_h": nemotron_h,
    "granitemoehybrid": granite_hybrid,
    "jamba": jamba,
    "lfm2": liquid,
    "lfm2_moe": liquid,
}
