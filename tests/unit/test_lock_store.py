from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import LockError
from orchestrator.lock import Store

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"every byte counts"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "some.whl"
    path.write_bytes(CONTENT)
    return path


def files_in(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_a_file_lies_under_its_own_digest(store: Store, blob: Path) -> None:
    assert store.add_file(blob, DIGEST) == DIGEST
    bare = DIGEST.removeprefix("sha256:")
    assert store.path(DIGEST) == store.root / "sha256" / bare[:2] / bare
    assert store.path(bare).read_bytes() == CONTENT
    assert store.has(DIGEST)
    assert blob.exists()
    store.verify(DIGEST)


def test_a_moved_file_is_gone_from_where_it_was(store: Store, blob: Path) -> None:
    assert store.add_file(blob, move=True) == DIGEST
    assert not blob.exists()
    assert files_in(store) == [store.path(DIGEST)]


def test_adding_twice_keeps_the_first(store: Store, blob: Path) -> None:
    store.add_file(blob)
    before = store.path(DIGEST).stat().st_ino
    store.add_file(blob)
    assert store.path(DIGEST).stat().st_ino == before
    assert len(files_in(store)) == 1


@pytest.mark.parametrize("damaged", [b"other bytes", CONTENT[:-1], b""])
def test_other_bytes_are_refused_by_name_and_nothing_is_left(store: Store, blob: Path, damaged: bytes) -> None:
    blob.write_bytes(damaged)
    with pytest.raises(LockError, match=r"some\.whl has other bytes") as raised:
        store.add_file(blob, DIGEST)
    assert DIGEST.removeprefix("sha256:") in raised.value.what
    assert files_in(store) == []


def test_a_damaged_blob_is_found_and_removed(store: Store, blob: Path) -> None:
    store.add_file(blob)
    store.path(DIGEST).write_bytes(CONTENT[:4])
    with pytest.raises(LockError, match="nginx was damaged"):
        store.verify(DIGEST, name="nginx")
    assert not store.has(DIGEST)
    with pytest.raises(LockError, match="is not in the store"):
        store.verify(DIGEST)


@pytest.mark.parametrize("digest", ["", "md5:abc", "../../etc/passwd", DIGEST + "0", DIGEST.upper()])
def test_what_is_no_digest_is_refused(store: Store, digest: str) -> None:
    with pytest.raises(LockError, match="is not a sha256"):
        store.path(digest)


def test_a_missing_file_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(LockError, match="ghost could not be put into the store"):
        store.add_file(tmp_path / "ghost", DIGEST, name="ghost")


def test_what_dead_processes_left_is_swept_and_what_the_living_do_is_not(store: Store) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead = store.root / f"partial/{child}-left"
    dead.mkdir(parents=True)
    with store.workroom() as room:
        store.tidy()
        assert room.is_dir()
    assert not dead.exists()
    assert not room.exists()
