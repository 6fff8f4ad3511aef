"""The two wire forms of a tool call: how a tool is offered, how a call is read, how its result goes back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.verify import streaming
from orchestrator.verify.gateway import Unanswered, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.verify.gateway import Form

    Pieces = Iterable[tuple[float, bytes]]
    Message = Mapping[str, Any]

#: The order of a stream in the Anthropic form: what may come after what (its documentation of streamed messages).
_AFTER = {
    "": ("message_start",),
    "message_start": ("content_block_start", "message_delta"),
    "content_block_start": ("content_block_delta", "content_block_stop"),
    "content_block_delta": ("content_block_delta", "content_block_stop"),
    "content_block_stop": ("content_block_start", "message_delta"),
    "message_delta": ("message_delta", "message_stop"),
    "message_stop": (),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call, put together. ``arguments`` is the JSON text as it came."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its text, its calls in their order, and why it ended, in the form's own word."""

    text: str
    calls: tuple[Call, ...]
    reason: str | None


class Wire(Protocol):
    """One wire form."""

    form: Form
    title: str
    #: The reason that an answer with a call ends with, and those of an answer without.
    called: str
    ended: frozenset[str]

    def body(self, name: str, about: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Give the part of a request that offers one tool."""

    def plain(self, document: Mapping[str, Any]) -> Reply:
        """Read an answer that came whole; raises LookupError, TypeError, AttributeError for another form."""

    def streamed(self, pieces: Pieces) -> Reply:
        """Read a streamed answer; raises ``Unanswered`` and what ``plain`` raises."""

    def result(self, reply: Reply, said: str) -> list[Message]:
        """Give the messages that repeat the one call of a reply and send its result back."""


class OpenAI:
    """``/v1/chat/completions``."""

    form: Form = "openai"
    title = "OpenAI"
    called = "tool_calls"
    ended = frozenset({"stop", "length"})

    def body(self, name: str, about: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Give the part of a request that offers one tool."""
        function = {"name": name, "description": about, "parameters": schema}
        return {"tools": [{"type": "function", "function": function}], "tool_choice": "auto"}

    def plain(self, document: Mapping[str, Any]) -> Reply:
        """Read an answer that came whole."""
        choice = document["choices"][0]
        message = choice["message"]
        calls = tuple(
            Call(call["function"]["name"], call["function"]["arguments"], call.get("id") or "")
            for call in message.get("tool_calls") or ()
        )
        return Reply(message.get("content") or "", calls, choice.get("finish_reason"))

    def streamed(self, pieces: Pieces) -> Reply:
        """Read a streamed answer."""
        told = streaming.read(pieces)
        if not told.ended:
            raise Unanswered("the stream ended without [DONE]")
        return Reply(told.text, put_together(told.calls), told.reason)

    def result(self, reply: Reply, said: str) -> list[Message]:
        """Give the messages that repeat the call and send its result back."""
        call = reply.calls[0]
        function = {"name": call.name, "arguments": call.arguments}
        asked = {"id": call.id, "type": "function", "function": function}
        return [
            {"role": "assistant", "content": reply.text, "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": call.id, "content": said},
        ]


class Anthropic:
    """``/v1/messages``."""

    form: Form = "anthropic"
    title = "Anthropic"
    called = "tool_use"
    ended = frozenset({"end_turn", "max_tokens", "stop_sequence"})

    def body(self, name: str, about: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Give the part of a request that offers one tool."""
        return {
            "tools": [{"name": name, "description": about, "input_schema": schema}],
            "tool_choice": {"type": "auto"},
        }

    def plain(self, document: Mapping[str, Any]) -> Reply:
        """Read an answer that came whole."""
        blocks = document["content"]
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        calls = tuple(
            Call(block["name"], json.dumps(block["input"]), block.get("id") or "")
            for block in blocks
            if block["type"] == "tool_use"
        )
        return Reply(text, calls, document.get("stop_reason"))

    def streamed(self, pieces: Pieces) -> Reply:
        """Read a streamed answer; an event out of its order raises ``Unanswered``."""
        last, open_block, reason = "", None, None
        blocks: list[dict[str, Any]] = []
        for event in streaming.events(pieces):
            kind = event.get("type")
            if kind == "ping":
                continue
            if kind not in _AFTER[last]:
                raise Unanswered(f"the event {shown(str(kind))} came after {last or 'nothing'}")
            last = str(kind)
            if kind == "content_block_start":
                open_block = event["index"]
                blocks.append({**event["content_block"], "partial": ""})
            elif kind in {"content_block_delta", "content_block_stop"} and event["index"] != open_block:
                raise Unanswered(f"an event of block {event['index']} came while block {open_block} was open")
            elif kind == "content_block_delta":
                delta = event["delta"]
                blocks[-1]["partial"] += delta.get("partial_json") or delta.get("text") or ""
            elif kind == "message_delta":
                reason = event["delta"].get("stop_reason") or reason
        if last != "message_stop":
            raise Unanswered(f"the stream ended after {last or 'nothing'}, without message_stop")
        text = "".join((block.get("text") or "") + block["partial"] for block in blocks if block["type"] == "text")
        calls = tuple(
            Call(block["name"], block["partial"] or json.dumps(block.get("input") or {}), block.get("id") or "")
            for block in blocks
            if block["type"] == "tool_use"
        )
        return Reply(text, calls, reason)

    def result(self, reply: Reply, said: str) -> list[Message]:
        """Give the messages that repeat the call and send its result back."""
        call = reply.calls[0]
        blocks: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text.strip() else []
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
        answer = {"type": "tool_result", "tool_use_id": call.id, "content": said}
        return [{"role": "assistant", "content": blocks}, {"role": "user", "content": [answer]}]


def put_together(pieces: Iterable[Mapping[str, Any]]) -> tuple[Call, ...]:
    """Join the pieces of streamed calls: by index, name and id said once, the arguments bit by bit."""
    calls: dict[int, Call] = {}
    for piece in pieces:
        index = piece.get("index", 0)
        function = piece.get("function") or {}
        so_far = calls.get(index, Call("", ""))
        calls[index] = Call(
            so_far.name or function.get("name") or "",
            so_far.arguments + (function.get("arguments") or ""),
            so_far.id or piece.get("id") or "",
        )
    return tuple(calls[index] for index in sorted(calls))


WIRES: tuple[Wire, ...] = (OpenAI(), Anthropic())
