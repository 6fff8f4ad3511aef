"""A stand-in for a hub: a mirror on 127.0.0.1 that serves what a test gives it, ranges included, and GGUF files."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
Q4_K, Q6_K, Q8_0, F16, F32 = 12, 14, 8, 1, 0
BLOCKS = {Q4_K: (256, 144), Q6_K: (256, 210), Q8_0: (32, 34), F16: (1, 2), F32: (1, 4)}


class Hub:
    """One repository. A file given as a number is listed with that size and not served."""

    def __init__(self, name: str, files: Mapping[str, bytes | int], **about: Any) -> None:
        self.name = name
        self.files = dict(files)
        self.listed: dict[str, int] = {}
        self.about = about
        self.refusal: tuple[int, str] | None = None
        self.refused = re.compile(r".*")
        self.without_ranges = False
        self.sent = 0
        self.asked: list[tuple[str, str]] = []
        self.endpoint = ""

    def answer(self, path: str, ranged: str) -> tuple[int, dict[str, str], bytes]:
        """Give status, headers and body of one question."""
        if self.refusal and self.refused.match(path):
            return self.refusal[0], {"X-Error-Code": self.refusal[1]}, b"{}"
        if path.startswith(f"/api/models/{self.name}/revision/"):
            return 200, {}, json.dumps({"id": self.name, "sha": COMMIT, "siblings": [], **self.about}).encode()
        if path == f"/api/models/{self.name}/tree/{COMMIT}":
            return 200, {}, json.dumps([self._entry(one) for one in self.files]).encode()
        content = self.files.get(path.removeprefix(f"/{self.name}/resolve/{COMMIT}/"))
        if not isinstance(content, bytes):
            return 404, {"X-Error-Code": "RepoNotFound" if "/api/" in path else "EntryNotFound"}, b"{}"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", ranged)
        if wanted is None or self.without_ranges:
            return 200, {}, content
        first, last = int(wanted.group(1)), min(int(wanted.group(2)), len(content) - 1)
        return 206, {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1]

    def _entry(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        size = self.listed.get(path, content if isinstance(content, int) else len(content))
        return {"type": "file", "path": path, "size": size, "oid": "0" * 40}


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a repository for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, ranged = self.path.split("?")[0], self.headers.get("Range", "")
            hub.asked.append((path, ranged))
            status, headers, body = hub.answer(path, ranged)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "X-Repo-Commit": COMMIT}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                for start in range(0, len(body), 1 << 16):
                    self.wfile.write(body[start : start + (1 << 16)])
                    hub.sent += min(1 << 16, len(body) - start)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def key(name: str, value: Any) -> bytes:
    """Write a key of a GGUF header: a string, a whole number, or a list of strings or numbers."""
    if isinstance(value, str):
        return string(name) + struct.pack("<I", 8) + string(value)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return string(name) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string, value))
    if isinstance(value, list):
        return string(name) + struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
    return string(name) + struct.pack("<II", 4, value)


def keys(**changes: Any) -> dict[str, Any]:
    """Give the keys of a small llm of the llama family; dots are written ``__``."""
    found = {
        "general.architecture": "llama",
        "general.license": "mit",
        "llama.block_count": 2,
        "llama.context_length": 32768,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 64,
        "llama.attention.value_length": 64,
        "tokenizer.ggml.tokens": [f"token {number}" for number in range(512)],
    }
    return found | {name.replace("__", "."): value for name, value in changes.items()}


def tensors(layers: int = 2, kind: int = Q4_K) -> dict[str, tuple[tuple[int, ...], int]]:
    """Give the tensors of that llm: name -> widths and type."""
    found: dict[str, tuple[tuple[int, ...], int]] = {"token_embd.weight": ((256, 512), F16)}
    for layer in range(layers):
        for name, rows in (("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("attn_output", 256)):
            found[f"blk.{layer}.{name}.weight"] = ((256, rows), kind)
        for name, widths in (("ffn_gate", (256, 512)), ("ffn_up", (256, 512)), ("ffn_down", (512, 256))):
            found[f"blk.{layer}.{name}.weight"] = (widths, kind)
        found[f"blk.{layer}.attn_norm.weight"] = ((256,), F32)
    return found | {"output.weight": ((256, 512), Q6_K)}


def size_of(widths: tuple[int, ...], kind: int) -> int:
    """Give a tensor's bytes."""
    count = 1
    for width in widths:
        count *= width
    weights, size = BLOCKS[kind]
    return count // weights * size


def gguf(
    metadata: Mapping[str, Any] | None = None, carried: Mapping[str, tuple[tuple[int, ...], int]] | None = None
) -> bytes:
    """Write a GGUF file whose weights are zeros."""
    metadata = keys() if metadata is None else metadata
    carried = tensors() if carried is None else carried
    head = b"GGUF" + struct.pack("<IQQ", 3, len(carried), len(metadata))
    head += b"".join(key(name, value) for name, value in metadata.items())
    end = 0
    for name, (widths, kind) in carried.items():
        head += string(name) + struct.pack(f"<I{len(widths)}QIQ", len(widths), *widths, kind, end)
        end += -(-size_of(widths, kind) // 32) * 32
    return head + bytes(-len(head) % 32) + bytes(end)


def safetensors(carried: Mapping[str, tuple[str, list[int], int]]) -> bytes:
    """Write a safetensors file whose weights are zeros: name -> type, shape, bytes."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape, size) in carried.items():
        table[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + bytes(end)
