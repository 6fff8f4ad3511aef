"""The module that unpacks a release's archive, as it runs on a host: links that stay in, links that lead out."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.test_apply_npm_tree import module, tarball

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["module"]


def unpacked(module: Any, tmp_path: Path, digest: str) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    part = {"digest": digest, "file": "server-v7.tar.gz"}
    module.build_archive({"name": "server v7", "key": "0" * 64, "parts": [part]}, folder)
    return folder


def test_a_release_lies_without_its_first_folder_and_its_links_lead_on(module: Any, tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {
        "server-v7/libserver.so": "libserver.so.7",
        "server-v7/libserver.so.7": b"code",
        "server-v7/server": b"#!/bin/sh\n",
        "server-v7/lib/again.so": "../libserver.so.7",
    }
    folder = unpacked(module, tmp_path, tarball(tmp_path, members, mode=0o4777))
    assert (folder / "libserver.so").readlink().name == "libserver.so.7"
    assert (folder / "lib/again.so").read_bytes() == b"code"
    assert oct((folder / "server").stat().st_mode & 0o7777) == "0o755"
    assert sorted(path.name for path in folder.iterdir()) == ["lib", "libserver.so", "libserver.so.7", "server"]


OTHERS: dict[str, tuple[dict[str, bytes | str], str]] = {
    "a file above": ({"v7/../../etc/mine": b"x"}, "does not lie in the tree"),
    "a link to the root": ({"v7/evil": "/etc/passwd"}, "leads out of the tree"),
    "a link above": ({"v7/evil": "../../../etc/passwd"}, "leads out of the tree"),
    "a file through a link": ({"v7/lib": "..", "v7/lib/mine": b"x"}, "leads out of the tree"),
    "a link behind a link": ({"v7/a/file": b"x", "v7/lib": "a", "v7/lib/b": "file"}, "lies behind another"),
    "a link to nothing": ({"v7/lib": "none"}, "leads nowhere"),
    "a link in place of a file": ({"v7/one": b"x", "v7/two": b"y", "v7//one": "two"}, "is there twice"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_leads_out_of_the_tree_is_refused(module: Any, tmp_path: Path, what: str) -> None:
    members, said = OTHERS[what]
    with pytest.raises(module.Refused, match=said):
        unpacked(module, tmp_path, tarball(tmp_path, members))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staging", "tree"]


def test_a_device_is_refused(module: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        device = tarfile.TarInfo("v7/null")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
        archive.addfile(device)
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    (tmp_path / "staging" / digest).write_bytes(packed.getvalue())
    with pytest.raises(module.Refused, match="neither a file, a folder nor a link"):
        unpacked(module, tmp_path, digest)
    assert list((tmp_path / "tree").iterdir()) == []
