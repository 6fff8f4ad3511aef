"""``deploy bundle``: what a lock names, for a network without internet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import PATH, show_json, verb

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.line.bundling import Bundled


@click.group("bundle")
def command() -> None:
    """Everything that a lock names, signed, for a network without internet."""


@command.command("create")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("-i", "--inventory", type=PATH, metavar="INV", help="The inventory whose lock it is.")
@click.option("--lab", is_flag=True, help="The lock of the lab's rehearsals.")
@verb
def create(folder: Path, inventory: Path | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """Write DIR, or go on with it: what is whole there stays, what the lock no longer names goes."""
    from orchestrator.cli.screen import Screen
    from orchestrator.line.bundling import create as written
    from orchestrator.state import State

    state, screen = State.here(), Screen(verbose=verbose)
    with state.alone("bundle create"):
        try:
            made = written(folder, state.lock_file(lab=lab, inventory=inventory), state, screen.tell)
        finally:
            screen.close()
    if as_json:
        show_json({"bundle": made.document()})
        return 0
    click.echo(line_of(made))
    click.echo(f"  {made.copied} files written, {made.removed} of another lock taken away")
    if made.index.command:
        has = made.index.command
        click.echo(f"  deploy {has.version} itself is in it, for Python {has.python} on {has.arch}")
    else:
        click.echo(f"  deploy itself is not in it: {made.without_command}")
    return 0


@command.command("check")
@click.argument("folder", type=PATH, metavar="DIR")
@verb
def check(folder: Path, as_json: bool, verbose: bool) -> int:
    """Read every byte of DIR: whole, and signed by a key that was given beforehand."""
    from orchestrator.cli.screen import Screen
    from orchestrator.line.bundling import check_whole
    from orchestrator.state import State

    screen = Screen(verbose=verbose)
    try:
        found = check_whole(folder, State.here(), screen.tell)
    finally:
        screen.close()
    if as_json:
        show_json({"bundle": found.document()})
        return 0
    click.echo(line_of(found))
    click.echo(f"  signed by {found.signed_by}; every file has the bytes that were signed")
    return 0


def line_of(one: Bundled) -> str:
    """Give a bundle in a line."""
    return f"{one.root}: {one.index.digest}, {len(one.index.files)} files, {one.index.bytes / 2**20:.1f} MiB"
