"""Clients that come and go without a restart, their caps, what they used: real nginx and njs, a stand-in runtime."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.gateway_here import CAP, SECRETS, TOKEN, Gateway, gateway_in

pytestmark = pytest.mark.lab

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"


class Runtime(http.server.BaseHTTPRequestHandler):
    """A stand-in for the runtime: says what it was sent and what that used; streams in either form."""

    protocol_version = "HTTP/1.1"
    #: Paths that were asked for since the gateway of a test was started.
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if sent.get("stream"):
            self.stream(sent)
            return
        used = {"prompt_tokens": 11, "completion_tokens": 7} if self.path == OPENAI else {"output_tokens": 9}
        self.give(json.dumps({"sent": sent, "usage": {"input_tokens": 12} | used}).encode())

    do_GET = do_POST  # noqa: N815 - the server's own name

    def give(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, sent: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.path == ANTHROPIC:
            events = [
                '{"type":"message_start","message":{"usage":{"input_tokens":21}}}',
                '{"usage":{"output_tokens":5}}',
            ]
        else:
            events = ['{"choices":[{"delta":{"content":"zwölf \\u00e4"}}]}'] * 3
        for event in events:
            self.wfile.write(f"data: {event}\n\n".encode())
            self.wfile.flush()
            time.sleep(sent.get("pause", 0))

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def runtime(port: int) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Runtime)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    Runtime.asked.clear()
    with gateway_in(tmp_path) as found, runtime(found.runtime_port):
        yield found


def test_a_client_comes_and_goes_without_a_restart(gateway: Gateway) -> None:
    assert gateway.ask(OPENAI, {})[0] == 401
    path = gateway.admit()
    assert gateway.ask(OPENAI, {})[0] == 200
    assert gateway.ask(ANTHROPIC, {}, {"x-api-key": TOKEN})[0] == 200
    path.unlink()
    assert gateway.ask(OPENAI, {})[0] == 401


def test_a_token_may_be_good_from_one_address_alone(gateway: Gateway) -> None:
    gateway.admit(address="127.0.0.2")
    assert gateway.ask(OPENAI, {})[0] == 401
    gateway.admit(address="127.0.0.1")
    assert gateway.ask(OPENAI, {})[0] == 200
    gateway.admit(address=None)
    assert gateway.ask(OPENAI, {})[0] == 200


def test_one_that_has_ended_is_out(gateway: Gateway) -> None:
    gateway.admit(expires=int(time.time()) + 2)
    assert gateway.ask(OPENAI, {})[0] == 200
    time.sleep(2.1)
    assert gateway.ask(OPENAI, {})[0] == 401


@pytest.mark.parametrize("token", ["short", "", "../../etc/passwd-and-more-letters", "a b" * 20, "ä" * 30])
def test_no_other_word_is_a_token(gateway: Gateway, token: str) -> None:
    gateway.admit()
    assert gateway.ask(OPENAI, {}, {"x-api-key": token.encode().decode("latin1")})[0] == 401


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"name": "Sandbox"}', '{"name": "a", "expires": "never", "output_tokens": null}',
     '{"name": "a", "expires": null, "output_tokens": 0}', '{"name": "a\\n", "expires": null, "output_tokens": null}',
     '{"name": "a", "output_tokens": null}'],
)  # fmt: skip
def test_a_file_that_is_none_lets_nobody_in(gateway: Gateway, content: str) -> None:
    gateway.admit().write_text(content)
    assert gateway.ask(OPENAI, {})[0] == 401


def test_a_token_in_the_address_is_none(gateway: Gateway) -> None:
    gateway.admit()
    for asked in (f"{OPENAI}?token={TOKEN}", f"{OPENAI}?api_key={TOKEN}", f"{OPENAI}?access_token={TOKEN}"):
        assert gateway.ask(asked, {}, {})[0] == 401


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_what_is_asked_for_is_lowered_to_the_cap(gateway: Gateway, key: str) -> None:
    gateway.admit()
    assert gateway.reached(OPENAI, {key: 10 * CAP})[key] == CAP
    assert gateway.reached(OPENAI, {key: 3})[key] == 3
    for strange in (-1, 0, None, "many", 1e99, [1]):
        assert gateway.reached(OPENAI, {key: strange})[key] == CAP


def test_the_cap_stands_where_nothing_is_asked_for(gateway: Gateway) -> None:
    gateway.admit()
    assert gateway.reached(OPENAI, {"model": "m"}) == {"model": "m", "max_tokens": CAP}
    assert gateway.reached(ANTHROPIC, {"max_tokens": 9999}, {"x-api-key": TOKEN}) == {"max_tokens": CAP}


def test_many_answers_share_the_cap(gateway: Gateway) -> None:
    gateway.admit()
    assert gateway.reached(OPENAI, {"n": 4, "max_tokens": 9999})["max_tokens"] == CAP // 4
    assert gateway.reached(OPENAI, {"prompt": ["a"] * 8, "max_tokens": 9999})["max_tokens"] == CAP // 8


def test_the_last_of_two_keys_counts_and_only_that_goes_on(gateway: Gateway) -> None:
    gateway.admit()
    assert gateway.reached(OPENAI, '{"max_tokens": 1, "max_tokens": 100000}') == {"max_tokens": CAP}


def test_all_else_of_a_request_goes_on_as_it_was(gateway: Gateway) -> None:
    gateway.admit()
    body = {
        "messages": [{"role": "user", "content": 'zwölf Äpfel \u2028 \U0001f600 \\ " \n' * 9000}],
        "seed": 1.5,
        "x": None,
    }
    assert gateway.reached(OPENAI, body) == body | {"max_tokens": CAP}


def test_without_a_cap_a_body_goes_on_untouched(gateway: Gateway) -> None:
    gateway.admit(output_tokens=None)
    assert gateway.reached(OPENAI, {"max_tokens": 99999}) == {"max_tokens": 99999}
    person = {"Authorization": f"Bearer {SECRETS['gateway_token']}"}
    assert gateway.reached(OPENAI, {"max_tokens": 99999}, person) == {"max_tokens": 99999}


@pytest.mark.parametrize("body", ["", "max_tokens=1", "[]", "null", "7", '{"a":', b"\xff\xfe{}"])
def test_a_body_that_is_no_object_is_refused(gateway: Gateway, body: str | bytes) -> None:
    gateway.admit()
    assert gateway.ask(OPENAI, body)[0] == 400


def test_a_capped_body_over_its_limit_is_refused(gateway: Gateway) -> None:
    gateway.admit()
    assert gateway.ask(OPENAI, {"x": "y" * (9 << 20)})[0] == 413


def test_a_stream_comes_piece_by_piece(gateway: Gateway) -> None:
    gateway.admit()
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        body = json.dumps({"stream": True, "pause": 0.5}).encode()
        head = (
            f"POST {OPENAI} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        raw.sendall(head.encode() + body)
        began, seen, first = time.monotonic(), b"", 0.0
        while seen.count(b"data:") < 3:
            seen += raw.recv(65536)
            first = first or (time.monotonic() - began if b"data:" in seen else 0.0)
    assert first < time.monotonic() - began - 0.5
    assert "zwölf".encode() in seen


def test_what_a_client_used_is_written_without_a_word_of_it(gateway: Gateway) -> None:
    gateway.admit()
    gateway.ask(OPENAI, {"messages": ["secret-prompt"]})
    gateway.ask(ANTHROPIC, {"messages": ["secret-prompt"]})
    gateway.ask(OPENAI, {"stream": True})
    gateway.ask(ANTHROPIC, {"stream": True})
    gateway.ask("/v1/none", {})
    found = [(one["path"], one["status"], one["prompt_tokens"], one["output_tokens"]) for one in gateway.used()]
    assert found == [
        (OPENAI, 200, "11", "7"),
        (ANTHROPIC, 200, "12", "9"),
        (OPENAI, 200, "-", "3"),
        (ANTHROPIC, 200, "21", "5"),
        ("/v1/none", 404, "-", "-"),
    ]
    assert {one["client"] for one in gateway.used()} == {"sandbox-0-one"}
    text = gateway.log.read_text()
    assert TOKEN not in text
    assert "secret-prompt" not in text


def test_one_who_asks_without_end_is_told_to_wait(gateway: Gateway) -> None:
    gateway.admit()
    statuses = [gateway.ask(OPENAI, {})[0] for _ in range(90)]
    assert statuses[:50] == [200] * 50
    assert 429 in statuses
    person = {"Authorization": f"Bearer {SECRETS['gateway_token']}"}
    assert gateway.ask(OPENAI, {}, person)[0] == 200


@pytest.mark.parametrize(
    ("request_line", "more"),
    [
        (f"POST {OPENAI} HTTP/1.1", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (f"POST {OPENAI} HTTP/1.1", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        (f"POST {OPENAI} HTTP/1.1", "Transfer-Encoding: xchunked\r\n\r\n{}"),
        ("CONNECT example.invalid:443 HTTP/1.1", "\r\n"),
        ("GET http://169.254.169.254/latest HTTP/1.1", "\r\n"),
        ("GET /v1/../metrics HTTP/1.1", "\r\n"),
        ("GET /v1/%2e%2e/metrics HTTP/1.1", "\r\n"),
        ("GET /V1/models HTTP/1.1", "\r\n"),
        (f"POST {OPENAI} HTTP/1.1", "X-Long: " + "y" * 70000 + "\r\n\r\n"),
    ],
)
def test_tricks_with_requests_reach_no_runtime(gateway: Gateway, request_line: str, more: str) -> None:
    gateway.admit()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
        raw.sendall(f"{request_line}\r\nHost: g\r\nAuthorization: Bearer {TOKEN}\r\n{more}".encode())
        answer = raw.recv(65536).decode("latin1")
    status = int(answer.split(" ")[1]) if answer.startswith("HTTP/") else 400
    assert status >= 400, answer
    assert Runtime.asked == []
