"""Bundles: what is in them, how they are gone on with, and what is taken from them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import BusyError, LockError, UsageError
from orchestrator.lock import Store, bundle_folder, bundle_writing
from orchestrator.lock.bundle import Index, blobs_of
from orchestrator.lockfile import Artefact
from orchestrator.progress import Event, silent
from tests.unit.bundling import CONTENTS, Bundler, blob, bundler, lock_of, tree


@pytest.fixture
def here(tmp_path: Path) -> Bundler:
    return bundler(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "stick/bundle"


def test_it_holds_what_the_lock_names_and_nothing_else(here: Bundler, root: Path) -> None:
    written = here.create(root)
    assert written.copied == len(CONTENTS)
    names = {"deploy.lock", "deploy.lock.sig", "bundle.json", "bundle.json.sig"}
    assert set(tree(root)) == names | {str(blob(root, name).relative_to(root)) for name in CONTENTS}
    assert (root / "deploy.lock").read_bytes() == here.lock_file.read_bytes()
    index = Index.from_json((root / "bundle.json").read_bytes())
    assert index == written.index
    assert {file.name for file in index.files} == {f"{name} 1.0" for name in CONTENTS} | {
        "deploy.lock",
        "deploy.lock.sig",
    }
    assert index.bytes == sum((root / file.path).stat().st_size for file in index.files)
    here.check(root)


def test_no_secret_of_the_state_travels(here: Bundler, root: Path) -> None:
    secrets = here.state.host("one").secrets()
    here.create(root)
    private = (here.state.keys / "owner").read_bytes()
    everything = b"".join(tree(root).values())
    assert private not in everything
    assert not [name for name, secret in secrets.items() if secret.encode() in everything]


def test_again_writes_nothing_and_is_the_same_to_the_byte(here: Bundler, root: Path) -> None:
    here.create(root)
    before, inode = tree(root), blob(root, "smollm2").stat().st_ino
    assert here.create(root).copied == 0
    assert tree(root) == before
    assert blob(root, "smollm2").stat().st_ino == inode


def test_another_lock_adds_only_what_is_new(here: Bundler, root: Path, tmp_path: Path) -> None:
    here.create(root)
    kept = blob(root, "nginx").stat().st_ino
    others = {**CONTENTS, "second": b"another llm" * 100}
    del others["opencode"]
    here.write(lock_of(others, here.store, tmp_path))
    again = here.create(root)
    assert (again.copied, again.removed) == (1, 1)
    assert blob(root, "nginx").stat().st_ino == kept
    assert not blob(root, "opencode").exists()
    here.check(root)


def test_what_is_damaged_in_it_is_written_anew(here: Bundler, root: Path) -> None:
    here.create(root)
    blob(root, "nginx").write_bytes(CONTENTS["nginx"][::-1])
    blob(root, "smollm2").unlink()
    assert here.create(root).copied == 2
    here.check(root)


def test_a_blob_that_the_store_lost_is_named(here: Bundler, root: Path) -> None:
    here.store.path(blob(root, "nginx").name).unlink()
    with pytest.raises(LockError, match=r"nginx 1\.0 is not in the store"):
        here.create(root)
    assert not root.exists()


def test_a_blob_that_the_store_damaged_is_named_and_not_carried(here: Bundler, root: Path) -> None:
    here.store.path(blob(root, "nginx").name).write_bytes(CONTENTS["nginx"][::-1])
    with pytest.raises(LockError, match=r"nginx 1\.0 was damaged in the store"):
        here.create(root)
    assert not blob(root, "nginx").exists()
    assert not (root / "bundle.json").exists()


def test_what_is_not_resolved_is_refused_by_name(here: Bundler, root: Path, tmp_path: Path) -> None:
    lock = lock_of(CONTENTS, here.store, tmp_path)
    open_one = Artefact(kind="file", name="qwen", version="Q4", source="hub:maker/qwen", why="no hub in reach")
    hosts = {"one": lock.hosts["one"].model_copy(update={"asked": (open_one.id,)})}
    here.write(lock.model_copy(update={"hosts": hosts, "artefacts": (*lock.artefacts, open_one)}))
    with pytest.raises(UsageError, match="qwen Q4 is not resolved, and no bundle can carry it: no hub in reach"):
        here.create(root)
    assert not root.exists()


def test_what_a_rehearsal_only_asks_for_is_not_carried(here: Bundler, tmp_path: Path) -> None:
    lock = lock_of(CONTENTS, here.store, tmp_path)
    asked = Artefact(kind="wheel", name="vllm", version="1", digest="sha256:" + "a" * 64, source="pypi:vllm==1")
    hosts = {"one": lock.hosts["one"].model_copy(update={"asked": (asked.id,)})}
    lock = lock.model_copy(update={"hosts": hosts, "artefacts": (*lock.artefacts, asked)})
    assert {one.name for one in blobs_of(lock)} == {f"{name} 1.0" for name in CONTENTS}


def test_a_folder_with_other_things_is_left_alone(here: Bundler, root: Path) -> None:
    root.mkdir(parents=True)
    (root / "holiday.jpg").write_bytes(b"not ours")
    with pytest.raises(UsageError, match=r"holds holiday\.jpg"):
        here.create(root)
    assert tree(root) == {"holiday.jpg": b"not ours"}


def test_what_a_disk_puts_into_its_root_is_none_of_our_business(here: Bundler, root: Path) -> None:
    (root / "lost+found").mkdir(parents=True)
    here.create(root)
    here.check(root)


def test_two_do_not_write_at_once(here: Bundler, root: Path) -> None:
    here.create(root)
    with bundle_writing._alone_in(root), pytest.raises(BusyError, match="another deploy writes here"):
        here.create(root)


def test_how_far_it_is_is_told_in_bytes(here: Bundler, root: Path) -> None:
    told: list[Event] = []
    here.create(root, progress=told.append)
    size = sum(map(len, CONTENTS.values()))
    assert (told[-1].phase, told[-1].done, told[-1].total, told[-1].state) == ("bundle", size, size, "ok")


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator.lock.store import Store
from orchestrator.state import State
from tests.unit.bundling import Bundler

placed, whole = 0, Store._place
def place(self, beside, found):
    global placed
    placed += 1
    if placed > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, beside, found)
Store._place = place
folder = Path(sys.argv[1])
Bundler(State(folder / "state"), folder / "rig/deploy.lock").create(folder / "stick/bundle")
"""


