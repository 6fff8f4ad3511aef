"""The stream that comes out of a sandbox: a Git bundle, read without trust. Its head is parsed here, bounded.

A bundle is one-way: no word of a protocol is spoken with the inside. Of its references the one that was asked for is
looked at; its objects go to ``git index-pack``, which is given nothing that the head says.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from orchestrator.errors import SandboxError

if TYPE_CHECKING:
    from orchestrator.sandbox.values import Limits

#: gitformat-bundle(5): the first line of version 2 and of version 3, which alone has capabilities.
_SIGNATURES = (b"# v2 git bundle\n", b"# v3 git bundle\n")
#: A head of one reference and of the commits that it stands on takes a few hundred bytes; a megabyte is generous.
_HEAD_BYTES, _LINE_BYTES = 1 << 20, 1 << 16
_REFERENCE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (.+)")
#: gitformat-pack(5): four letters, a version and the number of objects, in network order.
_PACK = struct.Struct(">4sII")
_DIGITS = {"sha1": 40, "sha256": 64}


class Refused(SandboxError):  # noqa: N818 - the outcome of a check, not a fault of the program
    """What came back is not taken; the quarantine holds nothing of it."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(f"what came back is refused: {what}", do=do or "look into the sandbox, or throw it away")


@dataclass(frozen=True, slots=True)
class Head:
    """What a bundle says before its pack: the one commit that was asked for, and the pack's own first bytes."""

    commit: str
    objects: int
    first: bytes


def read_head(stream: IO[bytes], wanted: str, form: str, limits: Limits) -> Head:
    """Read a bundle as far as its pack; raises Refused for what is none, too long, or lacks the reference."""
    if (signature := stream.readline(len(_SIGNATURES[0]))) not in _SIGNATURES:
        raise Refused("it is no Git bundle" if signature else "nothing came")
    found = _reference(stream, wanted, form)
    first = stream.read(_PACK.size)
    if len(first) != _PACK.size:
        raise Refused("it ends before its objects")
    letters, version, objects = _PACK.unpack(first)
    if letters != b"PACK" or version not in {2, 3}:
        raise Refused("its objects are no pack")
    if objects > limits.objects:
        raise Refused(f"it has {objects} objects, more than {limits.objects}", "allow more objects")
    return Head(found, objects, first)


def _reference(stream: IO[bytes], wanted: str, form: str) -> str:
    found = None
    left = _HEAD_BYTES
    while (line := stream.readline(_LINE_BYTES)) != b"\n":
        left -= len(line)
        if not line.endswith(b"\n") or left < 0:
            raise Refused("its list of references has no end")
        if line.startswith(b"@"):
            _capability(line.rstrip(b"\n"), form)
        elif not line.startswith(b"-"):
            match = _REFERENCE.fullmatch(line.rstrip(b"\n"))
            if match is None:
                raise Refused("its list of references cannot be read")
            if match[2] == wanted.encode():
                found = match[1].decode()
    if found is None or len(found) != _DIGITS[form]:
        raise Refused("it does not hold the reference that was asked for")
    return found


def _capability(line: bytes, form: str) -> None:
    if line != f"@object-format={form}".encode():
        raise Refused("it asks for what this repository has not")
