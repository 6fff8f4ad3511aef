"""``deploy verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb
from orchestrator.evidence import AREAS

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.evidence import Area


@click.command("verify")
@targets
@click.option("--only", "areas", multiple=True, type=click.Choice(AREAS), help="An area; may be given again.")
@verb
def command(
    inventory: Path | None,
    limit: str | None,
    lab: bool,
    areas: tuple[Area, ...],
    as_json: bool,
    verbose: bool,
) -> int:
    """Accept again what runs, changing nothing on the host."""
    from orchestrator.cli.screen import check_lines
    from orchestrator.cli.wired import wired
    from orchestrator.errors import exit_code_of_many
    from orchestrator.line.status import refusal, verify
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    with rooms.state.alone("verify"):
        hosts = already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))
        try:
            found = [(host, verify(host, rooms.lock_of(host, inventory), areas or AREAS, rooms.way)) for host in hosts]
        finally:
            rooms.screen.close()
    refusals = [refusal(evidence, rooms.ports, host) for host, evidence in found]
    if as_json:
        checks = [{"host": host.name, **check.document()} for host, evidence in found for check in evidence.checks]
        stand_ins = [one.document() for _, evidence in found for one in evidence.stand_ins]
        first = next((one for one in refusals if one), None)
        show_json({"checks": checks, "stand_ins": stand_ins} | ({"error": first.document()} if first else {}))
    else:
        for host, evidence in found:
            click.echo(f"{host.name}: {'accepted' if evidence.accepted else 'not accepted'}")
            click.echo("\n".join(check_lines(evidence.checks)))
            for one in evidence.stand_ins:
                click.echo(f"  stand-in: {one.what} -> {one.instead}: {one.why}")
    return exit_code_of_many(one.exit_code for one in refusals if one)
