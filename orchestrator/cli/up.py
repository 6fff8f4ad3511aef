"""``deploy up``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import PATH, profiles, show_json, targets, verb

if TYPE_CHECKING:
    from pathlib import Path


@click.command("up")
@profiles
@targets
@click.option("--bundle", type=PATH, metavar="DIR", help="Take everything from a bundle; ask no registry.")
@click.option("--locked", is_flag=True, help="Refuse to go on where the lock would change.")
@click.option("--replan", is_flag=True, help="Decide anew, whatever the lock says.")
@click.option("--full", is_flag=True, help="Run Ansible also where the manifest holds.")
@click.option("--check", is_flag=True, help="Change nothing; say what would be.")
@click.option("--reboot", is_flag=True, help="Reboot a host whose driver asks for it, wait, and go on.")
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@verb
def command(
    profiles: tuple[str, ...],
    inventory: Path | None,
    limit: str | None,
    lab: bool,
    bundle: Path | None,
    locked: bool,
    replan: bool,
    full: bool,
    check: bool,
    reboot: bool,
    yes: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Detect, plan, lock, render, apply, verify: ready means accepted."""
    from orchestrator.cli.screen import run_lines, try_next
    from orchestrator.cli.wired import wired
    from orchestrator.line.bundling import open_beside, up_from
    from orchestrator.line.targets import Asked, profile_for_real, to_bring_up
    from orchestrator.line.up import up
    from orchestrator.line.values import Wish

    rooms = wired(inventory, yes=yes, verbose=verbose)
    wish = Wish(
        rooms.state.lock_file(lab=lab, inventory=inventory),
        lab=lab,
        locked=locked,
        replan=replan,
        full=full,
        check=check,
        reboot=reboot,
    )
    with rooms.state.alone("up"):
        try:
            way, asked = rooms.way, Asked(inventory, limit, profiles, lab)
            opened = open_beside(bundle, wish, rooms.state, way) if bundle else None
            hosts = to_bring_up(asked, rooms.catalog, rooms.lab, rooms.screen.tell)
            if opened:
                wish, way = up_from(opened, hosts, wish, rooms.state, way)
            outcome = up(hosts, wish, way)
        finally:
            rooms.screen.close()
    if as_json:
        show_json(outcome.document())
    else:
        click.echo("\n".join(run_lines(outcome.hosts, rooms.screen.board.slowest)))
        if lab:
            click.echo("\n".join(try_next(outcome.hosts, profile_for_real(rooms.catalog), inventory)))
    return outcome.exit_code
