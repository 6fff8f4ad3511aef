"""The cache of one llm: bytes for each token, and for each sequence, by kind of layer and as each runtime stores it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from orchestrator.plan.shape import Layer, Shape

#: Bytes an element of each cache type. Block types: 32 elements and their scale (GGML's own tables).
ELEMENT_BYTES = {
    "f32": 4.0, "float32": 4.0, "fp32": 4.0,
    "f16": 2.0, "float16": 2.0, "fp16": 2.0, "bf16": 2.0, "bfloat16": 2.0, "auto": 2.0,
    "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8": 1.0,
    "q8_0": 34 / 32, "q6_0": 26 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
    "q8": 1 + 1 / 16, "q6": 13 / 16, "q4": 9 / 16, "k4v8": 13 / 16, "k8v4": 13 / 16,
}  # fmt: skip

LLAMA_CPP = ("llama_cpp", "ik_llama_cpp", "ollama", "xllamacpp")
#: Runtimes that keep every token of a sliding layer too (exllamav3 issue 50: its cache grows with all layers).
KEEPS_ALL = ("ik_llama_cpp", "exllama")
#: A sliding layer of llama.cpp keeps whole steps of so many tokens beyond its window (its own padding).
SLIDING_STEP = 256
#: llama.cpp keeps a recurrent state in 32 bits; vLLM its convolution in the llm's own type.
STATE_BYTES, CONVOLUTION_BYTES = 4.0, 2.0
#: Bytes of one token's entry in the index of a sparse layer, by its width: 8 bits and a scale of 4 bytes for each 128
#: (vLLM and SGLang, deepseek_v2.py), 16 bits in llama.cpp's and for MiniMax's index.
INDEX_SCALE, INDEX_BLOCK = 4, 128
#: A layer without a window keeps any number of tokens.
ENDLESS = 1 << 62
#: Kinds of layers whose counts differ by less than this factor are padded to the larger (vLLM's own rule).
GROUP_APART = 1.5
#: vLLM keeps two blocks of recurrent state a sequence: the live one, and one to go back to.
STATES_A_SEQUENCE = 2


@dataclass(frozen=True)
class Store:
    """How a runtime stores the cache: element types of keys and values, cards that share a layer, its own rules."""

    runtime: str
    key: str
    value: str
    tensor: int = 1
    #: Tokens a step (``-ub``, ``--max-num-batched-tokens``): a sliding layer keeps so many more.
    batch: int = 512
    #: SGLang: share of a sliding layer's tokens to a full layer's.
    sliding_share: float | None = None
    #: llama.cpp: latent attention keeps its compressed form; else full keys and values of every head.
    compressed: bool = True


def element_bytes(dtype: str) -> float:
    """Give the bytes of one element of a cache type; raises Unknown for a type nobody has heard of."""
    known = ELEMENT_BYTES.get(dtype.lower())
    if known is None:
        raise Unknown(f"the cache type {dtype} is not understood")
    return known


def token_bytes(shape: Shape, store: Store) -> float:
    """Give the bytes of one token on each card: of layers that keep all tokens, and of those whose window holds it.

    vLLM pads a mixture of kinds to groups of one size, so its groups count in full.
    """
    if store.runtime == "vllm":
        index = sum(count * _kept_beside(layer, store) for layer, count in shape.groups)
        return _grouped_layers(shape) * _widest(shape, store) + index
    if store.sliding_share is not None:
        share = store.sliding_share
        return sum(
            count * _token_bytes(shape, layer, store) * (share if layer.window else 1) for layer, count in shape.groups
        )
    return sum(
        count * (_token_bytes(shape, layer, store) + _kept_beside(layer, store)) for layer, count in shape.groups
    )


@dataclass(frozen=True)
class Growth:
    """How the cache of one sequence grows on a card: bytes it starts with, and bytes a token up to so many tokens."""

    start: float
    steps: tuple[tuple[float, int], ...]

    def bytes_at(self, context: int) -> float:
        """Give the bytes for a window of ``context`` tokens."""
        found = self.start
        for each, most in self.steps:
            found += each * (min(most, context))
        return found


def growth(shape: Shape, store: Store) -> Growth:
    """Give how the cache grows; raises Unknown for a cache type or a layer that is not understood."""
    known: Growth | None = shape.memory.get(store)
    if known is None:
        known = shape.memory[store] = _growth(shape, store)
    return known


def _growth(shape: Shape, store: Store) -> Growth:
    if store.sliding_share is not None:
        return Growth(0.0, ((token_bytes(shape, store), ENDLESS),))
    start, steps = 0.0, []
    for layer, count in shape.groups:
        each = count * _token_bytes(shape, layer, store)
        if each:
            steps.append((each, _most_tokens(layer, store)))
        kept = count * _kept_beside(layer, store)
        if kept:
            steps.append((kept, ENDLESS))
        if store.runtime not in LLAMA_CPP:
            start += count * _state_bytes(layer, store)
    return Growth(start, tuple(steps))


def cache_bytes(shape: Shape, store: Store, context: int, sequences: int = 1) -> float:
    """Give the bytes on each card that hold ``sequences`` windows of ``context`` tokens each."""
    return growth(shape, store).bytes_at(context) * sequences


def state_bytes(shape: Shape, store: Store, sequences: int = 1) -> float:
    """Give the bytes of llama.cpp's recurrent states, which lie in a buffer of their own; 0 for other runtimes."""
    if store.runtime not in LLAMA_CPP:
        return 0.0
    if not shape.stateful:
        return 0.0
    return sequences * sum(count * _state_bytes(layer, store) for layer, count in shape.stateful)


