"""What the verbs share: options, the document on standard output, the rooms wired together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.catalog.rows import Catalog

_Verb = TypeVar("_Verb", bound="Callable[..., Any]")

PATH = click.Path(path_type=Path)


def verb(function: _Verb) -> _Verb:
    """Add the options that every verb takes."""
    function = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(function)
    return click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")(function)


def targets(function: _Verb) -> _Verb:
    """Add the options that name hosts."""
    function = click.option("--lab", is_flag=True, help="Throwaway hosts on this machine.")(function)
    function = click.option("--limit", metavar="HOST", help="Only these hosts or groups, as Ansible's.")(function)
    return click.option("-i", "--inventory", type=PATH, metavar="INV", help="An Ansible inventory.")(function)


def profiles(function: _Verb) -> _Verb:
    """Add the option that names profiles."""
    return click.option("--profile", "profiles", multiple=True, metavar="P", help="What the rig is for.")(function)


def pretended(function: _Verb) -> _Verb:
    """Add the options that pretend to be another machine."""
    function = click.option("--gpu", "gpus", multiple=True, metavar="NAME[:MIB]", help="Pretend to have it.")(function)
    function = click.option("--ram", "ram_mib", type=click.IntRange(1), metavar="MIB", help="With --gpu.")(function)
    return click.option("--snapshot", type=PATH, metavar="FILE", help="Pretend to be that machine.")(function)


def show_json(document: dict[str, Any]) -> None:
    """Write the one document of a verb."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def catalog_for(inventory: Path | None) -> Catalog:
    """Load the catalog with the profiles and llms that lie beside the inventory, or in the current folder."""
    from orchestrator.catalog.loader import load

    beside = folder_beside(inventory)
    return load(*(folder if (folder := beside / name).is_dir() else None for name in ("profiles", "llms")))


def folder_beside(inventory: Path | None) -> Path:
    """Give the folder of an owner's own profiles and llms: the inventory's, or the current one."""
    if inventory is None:
        return Path.cwd()
    return inventory if inventory.is_dir() else inventory.parent
