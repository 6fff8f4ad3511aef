"""The header of a GGUF file: its metadata, and each tensor's type, shape and bytes. One that lies is refused."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Type's number in the file -> its name, weights a block, bytes a block (GGML's own table of block sizes).
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
}  # fmt: skip

#: Value's number in the file -> how ``struct`` reads it. 8 is a string, 9 a list.
_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
#: Versions with 64-bit counts, which all files of these years have.
VERSIONS = (2, 3)
#: A header that is longer, or counts more, than these is no header.
MOST_BYTES, MOST_KEYS, MOST_TENSORS, MOST_WIDTHS = 256 << 20, 1 << 16, 1 << 20, 8
#: Longer lists (a vocabulary) are counted, not kept.
MOST_KEPT = 4096
#: Bytes that may follow the last tensor.
MOST_REST = 1 << 20


class Lying(Exception):  # noqa: N818 - what a file says of itself, told as a sentence
    """A header is cut off, or says what cannot be; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A list that was counted and not kept."""

    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its name, widths (the fastest first, as the file has them), type, and size in bytes."""

    name: str
    widths: tuple[int, ...]
    type: str
    bytes: int
    offset: int = 0

    @property
    def elements(self) -> int:
        """Give how many weights it has."""
        return prod(self.widths)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        """Give the bytes of all tensors, without the header and what pads them."""
        return sum(one.bytes for one in self.tensors)

    @property
    def elements(self) -> int:
        """Give how many weights there are."""
        return sum(one.elements for one in self.tensors)

    @property
    def types(self) -> dict[str, int]:
        """Give each type of tensor with how many tensors have it, the most frequent first."""
        return dict(Counter(one.type for one in self.tensors).most_common())

    @property
    def layer_bits(self) -> float:
        """Give the bits a weight of the layers' matrices; 0 where there is none."""
        matrices = [one for one in self.tensors if one.name.startswith("blk.") and len(one.widths) > 1]
        return 8 * sum(one.bytes for one in matrices) / (sum(one.elements for one in matrices) or 1)


def read(source: Callable[[int], bytes], size: int) -> Header:
    """Read the header of a file of ``size`` bytes whose bytes ``source`` gives one after the other; raises Lying."""
    reading = _Reading(source, size)
    if reading.take(4) != b"GGUF":
        raise Lying("it is no GGUF file")
    version = reading.number("I")
    if version not in VERSIONS:
        raise Lying(f"its version is {version}, and known are 2 and 3, little-endian")
    tensors, keys = reading.number("Q"), reading.number("Q")
    if tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise Lying(f"it counts {tensors} tensors and {keys} keys, which no file has")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        name = reading.text()
        metadata[name] = reading.value()
    infos = tuple(_tensor(reading) for _ in range(tensors))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise Lying(f"it aligns its tensors by {alignment!r}, which is no power of two")
    _lie_where_said(infos, -(-reading.position // alignment) * alignment, alignment, size)
    return Header(metadata, infos)


def joined(parts: Iterable[Header]) -> Header:
    """Give the header of a file that was split; raises Lying where a part is missing or comes twice."""
    headers = list(parts)
    if len(headers) == 1 and headers[0].metadata.get("split.count", 1) in (0, 1):
        return headers[0]
    said = {header.metadata.get("split.count") for header in headers}
    numbers = sorted(header.metadata.get("split.no", -1) for header in headers)
    if said != {len(headers)} or numbers != list(range(len(headers))):
        raise Lying(f"{len(headers)} parts are there and the headers say {', '.join(map(str, said))}")
    headers.sort(key=lambda header: int(header.metadata["split.no"]))
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    total = headers[0].metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise Lying(f"its parts carry {len(tensors)} tensors and the first says {total}")
    return Header(headers[0].metadata, tensors)


def _tensor(reading: _Reading) -> Tensor:
    name, count = reading.text(), reading.number("I")
    if not 0 < count <= MOST_WIDTHS:
        raise Lying(f"{name} has {count} widths")
    widths = tuple(reading.number("Q") for _ in range(count))
    number, offset = reading.number("I"), reading.number("Q")
    if number not in TYPES:
        raise Lying(f"{name} is of the type {number}, which is not known")
    kind, weights, size = TYPES[number]
    if not all(widths) or widths[0] % weights:
        raise Lying(f"{name} of {' x '.join(map(str, widths))} cannot be kept as {kind}")
    return Tensor(name, widths, kind, prod(widths) // weights * size, offset)


def _lie_where_said(tensors: tuple[Tensor, ...], start: int, alignment: int, size: int) -> None:
    """Refuse tensors that overlap, that come twice, or that the file is too short or too long for."""
    if len({one.name for one in tensors}) != len(tensors):
        raise Lying("it names a tensor twice")
    end = 0
    for one in sorted(tensors, key=lambda tensor: tensor.offset):
        if one.offset % alignment or one.offset < end:
            raise Lying(f"{one.name} lies at {one.offset}, where it cannot be")
        end = one.offset + one.bytes
    if tensors and start + end > size:
        raise Lying(f"its tensors end at byte {start + end} and the file has {size}")
    if size - start - end > MOST_REST:
        raise Lying(f"its tensors end at byte {start + end} and the file goes on to {size}")


class _Reading:
    """Bytes one after the other, as numbers and strings; raises Lying where they end too soon."""

    def __init__(self, source: Callable[[int], bytes], size: int) -> None:
        self._source, self._size = source, size
        self.position = 0

    def take(self, count: int) -> bytes:
        self.position += count
        if self.position > self._size:
            raise Lying(f"it is cut off: the header goes on beyond its {self._size} bytes")
        if self.position > MOST_BYTES:
            raise Lying(f"its header is longer than {MOST_BYTES >> 20} MiB")
        found = self._source(count)
        if len(found) != count:
            raise Lying("it is cut off in its header")
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self) -> Any:
        kind = self.number("I")
        if kind == _LIST:
            return self._list()
        if kind == _STRING:
            return self.text()
        if kind not in _VALUES:
            raise Lying(f"a value is of the type {kind}, which is not known")
        return self.number(_VALUES[kind])

    def _list(self) -> tuple[Any, ...] | Counted:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            for _ in range(count):
                self.take(self.number("Q"))
            return Counted(count)
        if kind not in _VALUES:
            raise Lying(f"a list is of the type {kind}, which is not known")
        form = f"<{_VALUES[kind]}"
        content = self.take(count * struct.calcsize(form))
        return tuple(one for (one,) in struct.iter_unpack(form, content)) if count <= MOST_KEPT else Counted(count)