def capacity_tokens(shape: Shape, store: Store, pool: float, context: int) -> int:
    """Give how many tokens a pool of so many bytes holds, as the runtime itself counts them."""
    if shape.count("recurrent") and store.runtime == "vllm":
        one = cache_bytes(shape, store, context)
        return int(pool / one * context) if one else 0
    each = token_bytes(shape, store)
    return int(pool / each) if each else 0


def _most_tokens(layer: Layer, store: Store) -> int:
    """Give the most tokens that a layer keeps of a sequence."""
    if not layer.window or store.runtime in KEEPS_ALL:
        return ENDLESS
    kept = layer.window + store.batch
    return ceil(kept / SLIDING_STEP) * SLIDING_STEP if store.runtime in LLAMA_CPP else kept


def _token_bytes(shape: Shape, layer: Layer, store: Store) -> float:
    if layer.kind in ("recurrent", "none"):
        return 0.0
    key, value = element_bytes(store.key), element_bytes(store.value)
    if layer.kind == "latent":
        latent = shape.latent
        if store.compressed or latent is None:
            return layer.key * key
        if not latent.nope or not latent.value:
            raise Unknown("the configuration lacks qk_nope_head_dim or v_head_dim")
        return shape.heads * ((latent.nope + latent.rope) * key + latent.value * value)
    heads = max(1, ceil(layer.heads / store.tensor))
    return heads * (layer.key * key + layer.value * value)


def _kept_beside(layer: Layer, store: Store) -> float:
    """Give the bytes a token that a layer keeps whatever its window: an index, and entries that join several tokens."""
    if layer.ratio and store.runtime not in LLAMA_CPP:
        raise Unknown(f"how {store.runtime} packs its compressed cache is not understood; llama_cpp's is")
    narrow = layer.kind == "latent" and store.runtime not in LLAMA_CPP
    index = layer.index + INDEX_SCALE * ceil(layer.index / INDEX_BLOCK) if narrow else 2.0 * layer.index
    if not layer.ratio:
        return index
    return (index + layer.key * element_bytes(store.key)) / layer.ratio


def _state_bytes(layer: Layer, store: Store) -> float:
    if layer.kind != "recurrent":
        return 0.0
    if store.runtime in LLAMA_CPP:
        return (layer.state + layer.convolution) * STATE_BYTES
    held = (layer.state * STATE_BYTES + layer.convolution * CONVOLUTION_BYTES) / store.tensor
    return held * STATES_A_SEQUENCE


def _grouped_layers(shape: Shape) -> int:
    """Give the layers of vLLM's cache: kinds in groups of the smallest kind's size, the last of each padded."""
    found = (shape.count("full"), shape.count("sliding"), shape.count("chunked"), shape.count("latent"))
    counts = [count for count in found if count]
    if len(counts) <= 1:
        return sum(counts)
    size = min(counts) if max(counts) >= GROUP_APART * min(counts) else max(counts)
    return sum(ceil(count / size) * size for count in counts)


def _widest(shape: Shape, store: Store) -> float:
    return max((_token_bytes(shape, layer, store) for layer, _ in shape.groups), default=0.0)
