"""An llm's shape, read from the numbers of its own ``config.json``: what each layer keeps, and how wide it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["full", "sliding", "chunked", "latent", "recurrent", "none"]

#: No llm has a number above this in its configuration, but for its longest window; one that says so is wrong.
ABSURD = 100_000_000

_NAMED: dict[str, Kind] = {
    "full_attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "recurrent",
}

#: Letters of ``hybrid_override_pattern`` (NVIDIA's Nemotron-H): Mamba-2, attention, and layers without a cache.
_LETTERS: dict[str, Kind] = {"M": "recurrent", "*": "full", "-": "none", "E": "none"}

#: Families whose cache or layers follow rules that the planner has not learnt.
NOT_UNDERSTOOD = {
    "deepseek_v4": "its compressed and windowed attention",
    "deepseek_v32": "the index cache of its sparse attention",
    "glm_moe_dsa": "the index cache of its sparse attention",
    "kimi_linear": "its mixture of linear and latent attention",
    "kimi_k3": "its mixture of linear and latent attention",
    "minimax_m3": "its sparse attention",
    "mimo_v2_flash": "its key and value heads of unequal width",
    "nemotron-nas": "its layers of unequal width",
    "step3p7": "its key-value heads, which differ from layer to layer",
}


class Unknown(Exception):  # noqa: N818 - an answer, not a fault
    """The planner does not understand, or lacks a number; the reason names which."""


@dataclass(frozen=True)
class Layer:
    """What one layer keeps for each token, and for each sequence.

    ``key`` and ``value`` are elements a token and key-value head; ``window`` is in tokens; ``state`` and
    ``convolution`` are elements a sequence of a recurrent layer.
    """

    kind: Kind
    heads: int = 0
    key: int = 0
    value: int = 0
    window: int = 0
    state: int = 0
    convolution: int = 0


@dataclass(frozen=True)
class Vision:
    """The tower that reads pictures, where an llm has one."""

    layers: int
    hidden: int
    intermediate: int
    gated: bool = False


@dataclass(frozen=True)
class Latent:
    """Ranks and widths of latent attention (MLA), in elements; ``query`` is 0 where queries are not compressed."""

    rank: int
    rope: int
    nope: int
    value: int
    query: int = 0


@dataclass(frozen=True)
class Linear:
    """Heads and widths of a gated delta-net layer, in elements."""

    key_heads: int
    value_heads: int
    key: int
    value: int
    taps: int


@dataclass(frozen=True)
class Shape:
    """An llm's shape. Widths in elements; 0 where the configuration is silent, ``experts`` 0 for a dense one."""

    layers: tuple[Layer, ...]
    hidden: int = 0
    heads: int = 0
    head_dim: int = 0
    vocab: int = 0
    intermediate: int = 0
    gated: bool = True
    experts: int = 0
    experts_used: int = 0
    expert_width: int = 0
    shared_width: int = 0
    dense_layers: int = 0
    expert_step: int = 1
    tied: bool = False
    window: int = 0
    rotary: int = 0
    rotary_stretch: float = 1.0
    output_gate: bool = False
    value_is_key: bool = False
    latent: Latent | None = None
    linear: Linear | None = None
    vision: Vision | None = None
    stored_as: str = ""
    family: str = ""

    @cached_property
    def memory(self) -> dict[Any, Any]:
        """Give a place where what follows from the shape alone is kept once worked out."""
        return {}

    @cached_property
    def groups(self) -> tuple[tuple[Layer, int], ...]:
        """Give each kind of layer once, with how many there are of it."""
        return tuple(Counter(self.layers).items())

    def undivided(self, tensor: int) -> str | None:
        """Give what ``tensor`` cards cannot share evenly, None where they can."""
        if tensor not in self.memory:
            self.memory[tensor] = self._undivided(tensor)
        found: str | None = self.memory[tensor]
        return found

    def _undivided(self, tensor: int) -> str | None:
        heads = [layer.heads for layer, _ in self.groups if layer.kind in ("full", "sliding", "chunked")]
        if self.heads % tensor:
            return f"{self.heads} heads"
        uneven = next((one for one in heads if one % tensor and tensor % one), None)
        if uneven:
            return f"{uneven} key-value heads"
        if self.linear and self.linear.key_heads % tensor:
            return f"{self.linear.key_heads} heads of its recurrent layers"
        widths = (self.intermediate, self.expert_width, self.shared_width)
        narrow = next((one for one in widths if one % tensor), None)
        return f"a width of {narrow}" if narrow else None

    def count(self, *kinds: Kind) -> int:
        """Give how many layers are of these kinds."""
        return sum(count for layer, count in self.groups if layer.kind in kinds)


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Give the shape; raises Unknown naming the number that is missing, or what contradicts what."""
    fields = {**config, **_table(config, "text_config")}
    family = str(fields.get("model_type") or "")
    if family in NOT_UNDERSTOOD:
        raise Unknown(f"{family}: {NOT_UNDERSTOOD[family]} is not understood")
    count, heads = _number(fields, "num_hidden_layers"), number(fields, "num_attention_heads")
    hidden = number(fields, "hidden_size")
    head_dim = number(fields, "head_dim") or _divided(hidden, heads)
    experts = _first(fields, "num_experts", "num_local_experts", "n_routed_experts")
    width = _first(fields, "moe_intermediate_size", "intermediate_size")
    shared = number(fields, "shared_expert_intermediate_size") or number(fields, "n_shared_experts") * width
    if family.startswith("gemma4"):
        # Its experts work beside a dense pair of matrices in every layer.
        shared = number(fields, "intermediate_size")
    return Shape(
        layers=tuple(_layer(kind, fields, heads, head_dim) for kind in _kinds(fields, count)),
        hidden=hidden,
        heads=heads,
        head_dim=head_dim,
        vocab=number(fields, "vocab_size"),
        intermediate=number(fields, "intermediate_size"),
        gated=bool(fields.get("gated_mlp", True)),
        experts=experts,
        experts_used=number(fields, "num_experts_per_tok"),
        expert_width=width if experts else 0,
        shared_width=shared if experts else 0,
        dense_layers=number(fields, "first_k_dense_replace"),
        expert_step=number(fields, "interleave_moe_layer_step") or 1,
        tied=bool(fields.get("tie_word_embeddings", False)),
        window=number(fields, "max_position_embeddings"),
        rotary=int(head_dim * float(fields.get("partial_rotary_factor") or 1)),
        rotary_stretch=_stretch(fields),
        output_gate=bool(fields.get("attn_output_gate", False)) or family.startswith(("qwen3_5", "qwen3_next")),
        value_is_key=bool(fields.get("attention_k_eq_v", False)),
        latent=_latent(fields),
        linear=_linear(fields),
        vision=_vision(config),
        stored_as=str(_table(fields, "quantization_config").get("quant_method") or ""),
        family=family,
    )


def number(fields: Mapping[str, Any], name: str) -> int:
    """Give a whole number of a configuration, 0 where it is silent; raises Unknown for what no llm has."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not 0 <= value <= ABSURD:
        raise Unknown(f"{name} is {value!r}, which no llm has")
    return value


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
    elif number(fields, "sliding_window") and number(fields, "sliding_window_pattern"):
        kinds = _patterned("sliding", number(fields, "sliding_window_pattern"), count)
    elif number(fields, "attention_chunk_size"):
        kinds = _patterned("chunked", 4, count)
    return kinds


