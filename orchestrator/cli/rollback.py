"""``deploy rollback``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb

if TYPE_CHECKING:
    from pathlib import Path


@click.command("rollback")
@targets
@click.option("--to", "release", metavar="ID", help="That accepted release, and not the one before the present.")
@verb
def command(
    inventory: Path | None, limit: str | None, lab: bool, release: str | None, as_json: bool, verbose: bool
) -> int:
    """Go back to the release that was accepted before the present one."""
    from orchestrator.cli.screen import run_lines
    from orchestrator.cli.wired import wired
    from orchestrator.line.rollback import rollback
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    with rooms.state.alone("rollback"):
        hosts = already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))
        try:
            outcome = rollback(hosts, release, rooms.way)
        finally:
            rooms.screen.close()
    if as_json:
        show_json(outcome.document())
    else:
        click.echo("\n".join(run_lines(outcome.hosts, rooms.screen.board.slowest)))
    return outcome.exit_code
