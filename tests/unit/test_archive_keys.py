"""Keyrings of archives that this machine lacks: what apt says of its own archive, and what its package brings."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from orchestrator import archive_keys
from orchestrator.archive_keys import components_of, family_keyring, own_archive, same_keyring
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = "http://s/ bookworm-security\nhttp://m/ bookworm\nhttp://n/ bookworm\n"


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian 12 machine with its own keyring alone, and an empty cache."""
    installed = tmp_path / "usr/share/keyrings"
    installed.mkdir(parents=True)
    (installed / "debian-archive-keyring.gpg").write_bytes(b"own")
    monkeypatch.setattr(archive_keys, "_INSTALLED", installed)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(
        archive_keys.platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_own_archive_is_the_first_of_the_own_release() -> None:
    assert own_archive(TARGETS, "bookworm") == "http://m/"
    assert own_archive("", "bookworm") is None


def test_a_keyring_goes_by_both_endings() -> None:
    assert same_keyring("/usr/share/keyrings/debian-archive-keyring.pgp") == (
        "debian-archive-keyring.pgp",
        "debian-archive-keyring.gpg",
    )
    assert same_keyring("/etc/apt/keyrings/them.asc") == ("them.asc",)


def test_ubuntus_packages_come_from_universe_too() -> None:
    assert components_of("ubuntu") == ("main", "universe")
    assert components_of("debian") == components_of("gentoo") == ("main",)


def test_an_installed_keyring_is_taken_as_it_is(away: Path) -> None:
    assert family_keyring("debian") == away / "usr/share/keyrings/debian-archive-keyring.gpg"


def test_a_keyring_that_apt_does_not_vouch_for_is_not_kept(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(argv)
        if "update" in argv:
            raise subprocess.CalledProcessError(100, argv, stderr="E: The repository is not signed.\n")
        return subprocess.CompletedProcess(argv, 0, stdout=TARGETS, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UsageError, match="The repository is not signed") as refused:
        family_keyring("ubuntu")
    assert "ubuntu-keyring" in refused.value.do
    assert not list((away / "cache").rglob("*.gpg"))
    updates = [argv for argv in asked if "update" in argv]
    assert len(updates) == 2
    assert all("Acquire::AllowInsecureRepositories=false" in argv for argv in updates)


def test_an_apt_that_fails_is_a_refusal_of_ours(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(argv: list[str], *_: object) -> str:
        raise subprocess.CalledProcessError(100, argv, stderr="E: The sources could not be read.\n")

    del away
    monkeypatch.setattr(archive_keys, "_said", said)
    with pytest.raises(UsageError, match=r"could not be fetched: The sources could not be read"):
        family_keyring("ubuntu")


def test_a_keyring_that_cannot_be_kept_leaves_nothing_half_written(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = away / "unpacked"
    unpacked.mkdir()
    (unpacked / "ubuntu-archive-keyring.gpg").write_bytes(b"theirs")
    kept = away / "kept"
    (kept / "ubuntu-archive-keyring.gpg/in-the-way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        archive_keys._keep(unpacked, "ubuntu-archive-keyring", kept)
    assert [path.name for path in kept.iterdir()] == ["ubuntu-archive-keyring.gpg"]
    monkeypatch.setattr(type(unpacked), "chmod", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        archive_keys._keep(unpacked, "ubuntu-archive-keyring", away / "other")
    assert list((away / "other").iterdir()) == []
