"""What others run on a host: the command against a stand-in on 127.0.0.1, and the parse against every answer."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.detect.endpoints import ENDPOINTS, parse_endpoints, parse_firewalls
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLLAMA = {
    "/v1/models": {"object": "list", "data": [{"id": "llama3.2:3b", "owned_by": "library"}, {"id": "qwen3:8b"}]},
    "/api/version": {"version": "0.12.6"},
    "/api/ps": {"models": [{"name": "llama3.2:3b", "context_length": 4096}]},
}
VLLM = {
    "/v1/models": {"data": [{"id": "Qwen/Qwen3-8B", "owned_by": "vllm", "max_model_len": 32768}]},
    "/version": {"version": "0.19.0"},
}


def lines(port: int, answers: Mapping[str, Any]) -> str:
    """Give what the command prints for answers of one port."""
    return "".join(
        f"{port} {path} {base64.b64encode(json.dumps(said).encode()).decode()}\n" for path, said in answers.items()
    )


@contextmanager
def serving(answers: Mapping[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """A stand-in for a foreign endpoint; gives its port and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(answers[self.path]).encode() if self.path in answers else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("answers", "window"), [(OLLAMA, 4096), (VLLM, 32768)])
def test_the_command_asks_a_port_that_listens_and_the_parse_reads_it(answers: Any, window: int) -> None:
    with serving(answers) as (port, asked):
        command = ENDPOINTS.replace("8000:1F40", f"{port}:{port:04X}")
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    found = [
        one
        for one in parse_endpoints(done.stdout, [Listener(protocol="tcp", address="127.0.0.1", port=port, program="x")])
        if one.url.endswith(f":{port}")
    ]
    assert [(one.context_tokens, one.program) for one in found] == [(window, "x")]
    assert asked[0] == "/v1/models"


def test_a_port_that_lists_no_llms_is_asked_nothing_more() -> None:
    with serving({"/": "a site"}) as (port, asked):
        command = ENDPOINTS.replace("8000:1F40", f"{port}:{port:04X}")
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert asked == ["/v1/models"]
    assert f"{port} " not in done.stdout


def test_each_program_is_told_apart_with_its_version_and_llms() -> None:
    ours = {"data": [{"id": "small", "owned_by": "llamacpp", "meta": {"n_ctx": 8192, "n_ctx_train": 131072}}]}
    text = lines(8000, VLLM) + lines(11434, OLLAMA) + lines(8080, {"/v1/models": ours})
    found = {one.kind: one for one in parse_endpoints(text, ())}
    assert {kind: (one.version, one.context_tokens, one.llms) for kind, one in found.items()} == {
        "vllm": ("0.19.0", 32768, ("Qwen/Qwen3-8B",)),
        "ollama": ("0.12.6", 4096, ("llama3.2:3b", "qwen3:8b")),
        "llama_cpp": (None, 8192, ("small",)),
    }


@pytest.mark.parametrize(
    "said", [[], "text", None, {"data": "none"}, {"object": "list"}, {"data": None}, {"error": {"message": "key"}}]
)
def test_what_lists_no_llms_is_no_endpoint(said: Any) -> None:
    assert parse_endpoints(lines(8000, {"/v1/models": said}), ()) == ()


def test_a_stranger_s_names_cannot_garble_a_screen() -> None:
    rows = [{"id": "good"}, {"id": "\x1b[2J"}, {"id": "x" * 500}, {"id": 7}, "row", {"id": "a\nb"}]
    (found,) = parse_endpoints(lines(8000, {"/v1/models": {"data": rows}}), ())
    assert (found.llms, found.kind, found.context_tokens) == (("good",), "openai", None)


def test_windows_that_differ_promise_none() -> None:
    rows = [{"id": "a", "max_model_len": 4096}, {"id": "b", "max_model_len": 8192}]
    (found,) = parse_endpoints(lines(8000, {"/v1/models": {"data": rows}}), ())
    assert found.context_tokens is None


@pytest.mark.parametrize("text", ["hello", "8000 /v1/models", "99999999 /v1/models e30=", "8000 /v1/models {}"])
def test_a_line_that_is_not_ours_is_garbled(text: str) -> None:
    with pytest.raises(ProbeGarbled):
        parse_endpoints(text, ())


def test_firewalls_are_named_and_others_refused() -> None:
    assert parse_firewalls("ufw\nfirewalld\nnft inet filter\nnft ip6 a-b\nufw\n") == (
        "ufw",
        "firewalld",
        "nft inet filter",
        "nft ip6 a-b",
    )
    assert parse_firewalls("\n") == ()
    with pytest.raises(ProbeGarbled, match="called"):
        parse_firewalls("sh: not found")
