"""``deploy status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.line.values import HostStatus


@click.command("status")
@targets
@click.option("--check", is_flag=True, help="Exit with 4 where a host is not what was put there.")
@verb
def command(inventory: Path | None, limit: str | None, lab: bool, check: bool, as_json: bool, verbose: bool) -> int:
    """Tell what runs, and whether it is still what was put there."""
    from orchestrator.cli.wired import wired
    from orchestrator.errors import EXIT_DRIFT, exit_code_of_many
    from orchestrator.line.status import status
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    hosts = already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))
    found = status(hosts, rooms.lock_of(hosts[0], inventory), rooms.ports)
    codes = [one.error.exit_code for one in found if one.error]
    codes += [EXIT_DRIFT for one in found if check and one.drift]
    if as_json:
        first = next((one.error for one in found if one.error), None)
        show_json({"hosts": [one.document() for one in found]} | ({"error": first.document()} if first else {}))
    else:
        for one in found:
            click.echo("\n".join(status_lines(one)))
    return exit_code_of_many(codes)


def status_lines(host: HostStatus) -> list[str]:
    """Give a host's status as a person reads it."""
    if host.error:
        return [f"{host.name}: {host.error.what}"]
    if host.deployment_id is None:
        return [f"{host.name}: nothing of ours is known to run there"]
    accepted = f", accepted {host.evidence.began}" if host.evidence and host.evidence.accepted else ", not accepted"
    lines = [f"{host.name}: release {host.deployment_id}, {'serving' if host.serving else 'not serving'}{accepted}"]
    lines += [f"  {host.endpoint.openai}  token in {host.endpoint.token_file}"] if host.endpoint else []
    lines += [f"  drift: {one.kind} {one.name}: expected {one.expected}, found {one.found}" for one in host.drift] or [
        "  it is what was put there"
    ]
    return lines
