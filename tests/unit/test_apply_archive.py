"""The signed apt archive, judged by the tools that read it."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from orchestrator.apply.archive import archive_lists
from orchestrator.apply.values import debs_of
from orchestrator.errors import ApplyError
from tests.apply_parts import Parts


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def lists_of(parts: Parts) -> dict[str, str]:
    deb = parts.deb("agentrig-test-greeting", {"usr/share/greeting": b"hello\n"}, version="1:2.0")
    debs = debs_of(parts.lock({}, (deb,)), "rig")
    return archive_lists(debs, parts.store, parts.root / "keys", parts.root / "kept")


def test_gpgv_accepts_the_signature_with_the_key_that_goes_along(parts: Parts) -> None:
    lists = lists_of(parts)
    (parts.root / "InRelease").write_text(lists["InRelease"])
    (parts.root / "key.gpg").write_bytes(base64.b64decode(lists["key"]))
    command = ["gpgv", "--keyring", str(parts.root / "key.gpg"), "--output", "-", str(parts.root / "InRelease")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == lists["Release"].strip()


def test_the_lists_name_each_package_by_its_digest_and_a_file_name_without_epoch(parts: Parts) -> None:
    paragraph = dict(line.split(": ", 1) for line in lists_of(parts)["Packages"].splitlines() if ": " in line)
    deb = parts.artefacts[0]
    assert (paragraph["Version"], paragraph["SHA256"]) == ("1:2.0", deb.key)
    assert paragraph["Filename"] == f"./agentrig-test-greeting_{deb.key[:16]}.deb"


def test_the_same_packages_are_signed_once(parts: Parts) -> None:
    assert lists_of(parts) == lists_of(parts)


def test_no_agent_is_left_and_the_key_is_its_owners_alone(parts: Parts) -> None:
    lists_of(parts)
    home = parts.root / "keys" / "apt"
    assert home.stat().st_mode & 0o077 == 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        assert not (b"gpg-agent" in words and str(parts.root).encode() in words)
    assert not list(home.glob("S.gpg-agent*"))


def test_a_package_that_the_store_has_lost_is_named(parts: Parts) -> None:
    deb = parts.deb("agentrig-test-greeting", {})
    (parts.store / "sha256" / deb.key[:2] / deb.key).unlink()
    with pytest.raises(ApplyError, match=r"agentrig-test-greeting 1\.0"):
        archive_lists(debs_of(parts.lock({}, (deb,)), "rig"), parts.store, parts.root / "keys", parts.root / "kept")
