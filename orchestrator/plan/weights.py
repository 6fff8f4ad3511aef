"""Bytes of an llm's weights on each card: by tensor and how each is stored, or from the size of the files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from orchestrator.plan.constants import KEPT_REST_MIB, LARGE_BLOCK_MIB, SEGMENT_MIB
from orchestrator.plan.shape import Unknown
from orchestrator.plan.tensors import tensors

if TYPE_CHECKING:
    from orchestrator.plan.shape import Shape
    from orchestrator.plan.tensors import Tensor

MIB = 1024 * 1024

#: Bits a weight of GGML's block types, scales included (GGML's own tables of block sizes).
GGML_BITS = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.5625, "Q5_K": 5.5, "Q5_0": 5.5, "Q5_1": 6.0,
    "Q4_K": 4.5, "Q4_0": 4.5, "Q4_1": 5.0, "Q3_K": 3.4375, "Q2_K": 2.625, "IQ4_XS": 4.25, "IQ4_NL": 4.5,
    "IQ3_S": 3.4375, "IQ3_XXS": 3.0625, "IQ2_S": 2.5625, "IQ2_XS": 2.3125, "IQ2_XXS": 2.0625, "MXFP4": 4.25,
}  # fmt: skip

#: ExLlama keeps the token embedding in RAM, and the head in 6 bits unless told otherwise (its converter's default).
_EXL_BITS = {"embedding": 0.0, "head": 6.0}

Scheme = Literal["plain", "matrices", "experts", "gguf", "exl"]


@dataclass(frozen=True)
class Storage:
    """How weights are stored: ``bits`` in the tensors that the scheme quantises, ``rest`` in the others."""

    scheme: Scheme
    bits: float
    rest: float = 16.0
    #: GGUF: the mixture's name as people write it, ``Q4_K_M``.
    mixture: str = ""


#: What a quantisation's name says, first match wins: bits with scales, and which tensors.
_NAMES: tuple[tuple[str, Storage], ...] = (
    (r"mxfp4", Storage("experts", 4.25)),
    (r"nvfp4|modelopt.?fp4", Storage("matrices", 4.5)),
    (r"w8a8|w8a16|int8|gptq.?int8", Storage("matrices", 8.0)),
    (r"fp8|f8_e4m3", Storage("matrices", 8.0)),
    (r"w4a16|awq|gptq|auto.?round|int4|compressed-tensors.*4", Storage("matrices", 4.15)),
    (r"bnb|bitsandbytes", Storage("matrices", 4.5)),
    (r"float32|fp32", Storage("plain", 32.0, 32.0)),
    (r"none|bf16|bfloat16|\bf16|fp16|float16|half|unquantized", Storage("plain", 16.0)),
    (r"(?<![.\d])8.?bits?\b", Storage("matrices", 8.0)),
    (r"(?<![.\d])4.?bits?\b", Storage("matrices", 4.5)),
)
#: What says nothing of how weights are stored: the files decide.
SILENT = ("", "auto", "default", "unknown")

_GGUF = re.compile(
    r"\b(?:UD-)?((?:IQ|Q)\d(?:_[A-Z0-9]+)*(?: - (?:Small|Medium|Large))?|F16|BF16|MXFP4(?:[ -]GGUF)?)\b", re.IGNORECASE
)
_EXL = re.compile(r"exl[23]?[\s_-]*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*bpw", re.IGNORECASE)
#: ExLlama's converter stores no weight in more bits.
MOST_EXL_BITS = 8


def storage_of(quant: str, *, gguf: bool = False) -> Storage | None:
    """Give how a quantisation stores weights, None for a name that says nothing."""
    text = quant.strip()
    if gguf:
        found = _GGUF.search(text)
        return Storage("gguf", 0.0, mixture=_mixture(found.group(1))) if found else None
    exl = _EXL.search(text)
    if exl and 1 <= float(exl.group(1) or exl.group(2) or 0) <= MOST_EXL_BITS:
        return Storage("exl", float(exl.group(1) or exl.group(2)))
    return next((storage for pattern, storage in _NAMES if re.search(pattern, text, re.IGNORECASE)), None)


def card_mib(shape: Shape, storage: Storage, tensor: int = 1, pipeline: int = 1) -> float:
    """Give the MiB of weights on the fullest card, rounded as torch's allocator keeps them."""
    count = len(shape.layers)
    deepest = -(-count // pipeline)
    total = 0.0
    for one in tensors(shape, tensor):
        if one.layer is not None and one.layer >= deepest:
            continue
        bits = storage.rest if shape.left_alone and _left_alone(shape, one) else _bits(one, storage)
        total += held_mib(one.elements * bits / 8 / MIB)
    return total + rotary_mib(shape, storage)


def held_mib(size: float) -> float:
    """Give what torch's allocator holds for a tensor of ``size`` MiB."""
    if size < LARGE_BLOCK_MIB.value:
        return size
    rest = -size % SEGMENT_MIB.value
    return size + rest if rest <= KEPT_REST_MIB.value else size


def rotary_mib(shape: Shape, storage: Storage) -> float:
    """Give the tables of rotary positions that vLLM computes beforehand: one for each kind of attention layer."""
    width = shape.latent.rope if shape.latent else shape.rotary
    each = shape.window * width * (4 if storage.rest > 16 else 2) / MIB  # noqa: PLR2004 - wider than 16 bits
    return each * shape.rotary_stretch + (each if shape.rotary_stretch > 1 else 0.0)


def gguf_bits(shape: Shape, mixture: str, one: Tensor) -> float:
    """Give the bits a weight of one tensor in a GGUF file, by llama.cpp's own rules for its mixtures."""
    return GGML_BITS[_gguf_type(shape, mixture, one)]


def gguf_bytes(shape: Shape, mixture: str, *, draft_head: bool = False) -> tuple[float, float]:
    """Give the bytes of a GGUF file's tensors in all, and of its token embedding alone, which stays in RAM.

    ``draft_head``: the file carries a head that drafts tokens: one more layer, and a matrix of twice its width.
    """
    total = embedding = 0.0
    last = len(shape.layers) - 1
    for one in tensors(shape, merged=False):
        size = one.elements * gguf_bits(shape, mixture, one) / 8
        total += 2 * size if draft_head and one.layer == last else size
        if one.role == "embedding":
            embedding = size
    if draft_head:
        total += 2 * shape.hidden**2 * GGML_BITS[_base(mixture)] / 8
    return total, embedding


@lru_cache(maxsize=256)
def embedding_bits(quant: str) -> float:
    """Give the bits of the token embedding in a GGUF file of this quantisation."""
    found = _GGUF.search(quant)
    base = _base(_mixture(found.group(1))) if found else "Q4_K"
    return GGML_BITS.get(base, 4.5)


def _bits(one: Tensor, storage: Storage) -> float:
    if storage.scheme == "plain":
        return storage.bits
    if storage.scheme == "exl" and one.role in _EXL_BITS:
        return _EXL_BITS[one.role]
    if storage.scheme == "experts":
        return storage.bits if one.role.startswith("experts") else storage.rest
    if one.role in ("embedding", "head", "norm", "router", "vision"):
        return storage.rest
    return storage.bits


def _left_alone(shape: Shape, one: Tensor) -> bool:
    """Tell whether a tensor is of a part that the quantisation left in 16 bits."""
    if one.layer is None:
        return False
    if one.role.startswith("experts"):
        part = "experts"
    elif one.role in ("gate_up", "gate", "up", "down"):
        part = "shared" if shape.has_experts(one.layer) else "feeding"
    else:
        part = "recurrent" if shape.layers[one.layer].kind == "recurrent" else "attention"
    return bool({(part, -1), (part, one.layer)} & shape.left_alone)


def _mixture(text: str) -> str:
    name = text.upper().replace(" - ", "_").replace("MXFP4 GGUF", "MXFP4").replace("MXFP4-GGUF", "MXFP4")
    for long, short in (("_SMALL", "_S"), ("_MEDIUM", "_M"), ("_LARGE", "_L")):
        name = name.replace(long, short)
    return name


def _base(mixture: str) -> str:
    """Give the block type that most tensors of a mixture have: ``Q4_K`` of ``Q4_K_M``."""
    if mixture in GGML_BITS:
        return mixture
    for end in ("_XL", "_XS", "_S", "_M", "_L"):
        if mixture.endswith(end) and mixture.removesuffix(end) in GGML_BITS:
            return mixture.removesuffix(end)
    known = {"IQ3_M": "IQ3_S", "IQ3_XS": "IQ3_S", "IQ2_M": "IQ2_S"}
    if mixture in known:
        return known[mixture]
    raise Unknown(f"the quantisation {mixture} is not understood")


def _gguf_type(shape: Shape, mixture: str, one: Tensor) -> str:
    base = _base(mixture)
    plain = mixture in GGML_BITS and mixture != "IQ4_XS"
    count, layer = len(shape.layers), one.layer or 0
    more = layer < count // 8 or layer >= 7 * count // 8 or (layer - count // 8) % 3 == 2  # noqa: PLR2004 - its rule
    size = mixture.rsplit("_", 1)[-1]
    chosen = base
    if one.role in ("norm", "router"):
        chosen = "F32" if one.role == "norm" else base
    elif one.role == "head" or (one.role == "embedding" and shape.tied):
        chosen = "Q6_K" if GGML_BITS[base] < GGML_BITS["Q6_K"] else base
    elif base in ("Q4_K", "Q5_K") and size in ("M", "XL", "L") and not plain:
        chosen = _five_and_six(base, one, more=more)
    elif mixture == "Q4_K_S":
        early = layer < 4 if one.role == "value" else layer < count // 8  # noqa: PLR2004 - llama.cpp's own rule
        chosen = "Q5_K" if one.role in ("value", "down", "experts_down") and early else base
    elif base == "Q3_K" and size in ("M", "L"):
        chosen = _three_bits(one, more=more)
    return chosen


def _five_and_six(base: str, one: Tensor, *, more: bool) -> str:
    if one.role == "recurrent_mixed":
        return "Q5_K" if base == "Q4_K" else "Q6_K"
    return "Q6_K" if one.role in ("value", "down", "experts_down") and more else base


def _three_bits(one: Tensor, *, more: bool) -> str:
    if one.role in ("value", "output"):
        return "Q4_K"
    return "Q4_K" if one.role in ("down", "experts_down") and more else "Q3_K"
