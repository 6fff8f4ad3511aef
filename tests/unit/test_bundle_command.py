"""The command that travels in a bundle: put together again from what is installed, pinned by its hashes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.errors import LockError
from orchestrator.lock import Store, bundle_command
from orchestrator.lock.bundle_command import pack, repacked
from orchestrator.lockfile import Lock
from orchestrator.progress import silent
from tests.unit.bundling import Bundler, bundler
from tests.unit.lock_stand_ins import wheel

PLACES = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *PLACES, *arguments], check=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a distribution that pip installed from a wheel."""
    made = tmp_path / "made"
    made.mkdir()
    content = {"small_tool/__init__.py": b"NAME = 'small'\n", "small_tool/data/roles.yml": b"- one\n"}
    pip("--target", str(tmp_path / "site"), str(wheel(made, "small-tool", "1.2", files=content)))
    return tmp_path / "site"


def of(site: Path) -> metadata.Distribution:
    (found,) = metadata.distributions(path=[str(site)])
    return found


def test_a_wheel_is_put_together_again(site: Path, tmp_path: Path) -> None:
    made = repacked(of(site), tmp_path)
    assert made.name == "small_tool-1.2-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive, zipfile.ZipFile(tmp_path / "made" / made.name) as first:
        assert set(archive.namelist()) == set(first.namelist())
        for name in set(archive.namelist()) - {"small_tool-1.2.dist-info/RECORD"}:
            assert archive.read(name) == first.read(name)
    pip("--target", str(tmp_path / "again"), str(made))
    assert (tmp_path / "again/small_tool/data/roles.yml").read_bytes() == b"- one\n"


def test_the_same_files_make_the_same_wheel(site: Path, tmp_path: Path) -> None:
    first = repacked(of(site), tmp_path).read_bytes()
    (tmp_path / "later").mkdir()
    assert repacked(of(site), tmp_path / "later").read_bytes() == first


def test_what_was_changed_after_it_was_installed_is_not_carried(site: Path, tmp_path: Path) -> None:
    (site / "small_tool/__init__.py").write_text("NAME = 'other'\n")
    with pytest.raises(LockError, match=r"small_tool/__init__\.py was changed after it was installed"):
        repacked(of(site), tmp_path)


@pytest.fixture
def _running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the small tool were the command that runs, with one dependency; a folder is its registry."""
    wheels = tmp_path / "registry"
    wheels.mkdir()
    wheel(wheels, "helper", "2.0")
    site = tmp_path / "running"
    own = wheel(tmp_path, "agentrig", "1.2", "helper>=1; python_version > '3'", "other; extra == 'more'")
    pip("--target", str(site), str(own), str(wheels / "helper-2.0-py3-none-any.whl"))
    found = {one.metadata["Name"]: one for one in metadata.distributions(path=[str(site)])}
    monkeypatch.setattr(bundle_command.metadata, "distribution", found.__getitem__)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


@pytest.fixture
def here(tmp_path: Path) -> Bundler:
    folder = tmp_path / "maker"
    folder.mkdir()
    return bundler(folder)


@pytest.mark.usefixtures("_running")
def test_what_runs_here_is_packed_with_what_it_needs(here: Bundler, tmp_path: Path) -> None:
    root, room = tmp_path / "bundle", tmp_path / "room"
    room.mkdir()
    packed = pack(root, Lock(agentrig="0"), here.store, room, silent)
    assert [file.path for file in packed.files] == [
        "agentrig/agentrig-1.2-py3-none-any.whl",
        "agentrig/helper-2.0-py3-none-any.whl",
        "agentrig/requirements.txt",
    ]
    lines = packed.sources["agentrig/requirements.txt"].read_text().splitlines()
    own, helper = (hashlib.sha256(packed.sources[file.path].read_bytes()).hexdigest() for file in packed.files[:2])
    assert lines == [f"agentrig==1.2 --hash=sha256:{own}", f"helper==2.0 --hash=sha256:{helper}"]
    assert packed.command.version == "1.2"

    here.create(root, packed)
    here.check(root)
    wanted = ["--find-links", str(root / "agentrig"), "--require-hashes", "-r", str(root / "agentrig/requirements.txt")]
    pip("--target", str(tmp_path / "new"), *wanted)
    assert (tmp_path / "new/helper-2.0.dist-info").is_dir()


@pytest.mark.usefixtures("_running")
def test_what_a_bundle_has_already_is_not_asked_for_again(
    here: Bundler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bundle"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    here.create(root, pack(root, Lock(agentrig="0"), here.store, tmp_path / "first", silent))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    empty = Store(tmp_path / "empty")
    packed = pack(root, Lock(agentrig="0"), empty, tmp_path / "second", silent)
    assert here.create(root, packed).copied == 0


@pytest.mark.usefixtures("_running")
def test_a_registry_that_is_not_in_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    (tmp_path / "room").mkdir()
    with pytest.raises(LockError, match="helper"):
        pack(tmp_path / "bundle", Lock(agentrig="0"), Store(tmp_path / "empty"), tmp_path / "room", silent)
