"""The rendered gateway in the distribution's own nginx, before a stand-in runtime that says what reached it."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.render import render
from orchestrator.rendered import CURRENT
from tests.unit.rendering import CATALOG, CPU

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

SECRETS = {"gateway_token": "Person-Token_1", "runtime_key": "Runtime-Key_2"}
BEARER = {"Authorization": f"Bearer {SECRETS['gateway_token']}"}
PACKAGES = ("nginx", "nginx-common")


def nginx_binary() -> Path:
    """Give the packaged nginx, taken apart in a cache of the tests and never installed."""
    cache = Path.home() / ".cache" / "agentrig" / "tests" / "nginx"
    binary = cache / "root" / "usr" / "sbin" / "nginx"
    if not binary.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-q", "download", *PACKAGES], cwd=cache, check=True)
        for package in cache.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, cache / "root"], check=True)
    return binary


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Echo(http.server.BaseHTTPRequestHandler):
    """A stand-in for the runtime: answers with the path and headers it was given; streams two late chunks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if b"stream" not in sent:
            self.do_GET()
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        self.wfile.flush()
        self.server.may_end.wait(10)  # type: ignore[attr-defined]
        self.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def runtime(port: int) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Echo)
    server.may_end = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Start nginx with the rendered files, the release moved under the test's own; give both ports."""
    folder = tmp_path_factory.mktemp("gateway")
    deployment = CPU.model_copy(update={"runtime_port": free_port(), "gateway_port": free_port()})
    for file in render(deployment, CATALOG).files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.filled(SECRETS).replace(CURRENT, str(folder)))
    command = [str(nginx_binary()), "-e", "stderr", "-p", f"{folder}/", "-c", str(folder / "gateway" / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    with subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.PIPE) as nginx:
        try:
            wait_for(deployment.gateway_port)
            yield deployment.gateway_port, deployment.runtime_port
        finally:
            nginx.terminate()


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("nginx did not listen")


def ask(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    got = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return got


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer " + SECRETS["gateway_token"].lower()},
        {"Authorization": "Bearer " + SECRETS["gateway_token"] + "x"},
        {"Authorization": "Bearer " + SECRETS["runtime_key"]},
        {"Authorization": SECRETS["gateway_token"]},
        {"x-api-key": "wrong"},
        {"x-api-key": SECRETS["gateway_token"].upper()},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_without_the_token_nothing_passes(ports: tuple[int, int], headers: dict[str, str], path: str) -> None:
    with runtime(ports[1]):
        status, got, body = ask(ports[0], "GET", path, headers)
    assert status == 401
    assert json.loads(body)["error"]["type"] == "authentication_error"
    assert got["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/props",
        "/slots",
        "/health",
        "/v1/",
        "/v1/embeddings",
        "/v1/stream",
        "/v1/models/../../metrics",
    ],
)
def test_only_listed_paths_pass(ports: tuple[int, int], path: str) -> None:
    with runtime(ports[1]):
        status, _, body = ask(ports[0], "GET", path, BEARER)
    assert status == 404
    assert json.loads(body)["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/models"), ("GET", "/v1/messages"), ("DELETE", "/v1/models"), ("PUT", "/v1/messages")],
)
def test_only_the_right_method_passes(ports: tuple[int, int], method: str, path: str) -> None:
    with runtime(ports[1]):
        assert ask(ports[0], method, path, BEARER)[0] == 405


@pytest.mark.parametrize("headers", [BEARER, {"x-api-key": SECRETS["gateway_token"]}])
def test_the_runtime_sees_its_own_key_and_never_the_clients(ports: tuple[int, int], headers: dict[str, str]) -> None:
    with runtime(ports[1]):
        status, got, body = ask(ports[0], "POST", "/v1/messages?beta=true", {**headers, "Cookie": "a=b"}, b"{}")
    seen = json.loads(body)
    assert status == 200
    assert seen["path"] == "/v1/messages?beta=true"
    assert seen["headers"]["authorization"] == "Bearer " + SECRETS["runtime_key"]
    assert not {"x-api-key", "cookie"} & seen["headers"].keys()
    assert SECRETS["gateway_token"] not in body.decode()
    assert "access-control-allow-origin" not in got
    assert got["server"] == "nginx"


def test_a_path_in_disguise_reaches_the_runtime_as_itself(ports: tuple[int, int]) -> None:
    with runtime(ports[1]):
        status, _, body = ask(ports[0], "GET", "/metrics/%2e%2e/v1/models", BEARER)
    assert status == 200
    assert json.loads(body)["path"] == "/v1/models"


def test_the_first_token_is_not_held_back(ports: tuple[int, int]) -> None:
    with runtime(ports[1]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=5)
        connection.request("POST", "/v1/chat/completions", b"stream", BEARER)
        answer = connection.getresponse()
        assert answer.read(5) == b"first"
        server.may_end.set()  # type: ignore[attr-defined]
        assert answer.read() == b"last"
        connection.close()


def test_a_body_over_the_limit_is_refused(ports: tuple[int, int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=10)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Authorization", BEARER["Authorization"])
    connection.putheader("Content-Length", str(33 * 2**20))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["type"] == "request_too_large"
    connection.close()


def test_without_a_runtime_it_says_so(ports: tuple[int, int]) -> None:
    status, headers, body = ask(ports[0], "GET", "/v1/models", BEARER)
    assert status == 503
    assert headers["retry-after"] == "5"
    assert json.loads(body)["error"]["type"] == "overloaded_error"


def test_liveness_is_open_and_says_nothing(ports: tuple[int, int]) -> None:
    status, _, body = ask(ports[0], "GET", "/healthz")
    assert (status, body) == (204, b"")
