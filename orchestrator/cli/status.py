"""``deploy status``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb

if TYPE_CHECKING:
    from collections.abc import Sequence
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
        click.echo("\n".join(table_lines(found, datetime.now(tz=UTC)) if len(found) > 1 else status_lines(found[0])))
    return exit_code_of_many(codes)


def status_lines(host: HostStatus) -> list[str]:
    """Give a host's status as a person reads it."""
    if host.error:
        return [f"{host.name}: {host.error.what}", f"  {host.error.do}"]
    if host.deployment_id is None:
        return [f"{host.name}: nothing of ours is known to run there"]
    accepted = f", accepted {host.accepted}" if host.accepted else ", not accepted"
    lines = [f"{host.name}: release {host.deployment_id}, {'serving' if host.serving else 'not serving'}{accepted}"]
    if chosen := host.deployment:
        lines.append(f"  {chosen.llm} on {chosen.runtime}, {chosen.context_tokens} tokens, profile {chosen.profile}")
    lines += [f"  {host.endpoint.openai}  token in {host.endpoint.token_file}"] if host.endpoint else []
    return lines + (drift_lines(host) or ["  it is what was put there"])


def drift_lines(host: HostStatus) -> list[str]:
    """Give every difference between a host and what was put there."""
    return [f"  drift: {one.kind} {one.name}: expected {one.expected}, found {one.found}" for one in host.drift]


def table_lines(hosts: Sequence[HostStatus], now: datetime) -> list[str]:
    """Give many hosts as one table, and below it whatever of a host takes a sentence. Pure."""
    rows = [("HOST", "SERVES", "PROFILE", "WINDOW", "DRIFT", "ACCEPTED"), *(_row(host, now) for host in hosts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for host in hosts:
        if host.error:
            lines += [f"{host.name}: {host.error.what}", f"  {host.error.do}"]
        elif host.drift:
            lines += [f"{host.name}:", *drift_lines(host)]
    return lines


def _row(host: HostStatus, now: datetime) -> tuple[str, ...]:
    chosen, kept = host.deployment, _age(host.accepted, now)
    known = (chosen.profile, str(chosen.context_tokens)) if chosen else ("-", "-")
    if host.error:
        return (host.name, host.error.kind.replace("_", " "), *known, "?", kept)
    if host.deployment_id is None:
        return (host.name, "nothing of ours", *known, "-", "-")
    serves = (chosen.llm if chosen else "yes") if host.serving else "not serving"
    return (host.name, serves, *known, str(len(host.drift)) if host.drift else "none", kept)


def _age(since: str | None, now: datetime) -> str:
    """Give how long ago a moment of ISO 8601 was, in its largest unit; "never" where there was none."""
    if since is None:
        return "never"
    seconds = max(0.0, (now - datetime.fromisoformat(since)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
