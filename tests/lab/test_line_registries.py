"""Registries that answer half a file, other bytes, cut the line or fall silent: on this machine's own loopback.

What is asked goes through a proxy of the test's own, which spoils the answers for chosen files. The index of wheels and
the hub are stand-ins; the archive of packages is the one that this machine uses.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import random
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlsplit

import pytest
from huggingface_hub import close_session

from orchestrator import lock as locking
from orchestrator.errors import LockError
from orchestrator.lock import Request, Store, apt, apt_reach, weights
from orchestrator.lock.wanted import Target, Weights
from orchestrator.progress import silent
from orchestrator.snapshot import HostSnapshot
from tests.relay import Fault, Relay, relaying
from tests.unit.lock_stand_ins import catalog, deployment, serving, snapshot, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.lockfile import Lock
    from tests.lab.rig import Rig

FAULTS: tuple[Fault, ...] = get_args(Fault)
GGUF = b"GGUF" + bytes(range(256)) * 64
CATALOG = catalog(GGUF)
REQUEST = Request(snapshot=snapshot(), profile_digest="p", deployment=deployment("small", "Q4", "xllamacpp"))
#: No half of it is like the other: a client that goes on where it was cut off must not end with the same bytes.
WEIGHTS = {"model-1.safetensors": random.Random(8).randbytes(4096), "config.json": b"{}"}  # noqa: S311 - no secret
UP = ("up", "--lab", "--profile", "small")
NAMES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The proxy between this machine and its registries; patience is short."""
    servers = {urlsplit(one.uri).hostname or "" for one in apt_reach._sources_here()}
    with relaying(Relay({"127.0.0.1", *servers})) as relay:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{relay.port}")
        for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "2"}.items():
            monkeypatch.setenv(name, value)
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        yield relay


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index of wheels (PEP 503): a folder a project."""
    folder = tmp_path / "index"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def put(index: Path, project: str, path: Path) -> None:
    """Put a wheel into the index."""
    digest = locking.Store(index / ".none").add_file(path).removeprefix("sha256:")
    shutil.rmtree(index / ".none")
    (index / project).mkdir(exist_ok=True)
    shutil.copy(path, index / project / path.name)
    (index / project / "index.html").write_text(f'<a href="{path.name}#sha256={digest}">{path.name}</a>')


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def lock(store: Store, previous: Lock | None = None) -> Lock:
    return locking.resolve({"one": REQUEST}, store, previous, silent, catalog=CATALOG)


def whole(store: Store) -> set[str]:
    """Give the digests in the store, each read again; what is half there is nowhere in it."""
    found = {path.name for path in (store.root / "sha256").glob("*/*")}
    for digest in found:
        store.verify(digest)
    assert [path for path in (store.root / "partial").glob("*") if path.name != "hub"] == []
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("spoiled", ["small_runtime-1.0-py3-none-any.whl", "small_weights-1.0-py3-none-any.whl"])
def test_an_index_that_spoils_a_wheel(relay: Relay, index: Path, store: Store, fault: Fault, spoiled: str) -> None:
    made = index.parent
    put(index, "small-runtime", wheel(made, "small-runtime", "1.0"))
    put(index, "small-weights", wheel(made, "small-weights", "1.0", files={"small_weights/small.gguf": GGUF}))
    relay.spoiled[spoiled] = fault
    with pytest.raises(LockError) as refusal:
        lock(store)
    assert spoiled.split("-", maxsplit=1)[0].replace("_", "-") in str(refusal.value), refusal.value
    assert "://" not in str(refusal.value)
    before = whole(store)
    relay.spoiled.clear()
    locked = lock(store)
    assert before < whole(store)
    assert lock(store, locked) is locked


@pytest.mark.parametrize("fault", ["half", "other", "reset"])
def test_a_hub_that_spoils_a_file(relay: Relay, store: Store, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    (quant,) = CATALOG.llms["large"].quants
    wanted, target = Weights(llm="large", quant="FP8", files=quant.files), Target("3.11.2", "x86_64", (2, 36))
    with serving(WEIGHTS) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        close_session()  # The library keeps its connections, and with them the proxy of an earlier case.
        found = weights.resolve_weights(wanted, target, store)
        relay.spoiled["model-1.safetensors"] = fault
        with pytest.raises(LockError, match=r"model-1\.safetensors"):
            weights.fetch_weights(found.parts, target, store)
        before = whole(store)
        relay.spoiled.clear()
        weights.fetch_weights(found.parts, target, store)
    close_session()
    assert before < whole(store)


HOST = HostSnapshot.from_json(Path("tests/fixtures/lock/debian_12_minimal.json").read_text())


@pytest.mark.skipif(
    apt_reach.MIRROR in os.environ or platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm",
    reason="the fixture is Debian 12, and the proxy leads to this machine's own archive",
)
@pytest.mark.parametrize("fault", ["half", "other", "reset"])
def test_an_archive_that_spoils_a_package(relay: Relay, store: Store, fault: Fault) -> None:
    closure = apt.resolve_debs(HOST, ["python3-venv"], store)
    deb = next(one for one in closure.debs if one.name == "python3-venv")
    relay.spoiled[deb.filename] = fault
    with pytest.raises(LockError) as refusal:
        apt.fetch_debs(closure.debs, HOST, store)
    assert deb.filename in str(refusal.value)
    assert "://" not in str(refusal.value)
    assert deb.digest not in {f"sha256:{one}" for one in whole(store)}
    relay.spoiled.clear()
    apt.fetch_debs(closure.debs, HOST, store)
    assert {f"sha256:{one}" for one in whole(store)} == {one.digest for one in closure.debs}


@pytest.fixture(scope="module")
def served(rig: Rig) -> Rig:
    """The rig of the session, up: before any registry is spoiled."""
    rig.small()
    rig.document(*UP)
    return rig


@pytest.mark.parametrize("fault", ["half", "other"])
def test_what_serves_serves_on(served: Rig, relay: Relay, index: Path, fault: Fault) -> None:
    """A wheel is gone from the store, and the registry spoils it: `up` says so and touches nothing."""
    rig = served
    kept = (rig.state / "lab/deploy.lock").read_bytes()
    (runtime,) = [one for one in json.loads(kept)["artefacts"] if one["kind"] == "wheel" and one["name"] == "xllamacpp"]
    blob = Store(rig.state / "store").path(runtime["digest"])
    named = index.parent / runtime["filename"]
    shutil.move(blob, named)
    try:
        put(index, "xllamacpp", named)
        relay.spoiled[runtime["filename"]] = fault
        error = rig.document(*UP, "--full", code=1)["error"]
        assert "xllamacpp" in error["what"] + error["where"]
        assert not blob.exists()
        assert (rig.state / "lab/deploy.lock").read_bytes() == kept
        (status,) = rig.document("status", "--lab", "--check", "--limit", "lab-small")["hosts"]
        assert (status["serving"], status["drift"]) == (True, [])
        relay.spoiled.clear()
        (host,) = rig.document(*UP, "--full")["hosts"]
        assert host["result"] == "unchanged"
        assert blob.is_file()
        assert (rig.state / "lab/deploy.lock").read_bytes() == kept
    finally:
        if not blob.exists():
            shutil.move(named, blob)
