"""Images of our own, built with mmdebstrap from locked packages and nothing else: the same bytes twice."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import LockError
from orchestrator.lock import Store, apt, image_build
from orchestrator.lock.apt_reach import MIRROR
from orchestrator.snapshot import HostSnapshot

if TYPE_CHECKING:
    from tests.soak.conftest import Record

HOST = HostSnapshot.from_json(Path("tests/fixtures/lock/debian_12_minimal.json").read_text())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def _mmdebstrap() -> None:
    """Have the program, which only images are built with."""
    if shutil.which("mmdebstrap") is None:
        command = ["apt-get", "install", "-qq", "--no-install-recommends", "mmdebstrap"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(
    MIRROR not in os.environ and platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm",
    reason=f"the fixture is Debian 12: set {MIRROR} to a mirror of it",
)
@pytest.mark.usefixtures("_mmdebstrap")
def test_an_image_of_our_own_is_the_same_twice(store: Store, tmp_path: Path, record: Record) -> None:
    found = image_build.resolve_built("small", HOST, (), store)
    apt.fetch_debs(found.parts, HOST, store)
    began = time.monotonic()
    first = image_build.build_image(found, store)
    record.figures(build_s=round(time.monotonic() - began, 1), packages=len(found.parts))
    assert image_build.build_image(found, store) == first
    with tarfile.open(store.path(first)) as archive:
        members = {member.name.removeprefix("./").rstrip("/"): member for member in archive}
    assert {"usr/bin/dpkg", "etc/debian_version", "var/lib/dpkg/status"} <= set(members)
    assert max(member.mtime for member in members.values()) <= image_build.EPOCH
    record.says(same=True)
    deb = found.parts[0]
    blob = store.path(str(deb.digest))
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(LockError, match=f"{deb.name} {deb.version} was damaged in the store"):
        image_build.build_image(found, store)
    assert list((store.root / "partial").iterdir()) == []
    assert not list(tmp_path.glob("*.tar"))
