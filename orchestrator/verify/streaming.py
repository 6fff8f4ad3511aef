"""Server-sent events of the OpenAI form, as they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.verify.gateway import Unanswered, json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_END = "[DONE]"


@dataclass(frozen=True, slots=True)
class Told:
    """One streamed answer: its pieces of text and of tool calls in their order.

    ``first_seconds`` is when the first piece came, ``last_seconds`` when the last did, from the request on;
    ``arrivals`` counts the separate reads of the connection that held pieces; ``ended`` tells whether ``[DONE]`` came.
    """

    texts: tuple[str, ...]
    calls: tuple[Mapping[str, Any], ...]
    arrivals: int
    first_seconds: float | None
    last_seconds: float | None
    ended: bool

    @property
    def text(self) -> str:
        """Give the text, joined."""
        return "".join(self.texts)


def read(pieces: Iterable[tuple[float, bytes]]) -> Told:
    """Read a stream to its end; raises ``Unanswered`` for an event that is no JSON object or tells of an error."""
    texts: list[str] = []
    calls: list[Mapping[str, Any]] = []
    times: list[float] = []
    ended = False
    rest = b""
    for seconds, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        before = len(texts) + len(calls)
        for data in _data(lines):
            if data == _END:
                ended = True
            else:
                delta = _delta(data)
                texts += [delta["content"]] if delta.get("content") else []
                calls += delta.get("tool_calls") or []
        if len(texts) + len(calls) > before:
            times.append(seconds)
    first, last = (times[0], times[-1]) if times else (None, None)
    return Told(tuple(texts), tuple(calls), len(times), first, last, ended)


def _data(lines: Iterable[bytes]) -> Iterable[str]:
    for line in lines:
        field, _, value = line.decode(errors="replace").strip().partition(":")
        if field == "data" and value.strip():
            yield value.strip()


def _delta(data: str) -> dict[str, Any]:
    event = json_object(data)
    if "error" in event:
        raise Unanswered(f"the stream told of an error: {event['error']}"[:200])
    choices = event.get("choices") or [{}]
    return choices[0].get("delta") or {}
