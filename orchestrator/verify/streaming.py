"""Server-sent events of both wire forms, as they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.verify.gateway import Unanswered, json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_END = "[DONE]"


@dataclass(frozen=True, slots=True)
class Told:
    """One streamed answer: its pieces of text and of tool calls in their order.

    ``first_seconds`` is when the first piece came, ``last_seconds`` when the last did, from the request on;
    ``arrivals`` counts the separate reads of the connection that held pieces; ``ended`` tells whether ``[DONE]`` came;
    ``reason`` is the finish_reason, None where none was told.
    """

    texts: tuple[str, ...]
    calls: tuple[Mapping[str, Any], ...]
    arrivals: int
    first_seconds: float | None
    last_seconds: float | None
    ended: bool
    reason: str | None = None

    @property
    def text(self) -> str:
        """Give the text, joined."""
        return "".join(self.texts)


def read(pieces: Iterable[tuple[float, bytes]]) -> Told:
    """Read a stream to its end; raises ``Unanswered`` for an event that is no JSON object or tells of an error."""
    texts: list[str] = []
    calls: list[Mapping[str, Any]] = []
    times: list[float] = []
    ended, reason = False, None
    rest = b""
    for seconds, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        before = len(texts) + len(calls)
        for data in _data(lines):
            if data == _END:
                ended = True
            else:
                choice = _choice(data)
                delta = choice.get("delta") or {}
                reason = choice.get("finish_reason") or reason
                texts += [delta["content"]] if delta.get("content") else []
                calls += delta.get("tool_calls") or []
        if len(texts) + len(calls) > before:
            times.append(seconds)
    first, last = (times[0], times[-1]) if times else (None, None)
    return Told(tuple(texts), tuple(calls), len(times), first, last, ended, reason)


def _data(lines: Iterable[bytes]) -> Iterable[str]:
    for line in lines:
        field, _, value = line.decode(errors="replace").strip().partition(":")
        if field == "data" and value.strip():
            yield value.strip()


def _choice(data: str) -> dict[str, Any]:
    choices = _event(data).get("choices") or [{}]
    choice = choices[0]
    if not isinstance(choice, dict):
        raise Unanswered(f"the stream told of no choice: {data}"[:200])
    return choice


def _event(data: str) -> dict[str, Any]:
    event = json_object(data)
    if "error" in event:
        raise Unanswered(f"the stream told of an error: {event['error']}"[:200])
    return event


def events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[dict[str, Any]]:
    """Give the events of a stream in the Anthropic form; raises ``Unanswered`` as ``read`` does.

    A closing ``[DONE]``, which vLLM adds, is passed over.
    """
    rest = b""
    for _, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (_event(data) for data in _data(lines) if data != _END)
