"""The module that builds trees of npm packages, as it runs on a host: real tarballs, honest and other."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.apply import values
from orchestrator.files import data
from orchestrator.lockfile import Artefact, Lock

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def loaded(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module with a staging folder of the test's own."""
    shared = loaded("ansible.module_utils.agentrig", data("roles") / "host_base/module_utils/agentrig.py")
    monkeypatch.setitem(sys.modules, "ansible.module_utils.agentrig", shared)
    found: Any = loaded("agentrig_trees", data("roles") / "artefacts/library/agentrig_trees.py")
    monkeypatch.setattr(found, "STAGING", tmp_path / "staging")
    (tmp_path / "staging").mkdir()
    return found


def tarball(tmp_path: Path, members: dict[str, bytes | str], *, mode: int = 0o644) -> str:
    """Stage a tarball and give its digest; a text is where a link leads."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.mode = mode
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    (tmp_path / "staging" / digest).write_bytes(packed.getvalue())
    return digest


def tree(places: dict[str, str], commands: dict[str, str] | None = None) -> dict[str, Any]:
    parts = [{"digest": digest, "file": f"{place}.tgz"} for place, digest in places.items()]
    return {"name": "writer 1", "key": "0" * 64, "parts": parts, "places": places, "commands": commands or {}}


def test_packages_are_unpacked_in_their_places_and_commands_linked(module: Any, tmp_path: Path) -> None:
    inside = tarball(tmp_path, {"package/index.js": b"2"})
    writer = tarball(tmp_path, {"any-name/bin/run": b"#!/bin/sh\n", "any-name/package.json": b"{}"}, mode=0o6666)
    folder = tmp_path / "tree"
    folder.mkdir()
    places = {
        "node_modules/writer/node_modules/@maker/words": inside,
        "node_modules/writer": writer,
        "node_modules/@maker/words": inside,
    }
    module.build_npm_tree(tree(places, {"bin/writer": "../node_modules/writer/bin/run"}), folder)
    assert {str(path.relative_to(folder)): oct(path.stat().st_mode & 0o7777) for path in folder.rglob("*.*")} == {
        "node_modules/writer/package.json": "0o644",
        "node_modules/writer/node_modules/@maker/words/index.js": "0o644",
        "node_modules/@maker/words/index.js": "0o644",
    }
    assert (folder / "bin/writer").resolve() == folder / "node_modules/writer/bin/run"
    assert oct((folder / "bin/writer").stat().st_mode & 0o7777) == "0o755"


OTHERS: dict[str, tuple[dict[str, bytes | str], str]] = {
    "above": ({"package/../../../etc/cron.d/mine": b"x"}, "does not lie in the tree"),
    "a link": ({"package/evil": "/etc/passwd"}, "is neither a file nor a folder"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_leads_out_of_the_tree_is_refused_by_its_tarball(module: Any, tmp_path: Path, what: str) -> None:
    members, said = OTHERS[what]
    folder = tmp_path / "tree"
    folder.mkdir()
    with pytest.raises(module.Refused, match=said):
        module.build_npm_tree(tree({"node_modules/writer": tarball(tmp_path, members)}), folder)
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("program", ["../../../bin/sh", "../node_modules/writer/none"])
def test_a_command_leads_to_a_program_of_the_tree(module: Any, tmp_path: Path, program: str) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    packed = tarball(tmp_path, {"package/run": b"x"})
    with pytest.raises(module.Refused, match="writer 1 has no program"):
        module.build_npm_tree(tree({"node_modules/writer": packed}, {"bin/writer": program}), folder)


def test_the_roles_are_told_what_goes_where() -> None:
    part = Artefact(kind="npm", name="words", version="1", digest="sha256:" + "a" * 64, bytes=3, source="npm:words@1")
    top = Artefact(
        kind="npm_tree",
        name="opencode",
        version="1",
        digest="sha256:" + "b" * 64,
        source="npm:words@1 for linux",
        parts=(part.id,),
        places={"node_modules/words": part.id, "node_modules/writer/node_modules/words": part.id},
        commands={"bin/writer": "../node_modules/words/cli.js"},
    )
    (found,) = values.trees_of(Lock(agentrig="0", artefacts=(part, top)), {"opencode": "b" * 64})
    assert (found["kind"], [one["digest"] for one in found["parts"]]) == ("npm_tree", ["a" * 64])
    assert found["places"] == dict.fromkeys(top.places, "a" * 64)
    assert found["commands"] == top.commands


@pytest.mark.parametrize("bytes_kept", [0, 5, 40])
def test_a_tarball_that_breaks_off_is_refused_and_leaves_nothing(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_kept: int
) -> None:
    """Its digest is what the lock names: the registry itself gave half a file."""
    store, staging = tmp_path / "store", tmp_path / "staging"
    monkeypatch.setattr(module, "STORE", store)
    store.mkdir()
    whole = staging / tarball(tmp_path, {"package/index.js": bytes(range(256)) * 64})
    broken = whole.read_bytes()[:bytes_kept]
    digest = hashlib.sha256(broken).hexdigest()
    (staging / digest).write_bytes(broken)
    with pytest.raises(module.Refused) as refused:
        module.build({"kind": "npm_tree", **tree({"node_modules/writer": digest})})
    assert "writer 1" in str(refused.value)
    assert list(store.iterdir()) == []


def test_what_has_not_arrived_costs_the_host_nothing(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STORE", tmp_path / "store")
    there = tmp_path / "store" / ("0" * 64) / "file"
    there.parent.mkdir(parents=True)
    there.write_text("what was there")
    with pytest.raises(module.Refused):
        module.build({"kind": "npm_tree", **tree({"node_modules/writer": "1" * 64})})
    assert there.exists()
