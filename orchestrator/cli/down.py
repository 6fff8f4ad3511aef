"""``deploy down``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb

if TYPE_CHECKING:
    from pathlib import Path


@click.command("down")
@targets
@click.option("--purge", is_flag=True, help="Also the store, packages and holds that were added.")
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@verb
def command(
    inventory: Path | None,
    limit: str | None,
    lab: bool,
    purge: bool,
    yes: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Take away what our manifests say was put on a host."""
    from orchestrator.cli.screen import run_lines
    from orchestrator.cli.wired import ask_terminal, wired
    from orchestrator.line.down import down
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, yes=yes, verbose=verbose)
    with rooms.state.alone("down"):
        hosts = already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))
        if not all(host.lab for host in hosts):
            names = ", ".join(host.name for host in hosts)
            what = "everything of ours" if purge else "the rig"
            if not ask_terminal(f"Take {what} away from {names}?", yes=yes):
                raise click.Abort
        try:
            outcome = down(hosts, rooms.way, purge=purge)
        finally:
            rooms.screen.close()
    if as_json:
        show_json(outcome.document())
    else:
        click.echo("\n".join(run_lines(outcome.hosts, rooms.screen.board.slowest)))
    return outcome.exit_code
