"""A scripted endpoint, a stand-in for runtime and gateway: it speaks both wire forms and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: What it says when its script has come to the end, and to a request that bears no tools.
DONE = "That is done."
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


class Endpoint:
    """Answers in turn: each of ``turns`` is ``{"text": …}`` or ``{"tool": …, "arguments": …}``."""

    def __init__(self, port: int, turns: Sequence[dict[str, Any]], llm: str) -> None:
        self.turns, self.llm, self.count = list(turns), llm, 0
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        handler = type("Bound", (Handler,), {"endpoint": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def keep(self, handler: BaseHTTPRequestHandler, text: str) -> dict[str, Any]:
        """Keep a request without its token, and give its body."""
        body = json.loads(text) if text else {}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        known = {"authorization": "bearer" if "authorization" in headers else "", "key": "x-api-key" in headers}
        with self.lock:
            self.requests.append(
                {"method": handler.command, "path": handler.path, "characters": len(text), "body": body, **known}
            )
        return body

    def turn(self, body: dict[str, Any]) -> dict[str, Any]:
        """Give the next turn of the script to a request that bears tools, or that can bear none."""
        with self.lock:
            self.count += 1
            first = self.turns[0] if self.turns else {"text": DONE}
            if "tool" in first and not body.get("tools"):
                return {"text": DONE}
            return self.turns.pop(0) if self.turns else first


class Handler(BaseHTTPRequestHandler):
    """One request of an agent."""

    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def do_GET(self) -> None:
        """List the one llm."""
        self.endpoint.keep(self, "")
        self.give({"object": "list", "data": [{"id": self.endpoint.llm, "object": "model"}]})

    def do_POST(self) -> None:
        """Answer in the wire form of the path."""
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        body = self.endpoint.keep(self, text)
        path = self.path.partition("?")[0]
        if path in FORMS:
            events = list(FORMS[path](self.endpoint.turn(body), self.endpoint))
            self.stream(events[:-1]) if body.get("stream") else self.give(events[-1])
        elif path == "/v1/messages/count_tokens":
            self.give({"input_tokens": len(text) // 4})
        else:
            self.give({"error": {"message": "no such path", "type": "not_found_error"}}, 404)

    def stream(self, events: list[dict[str, Any]]) -> None:
        """Send events as they are streamed."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            named = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{named}data: {json.dumps(event)}\n\n".encode())
        if "type" not in events[0]:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def give(self, document: dict[str, Any], status: int = 200) -> None:
        """Send one document."""
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: what was asked is kept."""


def completions(turn: dict[str, Any], endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """Give the events of an answer in OpenAI's form, and last the answer in one piece."""
    head = {"id": f"chatcmpl-{endpoint.count}", "created": 1, "model": endpoint.llm}
    call = {
        "id": f"call_{endpoint.count}",
        "type": "function",
        "function": {"name": turn.get("tool"), "arguments": json.dumps(turn.get("arguments"))},
    }
    said: dict[str, Any] = (
        {"content": None, "tool_calls": [call]} if "tool" in turn else {"content": turn.get("text", DONE)}
    )
    ended = "tool_calls" if "tool" in turn else "stop"
    stream = {**head, "object": "chat.completion.chunk"}
    streamed = {**said, "tool_calls": [{"index": 0, **call}]} if "tool" in turn else said
    yield {**stream, "choices": [{"index": 0, "delta": {"role": "assistant", **streamed}, "finish_reason": None}]}
    yield {**stream, "choices": [{"index": 0, "delta": {}, "finish_reason": ended}]}
    yield {**stream, "choices": [], "usage": USAGE}
    message = {"role": "assistant", **said}
    choice = {"index": 0, "message": message, "finish_reason": ended}
    yield {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def messages(turn: dict[str, Any], endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """Give the events of an answer in Anthropic's form, and last the answer in one piece."""
    usage = {"input_tokens": 100, "output_tokens": 10}
    head = {"id": f"msg_{endpoint.count}", "type": "message", "role": "assistant", "model": endpoint.llm}
    ended = "tool_use" if "tool" in turn else "end_turn"
    if "tool" in turn:
        empty = {"type": "tool_use", "id": f"toolu_{endpoint.count}", "name": turn["tool"], "input": {}}
        block = {**empty, "input": turn["arguments"]}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(turn["arguments"])}
    else:
        empty, block = {"type": "text", "text": ""}, {"type": "text", "text": turn.get("text", DONE)}
        delta = {"type": "text_delta", "text": turn.get("text", DONE)}
    started = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": started}
    yield {"type": "content_block_start", "index": 0, "content_block": empty}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": ended, "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}
    yield {**head, "content": [block], "stop_reason": ended, "stop_sequence": None, "usage": usage}


FORMS = {"/v1/messages": messages, "/v1/chat/completions": completions}
