"""``deploy verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import PATH, show_json, targets, verb
from orchestrator.evidence import AREAS

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.cli.wired import Wired
    from orchestrator.evidence import Area
    from orchestrator.line.targets import Asked


@click.command("verify")
@targets
@click.option("--only", "areas", multiple=True, type=click.Choice(AREAS), help="An area; may be given again.")
@click.option("--attestation", type=PATH, metavar="FILE", help="Hold a signed statement of up against its host.")
@verb
def command(
    inventory: Path | None,
    limit: str | None,
    lab: bool,
    areas: tuple[Area, ...],
    attestation: Path | None,
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
    if attestation is not None:
        if areas:
            raise click.UsageError("--attestation asks its own questions; --only has no say in them")
        return hold_attestation(attestation, Asked(inventory, limit, (), lab), rooms, as_json=as_json)
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


def hold_attestation(file: Path, asked: Asked, rooms: Wired, *, as_json: bool) -> int:
    """Hold an attestation against the host that it names; give the exit code."""
    from orchestrator.cli.screen import check_lines
    from orchestrator.errors import EXIT_DONE
    from orchestrator.line.attest import hold
    from orchestrator.line.targets import already_up, knows

    text = file.read_text(encoding="utf-8", errors="replace")
    with rooms.state.alone("verify"):
        hosts = already_up(asked, rooms.lab, known_here=knows(rooms.state))
        try:
            held = hold(file, text, hosts, lambda host: rooms.lock_of(host, asked.inventory), rooms.ports)
        finally:
            rooms.screen.close()
    refused = held.refusal
    stand_ins = held.said.predicate.stand_ins
    if as_json:
        document = {
            "checks": [{"host": held.host, **check.document()} for check in held.checks],
            "stand_ins": [one.document() for one in stand_ins],
        }
        show_json(document | ({"error": refused.document()} if refused else {}))
    else:
        click.echo(f"{held.host}: {'the attestation does not hold' if refused else 'it is what was attested'}")
        click.echo("\n".join(check_lines(held.checks)))
        for one in stand_ins:
            click.echo(f"  stand-in: {one.what} -> {one.instead}: {one.why}")
    return refused.exit_code if refused else EXIT_DONE
