"""A stand-in for a network: a proxy on a loopback port that leads to named servers alone, and may spoil answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Fault = Literal["half", "other", "reset", "stall"]

_CHUNK = 1 << 16
#: Of these a proxy is the end (RFC 9110, section 7.6.1).
_OURS = {"connection", "proxy-connection", "keep-alive", "transfer-encoding"}


@dataclass
class Relay:
    """What the proxy lets through, what it was asked for, and what it spoils: paths that end so, and how."""

    allowed: Collection[str]
    spoiled: dict[str, Fault] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    port: int = 0
    #: Ends every stalled answer.
    over: threading.Event = field(default_factory=threading.Event)

    def fault(self, path: str) -> Fault | None:
        """Give how the answer for a path is spoiled."""
        return next((how for end, how in self.spoiled.items() if unquote(path).endswith(end)), None)


def send(to: BaseHTTPRequestHandler, body: bytes, fault: Fault | None, over: threading.Event) -> None:
    """Send the body of an answer whose head promised all of it, spoiled or not."""
    if fault == "other":
        body = bytes(byte ^ 0xFF for byte in body[:64]) + body[64:]
    to.wfile.write(body[: len(body) // 2] if fault in {"half", "reset", "stall"} else body)
    to.wfile.flush()
    if fault == "stall":
        over.wait(120)
    if fault == "reset":
        to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if fault in {"half", "reset", "stall"}:
        to.close_connection = True
        with contextlib.suppress(OSError):
            to.connection.close()


@contextlib.contextmanager
def relaying(  # noqa: C901 - a server in one place
    relay: Relay, listening: socket.socket | None = None
) -> Iterator[Relay]:
    """Have the proxy at work for as long as the block lasts; ``listening`` may be of another network namespace."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            name, _, port = self.path.rpartition(":")
            if not self._may(name):
                return
            try:
                far = socket.create_connection((name, int(port)), 30)
            except OSError as error:
                self.send_error(502, str(error))
                return
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            _both_ways(self.connection, far)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            place = urlsplit(self.path)
            relay.asked.append(place.path)
            if not self._may(place.hostname or ""):
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OURS}
            far = HTTPConnection(place.hostname or "", place.port or 80, timeout=60)
            try:
                far.request(self.command, f"{place.path}{'?' + place.query if place.query else ''}", headers=headers)
                answer = far.getresponse()
                body = answer.read()
            except (OSError, HTTPException) as error:
                self.send_error(502, str(error))
                return
            finally:
                far.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {*_OURS, "content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command == "GET":
                send(self, body, relay.fault(place.path) if answer.status in {200, 206} else None, relay.over)

        def _may(self, name: str) -> bool:
            if name in relay.allowed:
                return True
            relay.refused.append(name)
            self.send_error(403, "no way there")
            return False

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler, bind_and_activate=listening is None)
    if listening is not None:
        server.socket.close()
        server.socket = listening
    relay.port = server.socket.getsockname()[1]
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    try:
        yield relay
    finally:
        relay.over.set()
        server.shutdown()
        server.server_close()
        serving.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that went away is none of ours."""


def _both_ways(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes both ways until both have ended."""
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()
    far.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
