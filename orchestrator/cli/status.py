"""``deploy status``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb
from orchestrator.signing import HOST_SIGNERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.line.values import HostStatus


@click.command("status")
@targets
@click.option("--check", is_flag=True, help="Exit with 4 where a host is not what was put there.")
@click.option("--against", metavar="HOST", help="Also say what each host has otherwise than this one.")
@verb
def command(
    inventory: Path | None,
    limit: str | None,
    lab: bool,
    check: bool,
    against: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Tell what runs, and whether it is still what was put there."""
    from orchestrator.cli.wired import wired
    from orchestrator.errors import EXIT_DRIFT, UsageError, exit_code_of_many
    from orchestrator.line.status import status
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    hosts = already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))
    other = already_up(Asked(inventory, against, (), lab), rooms.lab, known_here=knows(rooms.state)) if against else []
    if len(other) > 1:
        raise UsageError(f"{against} names {len(other)} hosts", do="name one: --against HOST")
    found = status(hosts, rooms.lock_of(hosts[0], inventory), rooms.ports, *other)
    codes = [one.error.exit_code for one in found if one.error]
    codes += [EXIT_DRIFT for one in found if check and (one.drift or one.differences)]
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
    lines += left_lines(host) + disk_lines(host) + card_lines(host) + [trust_line(host)]
    return lines + (drift_lines(host) or ["  it is what was put there"]) + against_lines(host)


def left_lines(host: HostStatus) -> list[str]:
    """Say that the lock asks for another release than the one that serves."""
    if host.left is None:
        return []
    return [f"  left release {host.left.release} on {host.left.when[:16]}; deploy up goes forward to the lock again"]


def disk_lines(host: HostStatus) -> list[str]:
    """Say what our folder takes of the disk, and how much of it only former releases do."""
    from orchestrator.line.sizes import readable

    if host.disk is None:
        return []
    _, former, own = host.disk.shares(host.deployment_id)
    more = f", of it {readable(former)} for {len(own)} former releases only" if own else ""
    return [f"  {readable(host.disk.total)} at /opt/agentrig{more}"]


def card_lines(host: HostStatus) -> list[str]:
    """Say how each card is, and what is wrong with it by the limits of the deployment."""
    from orchestrator.card_health import in_words, shortcomings
    from orchestrator.profile import Limits

    limits = host.deployment.limits if host.deployment else Limits()
    lines = []
    for gpu in host.snapshot.gpus if host.snapshot else ():
        if gpu.health is not None:
            lines.append(f"  card {gpu.index}, {gpu.name}: {in_words(gpu.health)}")
            lines += [f"    not well: {one}" for one in shortcomings(gpu.health, limits)]
    return lines


def against_lines(host: HostStatus) -> list[str]:
    """Give every difference between a host and the one it was held against."""
    if host.against is None:
        return []
    rows = [
        f"  against {host.against}: {one.kind} {one.name}: there {one.expected}, here {one.found}"
        for one in host.differences
    ]
    return rows or [f"  against {host.against}: no difference"]


def trust_line(host: HostStatus) -> str:
    """Say whose locks a host takes."""
    if host.asks_for_signature:
        return f"  it takes only locks whose signer its {HOST_SIGNERS} names"
    return f"  it trusts this control machine: it has no {HOST_SIGNERS}"


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
        elif host.drift or host.against:
            lines += [f"{host.name}:", *drift_lines(host), *against_lines(host)]
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
