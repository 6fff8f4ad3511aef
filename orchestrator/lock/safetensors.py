"""The header of a safetensors file, and the index over several: exact bytes and weights. One that lies is refused."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from orchestrator.lock.gguf import Lying

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The format's own limit of a header.
MOST_BYTES = 100_000_000
#: Bits of an element, by the format's names.
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
#: By how much the files together may be larger than the tensors that an index sums up: headers alone.
HEADERS_SHARE, HEADERS_BYTES = 0.005, 4 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: bytes of its tensors, and elements by type."""

    bytes: int
    elements: Mapping[str, int]


def read(source: Callable[[int], bytes], size: int) -> Header:
    """Read the header of a file of ``size`` bytes whose bytes ``source`` gives one after the other; raises Lying."""
    start = source(8)
    if len(start) != 8:  # noqa: PLR2004 - the length stands in 8 bytes
        raise Lying("it is cut off in its header")
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= min(MOST_BYTES, size - 8):  # noqa: PLR2004 - an empty table is two characters
        raise Lying(f"its header would be {length} bytes long in a file of {size}")
    text = source(length)
    if len(text) != length:
        raise Lying("it is cut off in its header")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise Lying("its header is not JSON") from None
    if not isinstance(table, dict):
        raise Lying("its header is no table")
    tensors = [(name, _tensor(name, fields)) for name, fields in table.items() if name != "__metadata__"]
    elements: dict[str, int] = {}
    end = 0
    for name, (kind, count, first, last) in sorted(tensors, key=lambda one: one[1][2:]):
        if first != end or (last - first) * 8 != count * BITS[kind]:
            raise Lying(f"{name} lies at {first} to {last}, where {count} elements of {kind} cannot be")
        end = last
        elements[kind] = elements.get(kind, 0) + count
    if 8 + length + end != size:
        raise Lying(f"its tensors end at byte {8 + length + end} and the file has {size}")
    return Header(end, elements)


def indexed(text: str | bytes, sizes: Mapping[str, int]) -> tuple[tuple[str, ...], int | None]:
    """Give the files that an index names, and the bytes of their tensors where it says them and the sizes agree.

    ``sizes`` holds the bytes of each file that is there. Raises Lying for a file that isn't.
    """
    try:
        document = json.loads(text)
        files = tuple(sorted(set(document["weight_map"].values())))
        total = document.get("metadata", {}).get("total_size")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Lying("it is no index of safetensors") from None
    absent = next((name for name in files if name not in sizes), None)
    if absent is not None or not files:
        raise Lying(f"it names {absent}, which is not there" if files else "it names no file")
    there = sum(sizes[name] for name in files)
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    if not isinstance(total, int) or isinstance(total, bool):
        return files, None
    agrees = 0 < total <= there <= total * (1 + HEADERS_SHARE) + HEADERS_BYTES
    return files, total if agrees else None


def _tensor(name: str, fields: Any) -> tuple[str, int, int, int]:
    """Give a tensor's type, elements, first byte and the byte after its last."""
    try:
        kind, shape, (first, last) = fields["dtype"], fields["shape"], fields["data_offsets"]
        numbers = (*shape, first, last)
    except (TypeError, KeyError, ValueError):
        raise Lying(f"{name} lacks its type, shape or place") from None
    if kind not in BITS:
        raise Lying(f"{name} is of the type {kind}, which is not known")
    if not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise Lying(f"{name} has a shape or place that cannot be")
    return kind, prod(shape), first, last
