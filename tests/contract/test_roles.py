"""The roles' interfaces: one truth for a default, and everything managed is declared."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.apply import values
from orchestrator.apply.archive import archive_lists
from orchestrator.apply.declare import Told, artefact_keys, declare
from orchestrator.files import data
from orchestrator.lockfile import Lock
from orchestrator.manifest import Manifest
from orchestrator.render.sandbox import SANDBOX_UNIT, TABLES
from orchestrator.rendered import Rendered, RenderedFile, RenderedUnit
from tests.apply_parts import SECRETS, Parts, rendered

ROLES = sorted(path.name for path in data("roles").iterdir() if path.is_dir())
#: What the role container_engine tells of a host.
ENGINE_FILES = ("/etc/containerd/config.toml", "/etc/docker/daemon.json", "/opt/agentrig/engine.json")
ENGINE_UNITS = ("containerd.service", "docker.service", "docker.socket")
KINDS = ("users", "groups", "units", "tables", "packages", "files", "links", "trees")


def of_role(role: str, path: str) -> Any:
    return yaml.safe_load((data("roles") / role / path).read_text())


def options(role: str) -> dict[str, Any]:
    entries = of_role(role, "meta/argument_specs.yml")["argument_specs"]
    return {name: option for entry in entries.values() for name, option in entry["options"].items()}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_equal_the_specification(role: str) -> None:
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert of_role(role, "defaults/main.yml") == specified


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_bears_the_roles_name(role: str) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []
    registered = [
        task["register"]
        for path in (data("roles") / role / "tasks").glob("*.yml")
        for task in yaml.safe_load(path.read_text())
        if "register" in task
    ]
    assert [name for name in registered if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_roles_hold_no_templates(role: str) -> None:
    assert not list((data("roles") / role).glob("templates/*"))


@pytest.mark.parametrize("playbook", sorted(data("playbooks").glob("*.yml")), ids=lambda path: path.name)
def test_playbooks_stay_short_and_hold_roles_only(playbook: Path) -> None:
    text = playbook.read_text()
    assert len(text.splitlines()) < 40
    for play in yaml.safe_load(text):
        assert [task for task in play.get("tasks", ()) if "ansible.builtin.import_role" not in task] == []


@pytest.fixture
def lock(tmp_path: Path) -> tuple[Parts, Lock]:
    parts = Parts(tmp_path)
    debs = (parts.deb("nginx", {}), parts.deb("agentrig-test-greeting", {}))
    return parts, parts.lock({"runtime": parts.venv(parts.wheel()), "llm": parts.weights()}, debs)


def test_what_the_line_gives_is_what_the_roles_take(lock: tuple[Parts, Lock]) -> None:
    parts, locked = lock
    keys = artefact_keys(rendered(), locked, "rig")
    debs = values.debs_of(locked, "rig")
    archive_lists(debs, parts.store, parts.root / "keys")
    given = {
        **values.host_values(rendered(), debs, (), values.ports_of(locked, "rig")),
        **values.release_values(rendered(), "0123456789abcdef", keys, SECRETS),
        **values.unit_values(rendered(), locked, "rig", keys, SECRETS),
        **values.away_values((), purge=True),
    }
    known = {name for role in ROLES for name in options(role)}
    assert sorted(set(given) - known) == []


def walled() -> Rendered:
    """The rendering of the tests, with the parts that a host with sandboxes has."""
    unit = RenderedFile(path=f"units/{SANDBOX_UNIT}", content="[Service]\nExecStart=/bin/true\n")
    plain = rendered()
    return plain.model_copy(
        update={
            "files": (*plain.files, unit),
            "units": (*plain.units, RenderedUnit(name=SANDBOX_UNIT)),
            "tables": TABLES,
        }
    )


def manifest_of(locked: Lock) -> Manifest:
    about = {"mode": "0644", "owner": "root", "group": "root", "sha256": "0" * 64}
    told = Told(
        archive={"/opt/agentrig/apt/Packages": "0" * 64, "/etc/apt/apt.conf.d/52agentrig": "0" * 64},
        masked=("nginx.service",),
        before={"packages": {"nginx": None, "agentrig-test-greeting": None}, "listeners": []},
        engine={
            "files": [about | {"path": path} for path in ENGINE_FILES],
            "units": [{"name": unit, "enabled": True, "active": True} for unit in ENGINE_UNITS],
        },
    )
    return declare(walled(), locked, "rig", "0123456789abcdef", told, secrets=SECRETS)


def declared_names(manifest: Manifest) -> dict[str, list[str]]:
    own = {link.path for link in rendered().links}
    return {
        "users": list(manifest.users),
        "groups": list(manifest.groups),
        "units": [unit.name for unit in manifest.units],
        "tables": list(manifest.tables),
        "packages": [package.name for package in manifest.packages],
        "files": [file.path for file in manifest.files],
        "links": [link.path for link in manifest.links if link.path not in own],
        "trees": [tree.path for tree in manifest.trees],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_roles_manage_is_declared_and_nothing_else(kind: str, lock: tuple[Parts, Lock]) -> None:
    patterns = [pattern for role in ROLES for pattern in of_role(role, "meta/managed.yml")[kind]]
    names = declared_names(manifest_of(lock[1]))[kind]
    assert [pattern for pattern in patterns if not fnmatch.filter(names, pattern)] == []
    assert [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