@pytest.mark.parametrize("after", range(len(CONTENTS)))
def test_killed_in_the_middle_it_goes_on(here: Bundler, root: Path, tmp_path: Path, after: int) -> None:
    """What bears its final name is whole; the rest is no bundle until it was written to its end."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(after)], check=False)
    assert done.returncode == -signal.SIGKILL
    for path in (root / "store/sha256").rglob("*"):
        assert path.is_dir() or path.read_bytes() in CONTENTS.values()
    there = sum(path.is_file() for path in (root / "store/sha256").rglob("*"))
    with pytest.raises(LockError, match="it was not written to its end"):
        here.opened(root)
    assert here.create(root).copied == len(CONTENTS) - there
    assert there <= after
    here.check(root)
    assert not (root / "store/partial").exists()


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file may grow over 8 KiB for as long as the block lasts: what a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_names_what_did_not_fit(here: Bundler, root: Path) -> None:
    with small_files(), pytest.raises(LockError, match=r"smollm2 1\.0 could not be put into the store"):
        here.create(root)
    assert not blob(root, "smollm2").exists()
    assert not (root / "bundle.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which takes root")
def test_a_disk_that_is_full_in_the_middle(here: Bundler, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beforehand it is refused with the room there is; where it fills meanwhile, what did not fit is named."""
    root.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", root], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(LockError, match=r"0\.1 MiB are to be written, and the disk has 0\.0 MiB left"):
            here.create(root)
        monkeypatch.setattr("orchestrator.lock.bundle_copy._refuse_small_disk", lambda *_: None)
        with pytest.raises(LockError, match=r"the disk is full: \w+ 1\.0 does not fit"):
            here.create(root)
        assert set(tree(root).values()) < set(CONTENTS.values())
        subprocess.run(["mount", "-o", "remount,size=400k", root], check=True)
        assert here.create(root).copied >= 1
        here.check(root)
    finally:
        subprocess.run(["umount", root], check=True)


def test_what_hosts_need_is_taken_once(here: Bundler, root: Path, tmp_path: Path) -> None:
    here.create(root)
    there = Store(tmp_path / "elsewhere")
    opened = here.opened(root)
    assert bundle_folder.take(opened, ["unknown"], there, silent) == 0
    assert bundle_folder.take(opened, ["one"], there, silent) == len(CONTENTS)
    assert sorted(tree(there.root).values()) == sorted(CONTENTS.values())
    assert bundle_folder.take(opened, ["one"], there, silent) == 0
