"""What an upgrade moves and what that means; what a lock says of the agentrig that made it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import lock as locking
from orchestrator.catalog.loader import load
from orchestrator.catalog.rows import VersionNote
from orchestrator.lock import Store, own
from orchestrator.lockfile import Artefact, Lock
from orchestrator.progress import silent
from tests.unit.lock_stand_ins import catalog, deployment, snapshot, wheel

if TYPE_CHECKING:
    from pathlib import Path

GGUF = b"GGUF" + bytes(256)
NOTES = (
    VersionNote(since="0.9", min_driver="570", source="test"),
    VersionNote(since="0.33", min_driver="580", tool_parsers={"one": "two"}, flags={"--old": "--new"}, source="test"),
    VersionNote(since="0.34", text="another thing", source="test"),
)


def noted() -> Any:
    plain = catalog(GGUF)
    rows = {
        name: row.model_copy(update={"notes": NOTES}) if name == "xllamacpp" else row
        for name, row in plain.runtimes.items()
    }
    return plain.model_copy(update={"runtimes": rows})


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    wheel(folder, "small-runtime", "0.32", "helper", "other-helper")
    wheel(folder, "helper", "1.0")
    wheel(folder, "other-helper", "1.0")
    wheel(folder, "small-weights", "1.0", files={"small_weights/small.gguf": GGUF})
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    return folder


def lock(folder: Path, previous: Lock | None = None, *upgrade: str) -> Lock:
    request = locking.Request(
        snapshot=snapshot(), profile_digest="p", deployment=deployment("small", "Q4", "xllamacpp")
    )
    return locking.resolve({"one": request}, Store(folder), previous, silent, catalog=noted(), upgrade=upgrade)


def test_only_what_is_named_moves_and_it_is_told_what_comes_with_it(registry: Path, tmp_path: Path) -> None:
    first = lock(tmp_path / "store")
    for name in ("helper", "other-helper"):
        wheel(registry, name, "2.0")
    wheel(registry, "small-runtime", "0.33", "helper", "other-helper")
    second = lock(tmp_path / "store", first, "small-runtime")
    told = {(one.kind, one.name): one for one in locking.moved(first, second, noted())}
    assert set(told) == {("wheel", "small-runtime"), ("venv", "xllamacpp")}
    assert told["venv", "xllamacpp"].means == ("it is built anew: 1 of its 3 parts are others",)
    runtime = told["wheel", "small-runtime"]
    assert (runtime.before, runtime.after) == ("0.32", "0.33")
    assert runtime.means == (
        "driver 580 needed (0.33)",
        "tool-call parser one is called two (0.33)",
        "--old is --new (0.33)",
    )


def test_all_else_stays_to_the_byte(registry: Path, tmp_path: Path) -> None:
    first = lock(tmp_path / "store")
    for name in ("helper", "other-helper"):
        wheel(registry, name, "2.0")
    second = lock(tmp_path / "store", first, "helper")

    def rest(one: Lock) -> str:
        document = one.document()
        document["artefacts"] = [each for each in document["artefacts"] if (each["kind"], each["name"]) not in MOVED]
        del document["hosts"]["one"]["links"]["runtime"]
        return json.dumps(document)

    assert rest(first) == rest(second)
    assert {(one.kind, one.name) for one in locking.moved(first, second, noted())} == MOVED


MOVED = {("wheel", "helper"), ("venv", "xllamacpp")}


def artefact(version: str, digest: str = "a") -> Artefact:
    return Artefact(kind="wheel", name="vllm", version=version, digest="sha256:" + digest * 64, source="test")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [("0.19.1", "0.20.0", True), ("0.20.0", "0.32.0", False), ("0.32.0", "0.19.0", True), ("0.9", "0.10", False)],
)
def test_the_catalog_s_own_notes_are_told_where_a_lock_moves_past_them(before: str, after: str, *, told: bool) -> None:
    locks = [Lock(agentrig="0", artefacts=(artefact(version),)) for version in (before, after)]
    (one,) = locking.moved(*locks, load())
    assert ("driver 580 needed (0.20.0)" in one.means) is told


def test_what_comes_and_goes_is_told_without_a_meaning() -> None:
    empty, full = Lock(agentrig="0"), Lock(agentrig="0", artefacts=(artefact("1"),))
    assert [(one.before, one.after, one.means) for one in locking.moved(empty, full, load())] == [(None, "1", ())]
    assert [(one.before, one.after, one.means) for one in locking.moved(full, empty, load())] == [("1", None, ())]
    assert locking.moved(full, full, load()) == ()


def test_a_lock_says_which_agentrig_made_it(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.is_dir()
    made = lock(tmp_path / "store")
    assert made.agentrig_digest == own.own_digest()
    assert locking.another_agentrig(made) is None
    other = made.model_copy(update={"agentrig": "9.9", "agentrig_digest": "sha256:" + "0" * 64})
    assert str(locking.another_agentrig(other)).startswith("the lock was made with agentrig 9.9, sha256:000000000000;")
    monkeypatch.setattr(own, "own_digest", lambda: "sha256:" + "1" * 64)
    assert str(locking.another_agentrig(made)).endswith("sha256:111111111111")


def test_a_lock_that_does_not_say_it_is_read_and_keeps_its_digest() -> None:
    old = Lock.from_json('{"version": 1, "agentrig": "0.1", "hosts": {}, "artefacts": []}')
    assert "agentrig_digest" not in old.to_json()
    assert locking.another_agentrig(old) is None


def test_the_content_is_what_is_shipped_wherever_it_lies(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "inner").mkdir(parents=True)
        (tmp_path / place / "inner/code.py").write_text("x = 1\n")
    (tmp_path / "two/__pycache__").mkdir()
    (tmp_path / "two/__pycache__/code.pyc").write_bytes(b"bytecode")
    found = [own.content_digest({"package": tmp_path / place}) for place in ("one", "two")]
    assert found[0] == found[1]
    (tmp_path / "two/inner/code.py").write_text("x = 2\n")
    assert own.content_digest({"package": tmp_path / "two"}) != found[0]
