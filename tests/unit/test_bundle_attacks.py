"""What is done to a bundle on its way: each is refused, the artefact is named, and nothing of it is taken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import AgentrigError, LockError, SignatureError, UsageError
from orchestrator.lock import Store, bundle_folder, read
from orchestrator.lock.bundle import Index
from orchestrator.lock.document import write as write_lock
from orchestrator.progress import silent
from orchestrator.signing import Kind, public_of
from orchestrator.state import State
from tests.strangers import somebody_else
from tests.unit.bundling import CONTENTS, Bundler, blob, bundler, lock_of, tree


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundler, Path]:
    """A whole bundle, made once."""
    here = bundler(tmp_path_factory.mktemp("maker"))
    root = tmp_path_factory.mktemp("whole") / "bundle"
    here.create(root)
    return here, root


@pytest.fixture
def here(made: tuple[Bundler, Path]) -> Bundler:
    return made[0]


@pytest.fixture
def root(made: tuple[Bundler, Path], tmp_path: Path) -> Path:
    """A copy of it, to do things to."""
    return Path(shutil.copytree(made[1], tmp_path / "bundle"))


def refused(here: Bundler, root: Path, said: str, kind: type[AgentrigError] = LockError) -> AgentrigError:
    """See that the check refuses it in these words, and that nothing that is not as it was signed is ever taken."""
    with pytest.raises(kind, match=said) as raised:
        here.check(root)
    assert raised.value.do
    store = Store(root.parent / "store")
    with pytest.raises(AgentrigError):
        bundle_folder.take(here.opened(root), ["one"], store, silent)
    assert set(tree(store.root).values()) <= set(CONTENTS.values())
    return raised.value


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_bit_anywhere(here: Bundler, root: Path, data: st.DataObject) -> None:
    """Whatever bit of whatever file is turned: the artefact is named, or that the signature does not hold.

    The index's own signature is left out: there are bits in base64 that mean nothing.
    """
    name = data.draw(st.sampled_from(sorted(set(tree(root)) - {"bundle.json.sig"})))
    path = root / name
    place = data.draw(st.integers(0, path.stat().st_size * 8 - 1))
    content = path.read_bytes()
    path.write_bytes(content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :])
    try:
        with pytest.raises((LockError, SignatureError)) as raised:
            here.check(root)
        if name.startswith("store/"):
            index = Index.from_json((root / "bundle.json").read_bytes())
            assert f"{index.by_path()[name].name} has other bytes" in raised.value.what
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_a_flipped_byte_is_named_and_not_taken(here: Bundler, root: Path, name: str) -> None:
    flip(blob(root, name), 17)
    refused(here, root, rf"{name} 1\.0 has other bytes than were signed")


def test_two_that_have_changed_places(here: Bundler, root: Path, tmp_path: Path) -> None:
    one, other = blob(root, "nginx"), blob(root, "opencode")
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    assert "(and 1 more)" in refused(here, root, r"(nginx|opencode) 1\.0 has \d+ bytes, \d+ were signed").what


def test_two_of_one_size_that_have_changed_places(tmp_path: Path) -> None:
    same = {"nginx": b"a" * 5000, "smollm2": b"b" * 5000}
    here, root = bundler(tmp_path, same), tmp_path / "bundle"
    here.create(root)
    one, other = sorted(path for path in (root / "store").rglob("*") if path.is_file())
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    refused(here, root, r"1\.0 has other bytes than were signed .*\(and 1 more\)")


def test_one_that_is_missing(here: Bundler, root: Path) -> None:
    blob(root, "smollm2").unlink()
    refused(here, root, r"smollm2 1\.0 is missing")


def test_one_that_is_cut_short(here: Bundler, root: Path) -> None:
    os.truncate(blob(root, "smollm2"), 100)
    refused(here, root, r"smollm2 1\.0 has 100 bytes, 63000 were signed")


@pytest.mark.parametrize("path", ["store/sha256/ab/" + "ab" * 32, "agentrig/evil-1.0-py3-none-any.whl", "run.sh"])
def test_one_that_nobody_listed(here: Bundler, root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"#!/bin/sh\n")
    refused(here, root, f"{path} is in it, and nobody listed it")


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        (lambda root: blob(root, "nginx"), "store/sha256/.. is a link"),
        (lambda root: root / "store", "store is a link"),
        (lambda root: root / "deploy.lock", "deploy.lock is a link"),
        (lambda root: blob(root, "nginx").parent, "store/sha256/.. is a link"),
    ],
    ids=["blob", "store", "lock", "folder"],
)
def test_a_link_is_not_followed(
    here: Bundler, root: Path, tmp_path: Path, swap: Callable[[Path], Path], said: str
) -> None:
    """Even where it leads to the right bytes: tomorrow it may lead elsewhere."""
    path = swap(root)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(here, root, said.replace("/..", "/.*"))
    before = tree(tmp_path / "elsewhere") if (tmp_path / "elsewhere").is_dir() else {}
    with pytest.raises(LockError, match="is a link"):
        here.create(root)
    assert (tree(tmp_path / "elsewhere") if (tmp_path / "elsewhere").is_dir() else {}) == before


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(here: Bundler, root: Path) -> None:
    blob(root, "nginx").unlink()
    os.mkfifo(blob(root, "nginx"))
    refused(here, root, "is no regular file")
    (root / "bundle.json").unlink()
    os.mkfifo(root / "bundle.json")
    refused(here, root, "signature of the bundle|not what was signed", SignatureError)


def test_a_lock_that_was_edited_by_hand(here: Bundler, root: Path) -> None:
    lock = root / "deploy.lock"
    lock.write_text(lock.read_text().replace('"name": "nginx"', '"name": "xginx"'))
    refused(here, root, r"deploy\.lock has other bytes than were signed")
    shutil.copy(here.lock_file, lock)
    lock.write_text(lock.read_text() + "\n")
    refused(here, root, r"deploy\.lock has \d+ bytes, \d+ were signed")


def test_lock_and_index_edited_together_without_the_key(here: Bundler, root: Path) -> None:
    """The weights are others, and every list says so; only the signatures are not by one who may sign."""
    changed = write_weights(root)
    assert "changed since" in refused(here, root, "the bundle is not what was signed", SignatureError).what
    assert changed not in tree(root.parent / "store").values()


def test_all_of_it_signed_with_a_key_that_travels_inside(here: Bundler, root: Path, tmp_path: Path) -> None:
    write_weights(root)
    stranger = State(tmp_path / "stranger")
    with somebody_else(tmp_path):
        sign_as(stranger, root)
    own = public_of(stranger.keys / "owner")
    assert "nobody gave beforehand" in refused(here, root, "the bundle is signed by a key", SignatureError).what
    (root / "allowed_signers").write_text(f"owner {own}\n")
    refused(here, root, "nobody gave beforehand", SignatureError)


def test_a_signature_of_another_kind(here: Bundler, root: Path) -> None:
    """What the owner signed as a lock is none of his bundle."""
    signed = here.state.sign((root / "bundle.json").read_bytes(), Kind.LOCK)
    (root / "bundle.json.sig").write_text(signed)
    refused(here, root, "one of another kind", SignatureError)


@pytest.mark.parametrize("place", [40, 120, 200])
def test_a_signature_that_was_turned(here: Bundler, root: Path, place: int) -> None:
    flip(root / "bundle.json.sig", place)
    refused(here, root, "the bundle", SignatureError)


@pytest.mark.parametrize("name", ["bundle.json.sig", "deploy.lock.sig"])
def test_a_signature_that_is_gone(here: Bundler, root: Path, name: str) -> None:
    (root / name).unlink()
    refused(here, root, "signature", AgentrigError)


def test_an_older_bundle_s_index_and_signature_put_back(here: Bundler, root: Path, tmp_path: Path) -> None:
    """All of it is signed by the owner, but index and lock are not of one another."""
    older = Bundler(here.state, tmp_path / "older/deploy.lock")
    older.write(lock_of({"nginx": CONTENTS["nginx"]}, here.store, tmp_path))
    older.create(tmp_path / "old")
    for name in ("deploy.lock", "deploy.lock.sig"):
        shutil.copy(tmp_path / "old" / name, root / name)
    refused(here, root, r"deploy\.lock has \d+ bytes")


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "/etc/passwd",
        "store/sha256/../../../outside",
        "agentrig/../../outside",
        "agentrig/.hidden",
        "store/sha256/ab/" + "cd" * 32,
        "bundle.json",
        "deploy.lock/x",
        "",
        "store/sha256/ab/" + "ab" * 32 + "\n",
    ],
)
def test_a_path_that_leads_out_is_refused_whoever_signed_it(here: Bundler, root: Path, path: str) -> None:
    edit_index(
        here.state, root, lambda files: files.append({"path": path, "sha256": "0" * 64, "bytes": 1, "name": "x"})
    )
    refused(here, root, "where a bundle has no file", UsageError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.append(files[0]), "lists .* twice"),
        (lambda files: files[-1].update(sha256="0" * 64), "another sha256 than the name it lies under"),
        (lambda files: files.pop(), r"is in it, and nobody listed it"),
        (lambda files: files[0].update(bytes=-1), "the bundle's index is not one: files.0.bytes"),
        (lambda files: files[0].update(mode="0777"), "the bundle's index is not one: files.0.mode"),
    ],
    ids=["twice", "name", "lacking", "bytes", "unknown"],
)
def test_an_index_that_contradicts_itself(
    here: Bundler, root: Path, change: Callable[[list[Any]], None], said: str
) -> None:
    edit_index(here.state, root, change)
    refused(here, root, said, AgentrigError)


def test_an_index_without_a_blob_that_the_lock_names(here: Bundler, root: Path) -> None:
    gone = blob(root, "smollm2")
    edit_index(here.state, root, lambda files: files.remove(next(one for one in files if one["sha256"] == gone.name)))
    gone.unlink()
    refused(here, root, r"the lock names smollm2 1\.0, which the index does not list", UsageError)


def test_an_index_with_a_blob_that_the_lock_does_not_name(here: Bundler, root: Path) -> None:
    path = "store/sha256/" + "0" * 2 + "/" + "0" * 64
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"x")
    new = {"path": path, "sha256": "0" * 64, "bytes": 1, "name": "evil 1"}
    edit_index(here.state, root, lambda files: files.append(new))
    refused(here, root, "the index lists evil 1, which the lock does not name", UsageError)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"version": 2}'])
def test_an_index_that_is_none(here: Bundler, root: Path, text: bytes) -> None:
    (root / "bundle.json").write_bytes(text)
    refused(here, root, "not what was signed", SignatureError)
    (root / "bundle.json.sig").write_text(here.state.sign(text, Kind.BUNDLE))
    refused(here, root, "the bundle's index is not one", UsageError)


def test_a_folder_that_is_none(here: Bundler, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match=r"no such folder|is no bundle"):
            here.opened(folder)


def write_weights(root: Path) -> bytes:
    """Put other weights into a bundle, and into its lock and index; what is signed stays as it was."""
    changed, old = b"poison!" * 9000, blob(root, "smollm2")
    old.write_bytes(changed)
    digest = hashlib.sha256(changed).hexdigest()
    new = root / "store/sha256" / digest[:2] / digest
    new.parent.mkdir(exist_ok=True)
    old.rename(new)
    for name in ("deploy.lock", "bundle.json"):
        text = (root / name).read_text().replace(f"sha256/{old.name[:2]}/", f"sha256/{digest[:2]}/")
        (root / name).write_text(text.replace(old.name[:12] + '"', digest[:12] + '"').replace(old.name, digest))
    return changed


def sign_as(stranger: State, root: Path) -> None:
    """Sign a bundle's lock and index anew with another's key, the index brought in line with the lock."""
    lock = read(root / "deploy.lock")
    assert lock is not None
    write_lock(root / "deploy.lock", lock, stranger.sign)
    document = json.loads((root / "bundle.json").read_text()) | {"lock": lock.lock_digest}
    for file in document["files"]:
        if not file["path"].startswith("store/"):
            content = (root / file["path"]).read_bytes()
            file |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    raw = (json.dumps(document, indent=2) + "\n").encode()
    (root / "bundle.json").write_bytes(raw)
    (root / "bundle.json.sig").write_text(stranger.sign(raw, Kind.BUNDLE))


def edit_index(signer: State, root: Path, change: Callable[[list[Any]], object]) -> None:
    """Change an index and sign it as its owner would."""
    document = json.loads((root / "bundle.json").read_text())
    change(document["files"])
    raw = json.dumps(document).encode()
    (root / "bundle.json").write_bytes(raw)
    (root / "bundle.json.sig").write_text(signer.sign(raw, Kind.BUNDLE))
