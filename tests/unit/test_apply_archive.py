"""The signed apt archive, judged by the tools that read it."""

from __future__ import annotations

import base64
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.apply.archive import SIGNER, archive_lists
from orchestrator.apply.openpgp import Signer
from orchestrator.apply.values import debs_of
from orchestrator.errors import ApplyError
from tests.apply_parts import Parts


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def lists_of(parts: Parts) -> dict[str, str]:
    deb = parts.deb("agentrig-test-greeting", {"usr/share/greeting": b"hello\n"}, version="1:2.0")
    debs = debs_of(parts.lock({}, (deb,)), "rig")
    return archive_lists(debs, parts.store, parts.root / "keys")


def verified(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What gpgv says of a text and its signature, by the key ``key.gpg`` beside it."""
    (folder / "signed").write_text(text, encoding="utf-8")
    command = ["gpgv", "--keyring", str(folder / "key.gpg"), "--output", "-", str(folder / "signed")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_gpgv_accepts_the_signature_with_the_key_that_goes_along(parts: Parts) -> None:
    lists = lists_of(parts)
    (parts.root / "key.gpg").write_bytes(base64.b64decode(lists["key"]))
    done = verified(parts.root, lists["InRelease"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == lists["Release"].strip()


def test_the_lists_name_each_package_by_its_digest_and_a_file_name_without_epoch(parts: Parts) -> None:
    paragraph = dict(line.split(": ", 1) for line in lists_of(parts)["Packages"].splitlines() if ": " in line)
    deb = parts.artefacts[0]
    assert (paragraph["Version"], paragraph["SHA256"]) == ("1:2.0", deb.key)
    assert paragraph["Filename"] == f"./agentrig-test-greeting_{deb.key[:16]}.deb"


def test_the_same_packages_are_signed_once(parts: Parts) -> None:
    assert lists_of(parts) == lists_of(parts)


def test_the_key_is_its_owners_alone_and_made_once_for_all_who_ask(parts: Parts) -> None:
    file = parts.root / "keys" / "apt" / "ed25519"
    with ThreadPoolExecutor(max_workers=8) as pool:
        keys = set(pool.map(lambda _: Signer.kept_in(file, SIGNER).public(), range(16)))
    assert len(keys) == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "text", ["one line", "a: b\n- a dash\n-another\n\n blank first, blank last \t\nnot ASCII: é\n", "\n\nlate\n"]
)
def test_any_text_is_signed_and_a_changed_one_is_refused(tmp_path: Path, text: str) -> None:
    signer = Signer.kept_in(tmp_path / "key", SIGNER)
    (tmp_path / "key.gpg").write_bytes(signer.public())
    signed = signer.clearsign(text)
    assert verified(tmp_path, signed).returncode == 0
    assert verified(tmp_path, signed.replace("e", "a", 1)).returncode != 0


def test_signatures_with_zeros_in_front_hold_too(tmp_path: Path) -> None:
    """One in 128 has a number that begins with a zero byte."""
    signer = Signer.kept_in(tmp_path / "key", SIGNER)
    (tmp_path / "key.gpg").write_bytes(signer.public())
    signed = [signer.clearsign(f"text {number}") for number in range(400)]
    shortest = min(signed, key=len)
    assert len(shortest) < max(map(len, signed)), "none among these began with a zero byte"
    assert verified(tmp_path, shortest).returncode == 0


def test_a_package_that_the_store_has_lost_is_named(parts: Parts) -> None:
    deb = parts.deb("agentrig-test-greeting", {})
    (parts.store / "sha256" / deb.key[:2] / deb.key).unlink()
    with pytest.raises(ApplyError, match=r"agentrig-test-greeting 1\.0"):
        archive_lists(debs_of(parts.lock({}, (deb,)), "rig"), parts.store, parts.root / "keys")
