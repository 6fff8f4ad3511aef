"""The cpu rig locked against the real registries, through pip and apt; a full disk on a real small disk."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import lock as locking
from orchestrator.catalog.loader import load
from orchestrator.lock import Request, Store
from orchestrator.lock.apt_reach import MIRROR
from orchestrator.progress import silent
from orchestrator.snapshot import HostSnapshot
from tests.unit.lock_stand_ins import deployment

if TYPE_CHECKING:
    from orchestrator.lockfile import Lock

pytestmark = pytest.mark.lab

HOST = HostSnapshot.from_json(Path("tests/fixtures/lock/debian_12_minimal.json").read_text())
CATALOG = load()
REQUEST = Request(
    snapshot=HOST,
    profile_digest="p",
    deployment=deployment("smollm2-135m", "Q4_1", "xllamacpp"),
    packages=("nginx", "python3-venv"),
)
needs_bookworm = pytest.mark.skipif(
    MIRROR not in os.environ and platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm",
    reason=f"the fixture is Debian 12: set {MIRROR} to a mirror of it",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def locked(store: Store) -> Lock:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        return locking.resolve({"bookworm": REQUEST}, store, None, silent, catalog=CATALOG)


@needs_bookworm
def test_the_cpu_rig_is_locked_whole(locked: Lock, store: Store) -> None:
    host, known = locked.hosts["bookworm"], locked.by_id()
    names = {known[name].name for name in host.debs}
    assert {"nginx", "nginx-common", "python3-venv", "python3.11-venv", "python3-pip-whl"} <= names
    assert not names & {"libc6", "dpkg", "apt"}
    assert known[host.links["runtime"]].parts
    assert known[host.links["llm"]].filename == "SmolLM2-135M-Instruct.Q4_1.gguf"
    for artefact in locked.artefacts_of("bookworm"):
        if artefact.kind != "venv":
            store.verify(str(artefact.digest))
            assert store.path(str(artefact.digest)).stat().st_size == artefact.bytes


@needs_bookworm
def test_every_deb_is_the_package_that_it_says(locked: Lock, store: Store, tmp_path: Path) -> None:
    for artefact in locked.artefacts:
        if artefact.kind == "deb":
            path = tmp_path / artefact.filename
            path.symlink_to(store.path(str(artefact.digest)))
            told = subprocess.run(
                ["dpkg-deb", "--field", path, "Package", "Version"], capture_output=True, text=True, check=True
            )
            assert told.stdout.splitlines() == [f"Package: {artefact.name}", f"Version: {artefact.version}"]


@needs_bookworm
def test_what_of_the_host_moves_is_listed(locked: Lock) -> None:
    here = {package.name: package.version for package in HOST.packages}
    known = locked.by_id()
    debs = {known[name].name: known[name].version for name in locked.hosts["bookworm"].debs}
    moved = {name: (here[name], debs[name]) for name in debs.keys() & here.keys()}
    assert {one.name: (one.before, one.after) for one in locked.hosts["bookworm"].upgrades} == moved


@needs_bookworm
def test_a_second_lock_and_an_upgrade_without_news_move_nothing(locked: Lock, store: Store) -> None:
    assert locking.resolve({"bookworm": REQUEST}, store, locked, silent, catalog=CATALOG) is locked
    again = locking.resolve({"bookworm": REQUEST}, store, locked, silent, catalog=CATALOG, upgrade=["*"])
    assert again == locked


@needs_bookworm
def test_a_deb_that_is_gone_comes_back_by_its_version_and_digest(locked: Lock, store: Store) -> None:
    deb = next(one for one in locked.artefacts if one.name == "nginx")
    store.path(str(deb.digest)).unlink()
    assert locking.resolve({"bookworm": REQUEST}, store, locked, silent, catalog=CATALOG) is locked
    store.verify(str(deb.digest))


@needs_bookworm
def test_the_lock_still_resolves_and_a_version_that_is_gone_is_named(locked: Lock, store: Store) -> None:
    assert locking.check(locked, store, silent) == ()
    gone = [
        one.model_copy(update={"version": "0.0"}) if one.name in {"nginx", "xllamacpp"} and one.kind != "venv" else one
        for one in locked.artefacts
    ]
    moved = {old.id: new.id for old, new in zip(locked.artefacts, gone, strict=True)}
    text = locked.model_copy(update={"artefacts": tuple(gone)}).to_json()
    for old, new in moved.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    lost = locking.check(type(locked).from_json(text), store, silent)
    assert sorted(sentence.split(":")[0] for sentence in lost) == ["nginx 0.0", "xllamacpp 0.0"]


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """On a disk of 1 MiB, mounted in a namespace of the test's own."""
    script = """
import pathlib, sys
from orchestrator.errors import LockError
from orchestrator.lock import Store
disk, blob = map(pathlib.Path, sys.argv[1:])
try:
    Store(disk).add_file(blob, name="weights")
except LockError as error:
    print(error.what, [path for path in disk.rglob("*") if path.is_file()])
"""
    disk, blob = tmp_path / "disk", tmp_path / "blob"
    disk.mkdir()
    blob.write_bytes(bytes(4 << 20))
    inner = 'mount -t tmpfs -o size=1m small "$1" && exec "$2" -c "$3" "$1" "$4"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inner, "sh", disk, sys.executable, script, blob],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert done.stdout.strip() == "the disk is full: weights does not fit []", done.stderr
