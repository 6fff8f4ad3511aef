"""The checks of the endpoint against a scripted gateway, in its good form and in every bad one."""

from __future__ import annotations

import json
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.verify import chat_once, endpoint
from orchestrator.verify.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.evidence import Check

TOKEN = "right-token-of-the-test"
NAME = "small-llm"
LISTED = {"/v1/chat/completions", "/v1/messages", "/v1/models"}


@dataclass(frozen=True)
class Script:
    """What the stand-in does; the defaults are a gateway with nothing wrong."""

    names: tuple[str, ...] = (NAME,)
    text: str = "The sea is wide."
    usage: bool = True
    streams: bool = True
    at_once: int = 1
    #: Streams at the beginning of which that is so; None is all.
    at_once_for: int | None = None
    ends: bool = True
    accepted: Callable[[str | None], bool] = field(default=lambda token: token == TOKEN)
    open_paths: frozenset[str] = frozenset()
    status: int = 200
    body: str | None = None


class StandIn(BaseHTTPRequestHandler):
    """A stand-in for gateway and runtime together, on 127.0.0.1."""

    protocol_version = "HTTP/1.1"
    script: Script
    streams: list[str]

    def do_GET(self) -> None:
        if self.path in self.script.open_paths:
            self._whole(200, {"of": "the runtime"})
        elif self.path != "/v1/models":
            self._whole(404, {})
        elif self._admitted():
            self._whole(self.script.status, {"data": [{"id": name} for name in self.script.names]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path not in LISTED:
            self._whole(404, {})
        elif self._admitted():
            if body.get("stream") and self.script.streams:
                self._stream(self._text_pieces())
            elif self.path == "/v1/messages":
                usage = {"input_tokens": 9, "output_tokens": 4} if self.script.usage else {}
                content = [{"type": "text", "text": self.script.text}]
                self._whole(self.script.status, {"content": content, "usage": usage})
            else:
                usage = {"prompt_tokens": 9, "completion_tokens": 4} if self.script.usage else {}
                choices = [{"message": {"role": "assistant", "content": self.script.text}}]
                self._whole(self.script.status, {"choices": choices, "usage": usage})

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _admitted(self) -> bool:
        bearer = self.headers.get("authorization")
        token = bearer.removeprefix("Bearer").strip() if bearer is not None else self.headers.get("x-api-key")
        if self.script.accepted(token):
            return True
        self._whole(401, {"error": f"not {token}"})
        return False

    def _whole(self, status: int, document: dict[str, Any]) -> None:
        text = (self.script.body if self.script.body is not None else json.dumps(document)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _text_pieces(self) -> list[dict[str, Any]]:
        return [{"content": piece} for piece in re.findall(r"\S+\s*", self.script.text)]

    def _stream(self, deltas: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = [f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n" for delta in deltas]
        events += ["data: [DONE]\n\n"] if self.script.ends else []
        self.streams.append(self.path)
        first = self.script.at_once_for is None or len(self.streams) <= self.script.at_once_for
        at_once = self.script.at_once if first else 1
        for event in ("".join(events[i : i + at_once]) for i in range(0, len(events), at_once)):
            self.wfile.write(f"{len(event.encode()):x}\r\n{event}\r\n".encode())
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    handler = type("Scripted", (StandIn,), {"script": script, "streams": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def all_checks(script: Script) -> dict[str, Check]:
    with scripted(script) as url:
        gateway = Gateway(url, TOKEN)
        found = tuple(endpoint.checks(gateway, TOKEN, NAME))
    return {check.name: check for check in found}


def test_a_stream_that_came_in_lumps_once_is_asked_for_again() -> None:
    once = all_checks(Script(text="so " * 40, at_once=20, at_once_for=1))["streaming"]
    assert once.result == "passed"
    assert "1 before it came in fewer reads" in once.detail
    thrice = all_checks(Script(text="so " * 40, at_once=20, at_once_for=3))["streaming"]
    assert thrice.result == "failed"
    assert "holds the stream back" in thrice.detail


def red(script: Script) -> set[str]:
    return {name for name, check in all_checks(script).items() if check.result == "failed"}


IDENTITY = "llm identity"
CHATS = {"chat, OpenAI form", "chat, Anthropic form"}
WITHOUT = {"refused without a token, OpenAI form", "refused without a token, Anthropic form"}
WRONG = {"refused with a wrong token, OpenAI form", "refused with a wrong token, Anthropic form"}
OUTSIDE = "paths outside the list are not found"
ADMIN = "the runtime's own paths are closed"


def test_a_good_gateway_passes_every_check_with_its_figures() -> None:
    checks = all_checks(Script())
    assert {check.result for check in checks.values()} == {"passed"}
    assert {check.area for check in checks.values()} == {"endpoint"}
    assert set(checks) == {IDENTITY, *CHATS, "streaming", *WITHOUT, *WRONG, OUTSIDE, ADMIN}
    assert checks["streaming"].unit == "ms"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(Script(names=("other-llm",)), {IDENTITY}, id="another llm"),
        pytest.param(Script(names=()), {IDENTITY}, id="no llm"),
        pytest.param(Script(text=" "), {*CHATS, "streaming"}, id="empty answers"),
        pytest.param(Script(usage=False), CHATS, id="no usage figures"),
        pytest.param(Script(streams=False), {"streaming"}, id="not streamed"),
        pytest.param(Script(at_once=100), {"streaming"}, id="a stream held back to its end"),
        pytest.param(Script(text="so " * 40, at_once=20), {"streaming"}, id="a stream held back in a buffer"),
        pytest.param(Script(text="one"), {"streaming"}, id="a stream of one piece"),
        pytest.param(Script(ends=False), {"streaming"}, id="a stream without its end"),
        pytest.param(Script(accepted=lambda _: True), {*WITHOUT, *WRONG}, id="no token needed"),
        pytest.param(Script(accepted=lambda token: token is None or token == TOKEN), WITHOUT, id="none will do"),
        pytest.param(Script(accepted=lambda token: token is not None), WRONG, id="any token will do"),
        pytest.param(Script(accepted=lambda t: bool(t) and TOKEN.startswith(str(t))), WRONG, id="a beginning will do"),
        pytest.param(Script(open_paths=frozenset({"/slots"})), {ADMIN}, id="an admin path is open"),
        pytest.param(Script(open_paths=frozenset({"/v1/not-on-the-list"})), {OUTSIDE}, id="any path under v1"),
        pytest.param(Script(status=500), {IDENTITY, *CHATS}, id="HTTP 500"),
        pytest.param(Script(body="<html>"), {IDENTITY, *CHATS}, id="not JSON"),
        pytest.param(Script(body="[]"), {IDENTITY, *CHATS}, id="not an object"),
        pytest.param(Script(body='{"data": [1], "choices": [], "content": 3}'), {IDENTITY, *CHATS}, id="another form"),
    ],
)
def test_each_fault_turns_its_own_checks_red_and_no_other(script: Script, expected: set[str]) -> None:
    assert red(script) == expected


def test_a_gateway_that_is_not_there_fails_every_check_in_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        gateway = Gateway(url, TOKEN)
        found = tuple(endpoint.checks(gateway, TOKEN, NAME))
    assert {check.result for check in found} == {"failed"}
    assert all(f"no connection to {url}" in check.detail for check in found)


def test_a_proxy_of_this_machine_stands_not_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted(Script()) as url:
        assert chat_once(url, TOKEN, NAME).result == "passed"


def test_one_chat_is_one_check() -> None:
    with scripted(Script()) as url:
        check = chat_once(url, TOKEN, NAME)
        assert (check.area, check.name, check.result, check.unit) == ("endpoint", "chat, OpenAI form", "passed", "s")
        refused = chat_once(url, "another", NAME)
    assert refused.result == "failed"
    assert "HTTP 401" in refused.detail


def test_no_token_stands_in_a_detail_even_when_the_server_sends_it_back() -> None:
    with scripted(replace(Script(), accepted=lambda _: False)) as url:
        check = chat_once(url, TOKEN, NAME)
    assert check.result == "failed"
    assert TOKEN not in check.model_dump_json()
    assert TOKEN[:-1] not in check.model_dump_json()
