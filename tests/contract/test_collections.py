"""No Ansible collection is needed: tasks use what Ansible itself brings, and the modules that lie in the roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.playbook.block import Block
from ansible.playbook.task import Task

from orchestrator.files import data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Words of a task or a block that name no module (Ansible's own attributes, and its loops).
WORDS = {*Task.fattributes, *Block.fattributes}
OURS = {path.stem for place in ("library", "action_plugins") for path in data("roles").glob(f"*/{place}/agentrig_*.py")}
FILES = sorted(
    path
    for folder in (data("playbooks"), data("roles"))
    for pattern in ("*.yml", "*/tasks/*.yml", "*/handlers/*.yml", "*/meta/main.yml")
    for path in folder.glob(pattern)
)


def modules(value: Any) -> Iterator[str]:
    """Give the modules that tasks name, those in blocks and plays included."""
    for task in value if isinstance(value, list) else []:
        for place in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            yield from modules(task.get(place))
        if "hosts" not in task:
            yield from (word for word in task if word not in WORDS and not word.startswith("with_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(path.parents[2])))
def test_tasks_use_ansible_s_own_modules_and_ours(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    foreign = [one for one in modules(found) if one not in OURS and not one.startswith("ansible.builtin.")]
    assert foreign == []
    assert not (
        found.get("collections")
        if isinstance(found, dict)
        else [play.get("collections") for play in found if play.get("collections")]
    )


def test_there_are_modules_to_look_at() -> None:
    used = {one for path in FILES if path.parent.name == "tasks" for one in modules(yaml.safe_load(path.read_text()))}
    assert {"agentrig_trees", "agentrig_packages", "agentrig_carry"} <= used
    assert list(modules([{"name": "x", "community.general.ufw": {}, "when": "y"}])) == ["community.general.ufw"]


def test_no_collection_is_asked_for() -> None:
    assert not [path for folder in (data("playbooks"), data("roles")) for path in folder.rglob("requirements.y*ml")]
