"""The shape of a named llm: from its own configuration, a published one of that name, or one of that geometry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.plan.configuration import shape_of
from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.plan.shape import Shape

#: How the log of a load names what a configuration names otherwise.
_LOGGED = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_key_value_heads",
    "head_dim": "head_dim",
    "n_embd_head_k": "head_dim",
    "n_embd": "hidden_size",
    "n_ff": "intermediate_size",
    "n_vocab": "vocab_size",
    "n_expert": "num_experts",
    "num_experts": "num_experts",
    "kv_lora_rank": "kv_lora_rank",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "sliding_window": "sliding_window",
    "attention_chunk_size": "attention_chunk_size",
    "n_full_attn_layers": "n_full_attention_layers",
    "n_swa_layers": "n_sliding_layers",
}

#: Numbers that two configurations must agree on to be one geometry.
_GEOMETRY = (
    "num_hidden_layers",
    "num_key_value_heads",
    "head_dim",
    "num_attention_heads",
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "full_attention_interval",
    "sliding_window",
)
#: An llm is told by its geometry when at least so many numbers agree, and all such llms have one shape.
ENOUGH_NUMBERS = 3


class Known:
    """Configurations by name: those that were given, and published ones with the names that they answer to."""

    def __init__(
        self,
        given: Mapping[str, Mapping[str, Any]],
        published: Iterable[tuple[tuple[str, ...], Mapping[str, Any]]],
    ) -> None:
        self._given = given
        self._published = [(tuple(words(name) for name in names), config) for names, config in published]

    def shape(self, model: str, logged: Mapping[str, Any] | None = None) -> Shape:
        """Give the shape of ``model``, with what a load's log said of it; raises Unknown."""
        own = self._given.get(model)
        seen = {**_read(logged or {}), **{key: value for key, value in (own or {}).items() if value is not None}}
        # What was given is told by its numbers alone: another name for it changes nothing.
        named = self._named(model) if own is None else None
        agreeing = named if named is not None and _agrees(named, seen) else self._alike(seen)
        if agreeing is None and named is None and not seen:
            raise Unknown(f"no configuration of {model} is known; give it with --config")
        return shape_of({**(agreeing or {}), **seen})

    def _named(self, model: str) -> Mapping[str, Any] | None:
        """Give the published configuration whose name stands in this one, the longest first."""
        said = words(re.sub(r"^[\w.-]+/(?=\S)", "", model))
        best: tuple[int, Mapping[str, Any]] | None = None
        for names, config in self._published:
            for name in names:
                if _stands_in(name, said) and (best is None or len(name) > best[0]):
                    best = (len(name), config)
        return best[1] if best else None

    def _alike(self, seen: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Give the published configuration that has all the numbers seen, None where several differ."""
        found = [config for _, config in self._published if _agreement(config, seen) >= ENOUGH_NUMBERS]
        said = _architecture(seen)
        found = [config for config in found if said is not None and _architecture(config) == said] or found
        shapes = {_geometry(config) for config in found}
        return found[0] if len(shapes) == 1 else None


def words(name: str) -> tuple[str, ...]:
    """Give a name as it is compared: its words in lower case."""
    return tuple(re.findall(r"[a-z]+|\d+(?:\.\d+)?[a-z]*", name.casefold()))


def _stands_in(name: tuple[str, ...], said: tuple[str, ...]) -> bool:
    """Tell whether the words of a name stand together in what was said."""
    size = len(name)
    return any(said[start : start + size] == name for start in range(len(said) - size + 1))


def _read(logged: Mapping[str, Any]) -> dict[str, Any]:
    """Give a log's numbers under the names of a configuration; 0 means that the log was silent."""
    seen: dict[str, Any] = {
        _LOGGED[key]: _whole(key, value) for key, value in logged.items() if key in _LOGGED and value
    }
    if logged.get("architecture"):
        seen["architectures"] = [str(logged["architecture"])]
    latent = bool(seen.get("kv_lora_rank"))
    if latent:
        seen.pop("head_dim", None)
        seen.pop("num_key_value_heads", None)
    if seen.get("num_experts"):
        seen.pop("intermediate_size", None)
    full = seen.get("n_full_attention_layers")
    if full and not seen.get("n_sliding_layers"):
        seen.pop("n_full_attention_layers")
        layers = seen.get("num_hidden_layers", 0)
        if layers and layers % full == 0:
            seen["full_attention_interval"] = layers // full
    return seen


def _whole(key: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Unknown(f"{key} is {value!r}, which no llm has") from None


def _agrees(config: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    return _agreement(config, seen) >= 0


def _agreement(config: Mapping[str, Any], seen: Mapping[str, Any]) -> int:
    """Give how many numbers two configurations share, -1 where one contradicts."""
    shared = 0
    for key in _GEOMETRY:
        mine, theirs = _value(config, key), _value(seen, key)
        if not theirs or not mine:
            continue
        if mine != theirs:
            return -1
        shared += 1
    return shared


def _value(config: Mapping[str, Any], key: str) -> Any:
    value = config.get(key)
    if value or key != "head_dim" or config.get("kv_lora_rank"):
        return value
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def _geometry(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(_value(config, key) for key in _GEOMETRY)