def _listed(fields: Mapping[str, Any], count: int) -> tuple[Kind, ...]:
    """Give the kinds that the configuration names layer by layer; empty where it doesn't."""
    types = fields.get("layer_types")
    letters = fields.get("hybrid_override_pattern")
    if isinstance(letters, str) and letters:
        table, names = _LETTERS, [*letters]
    elif isinstance(types, list) and types:
        table, names = _NAMED, [str(one) for one in types]
    else:
        return ()
    strange = sorted(set(names) - set(table))
    if strange:
        raise Unknown(f"layers of the kind {strange[0]} are not understood")
    if len(names) != count:
        raise Unknown(f"{len(names)} layers are listed and num_hidden_layers says {count}")
    return tuple(table[one] for one in names)


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
        return Layer("latent", heads=1, key=_number(fields, "kv_lora_rank") + _number(fields, "qk_rope_head_dim"))
    if kind == "recurrent":
        return _recurrent(fields)
    kv_heads = number(fields, "num_key_value_heads") or heads
    if not kv_heads:
        raise Unknown("the configuration lacks num_key_value_heads")
    if heads and heads % kv_heads:
        raise Unknown(f"{heads} heads do not share {kv_heads} key-value heads evenly")
    window = _number(fields, "sliding_window") if kind == "sliding" else 0
    if kind == "chunked":
        window = _number(fields, "attention_chunk_size")
    if kind == "full":
        kv_heads = number(fields, "num_global_key_value_heads") or kv_heads
        head_dim = number(fields, "global_head_dim") or head_dim
    if not head_dim:
        raise Unknown("the configuration lacks head_dim")
    return Layer(kind, heads=kv_heads, key=head_dim, value=head_dim, window=window)


