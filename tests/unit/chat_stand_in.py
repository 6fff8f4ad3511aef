"""A stand-in for gateway and runtime together, on 127.0.0.1: it answers each chat as its script says."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Path and body of a request -> its status and document, or the events of a stream as they stand on the wire.
    Script = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]] | list[str]]


class _Handler(BaseHTTPRequestHandler):
    script: staticmethod[..., Any]

    def do_POST(self) -> None:
        answer = self.script(self.path, json.loads(self.rfile.read(int(self.headers["content-length"]))))
        status, kind, text = 200, "text/event-stream", ""
        if isinstance(answer, list):
            text = "".join(f"{event}\n\n" for event in answer)
        else:
            (status, document), kind = answer, "application/json"
            text = json.dumps(document)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """Give the address of a stand-in for as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (_Handler,), {"script": staticmethod(script)}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
