"""Weights that lie on this machine already are copied by their sha256; what only bears the name is not believed."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from orchestrator.lock import Store, resolve
from orchestrator.lock.adopt import LEAST_BYTES, OLLAMA_SERVICE, Place, adopt, places
from orchestrator.lock.wanted import Request
from orchestrator.lockfile import Artefact
from tests.unit.lock_stand_ins import catalog, deployment, serving, snapshot, wheel

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.progress import Event

CONTENT = b"weights " * (LEAST_BYTES // 8 + 1)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = Artefact(
    kind="file", name="llm/part.gguf", version="1", digest=f"sha256:{DIGEST}", bytes=len(CONTENT), source="hub:m/l@1/p"
)


def laid(folder: Path, path: str, content: bytes = CONTENT) -> Path:
    """Lay a file as somebody else's program would."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


HUB, OLLAMA = f"models--maker--large/blobs/{DIGEST}", f"blobs/sha256-{DIGEST}"


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"HF_HUB_CACHE": "x"}, f"x/{HUB}"),
        ({"HF_HOME": "x"}, f"x/hub/{HUB}"),
        ({"XDG_CACHE_HOME": "x"}, f"x/huggingface/hub/{HUB}"),
        ({}, f"home/.cache/huggingface/hub/{HUB}"),
        ({"OLLAMA_MODELS": "x"}, f"x/{OLLAMA}"),
        ({}, f"home/.ollama/models/{OLLAMA}"),
    ],
)
def test_each_place_is_looked_into(tmp_path: Path, variables: dict[str, str], path: str) -> None:
    source = laid(tmp_path, path)
    before = source.stat()
    store, told = Store(tmp_path / "store"), []
    where = places({name: str(tmp_path / value) for name, value in variables.items()}, [tmp_path / "home"])
    assert adopt([FILE], store, told.append, where) == len(CONTENT)
    assert store.path(DIGEST).read_bytes() == CONTENT
    assert len(told) == 1
    assert told[0].startswith("adopted llm/part.gguf from ")
    assert "not fetched" in told[0]
    after = source.stat()
    assert (after.st_mtime_ns, after.st_mode, after.st_nlink) == (before.st_mtime_ns, before.st_mode, 1)
    assert store.path(DIGEST).stat().st_ino != after.st_ino


def test_the_service_of_ollama_is_looked_into_too() -> None:
    assert OLLAMA_SERVICE in {one.folder for one in places({}, [])}


def test_a_file_that_only_bears_the_name_is_not_taken(tmp_path: Path) -> None:
    laid(tmp_path, HUB, CONTENT[:-1] + b"X")
    store, told = Store(tmp_path / "store"), []
    assert adopt([FILE], store, told.append, places({"HF_HUB_CACHE": str(tmp_path)}, [])) == 0
    assert not store.has(DIGEST)
    assert "other bytes" in told[0]


def test_a_file_of_another_size_and_a_pipe_are_passed_by(tmp_path: Path) -> None:
    laid(tmp_path / "short", HUB, CONTENT[:-1])
    (tmp_path / "pipe/blobs").mkdir(parents=True)
    os.mkfifo(tmp_path / f"pipe/{OLLAMA}")
    where = [
        Place(tmp_path / "short", "a", "*--*/blobs/{digest}"),
        Place(tmp_path / "pipe", "b", "blobs/sha256-{digest}"),
    ]
    store, told = Store(tmp_path / "store"), []
    assert adopt([FILE], store, told.append, where) == 0
    assert told == []


def test_what_the_store_has_and_what_is_small_is_not_looked_for(tmp_path: Path) -> None:
    small = FILE.model_copy(update={"bytes": 10})
    laid(tmp_path, HUB)
    where = places({"HF_HUB_CACHE": str(tmp_path)}, [])
    store, told = Store(tmp_path / "store"), []
    assert adopt([small, FILE.model_copy(update={"kind": "wheel"})], store, told.append, where) == 0
    store.add_file(laid(tmp_path, "again"), DIGEST)
    assert adopt([FILE], store, told.append, where) == 0


def test_the_lock_takes_them_over_and_asks_the_hub_for_their_digest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    wheel(wheels, "large-runtime", "1.0")
    laid(tmp_path / "cache", HUB)
    told: list[Event] = []
    request = Request(snapshot=snapshot(), profile_digest="0", deployment=deployment("large", "FP8", "vllm"))
    with serving({"model.safetensors": CONTENT, "config.json": b"{}"}) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        store = Store(tmp_path / "store")
        lock = resolve({"one": request}, store, None, told.append, catalog=catalog(b""))
        assert not [path for path in mirror.asked if path.endswith("model.safetensors")]
    assert store.has(DIGEST)
    assert f"sha256:{DIGEST}" in {one.digest for one in lock.artefacts}
    assert any("adopted large/model.safetensors from the Hugging Face cache" in one.text for one in told)