def _recurrent(fields: Mapping[str, Any]) -> Layer:
    if number(fields, "mamba_num_heads"):
        # Width of a head, groups and taps: defaults of the architecture's own configuration class (Nemotron-H).
        heads, state = _number(fields, "mamba_num_heads"), _number(fields, "ssm_state_size")
        width = number(fields, "mamba_head_dim") or 64
        groups, taps = number(fields, "n_groups") or 8, number(fields, "conv_kernel") or 4
        return Layer(
            "recurrent", state=heads * width * state, convolution=(taps - 1) * (heads * width + 2 * groups * state)
        )
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
        key_heads=_number(fields, "linear_num_key_heads"),
        value_heads=_number(fields, "linear_num_value_heads"),
        key=_number(fields, "linear_key_head_dim"),
        value=_number(fields, "linear_value_head_dim"),
        taps=_number(fields, "linear_conv_kernel_dim"),
    )


def _latent(fields: Mapping[str, Any]) -> Latent | None:
    if not number(fields, "kv_lora_rank"):
        return None
    return Latent(
        rank=_number(fields, "kv_lora_rank"),
        rope=_number(fields, "qk_rope_head_dim"),
        nope=number(fields, "qk_nope_head_dim"),
        value=number(fields, "v_head_dim"),
        query=number(fields, "q_lora_rank"),
    )


def _vision(fields: Mapping[str, Any]) -> Vision | None:
    table = _table(fields, "vision_config")
    if not table or not number(table, "hidden_size"):
        return None
    return Vision(
        layers=_first(table, "num_hidden_layers", "depth"),
        hidden=number(table, "hidden_size"),
        intermediate=number(table, "intermediate_size"),
        gated=bool(table.get("gated", False)),
    )


def _stretch(fields: Mapping[str, Any]) -> float:
    """Give by how much linear scaling lengthens the table of rotary positions."""
    scaling = _table(fields, "rope_scaling")
    kind = scaling.get("rope_type") or scaling.get("type")
    factor = scaling.get("factor")
    return float(factor) if kind == "linear" and isinstance(factor, (int, float)) and factor >= 1 else 1.0


def _table(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = number(fields, name)
    if not value:
        raise Unknown(f"the configuration lacks {name}")
    return value


def _first(fields: Mapping[str, Any], *names: str) -> int:
    return next((found for name in names if (found := number(fields, name))), 0)


def _divided(hidden: int, heads: int) -> int:
    if not hidden or not heads:
        return 0
    if hidden % heads:
        raise Unknown(f"hidden_size {hidden} is no multiple of {heads} heads, and head_dim is missing")
    return hidden // heads
