"""``deploy detect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, targets, verb

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.line.reading import Read
    from orchestrator.snapshot import HostSnapshot


@click.command("detect")
@targets
@verb
def command(inventory: Path | None, limit: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """Read this machine, or every host of an inventory at once."""
    from orchestrator.cli.wired import wired
    from orchestrator.errors import exit_code_of_many
    from orchestrator.line.reading import read_all
    from orchestrator.line.targets import Asked

    rooms = wired(inventory, verbose=verbose)
    read = read_all(Asked(inventory, limit, (), lab), rooms.catalog, rooms.lab, rooms.ports)
    if as_json:
        first = next((one.error for one in read if one.error), None)
        show_json({"hosts": [one.document() for one in read]} | ({"error": first.document()} if first else {}))
    else:
        for one in read:
            lines = snapshot_lines(one.snapshot) if one.snapshot else error_lines(one)
            click.echo("\n".join(lines))
    return exit_code_of_many(one.error.exit_code for one in read if one.error)


def error_lines(read: Read) -> list[str]:
    """Give why a host could not be read, and what to do."""
    error = read.error
    return [f"{read.name}: {error.what}", f"  {error.do}"] if error else [f"{read.name}: it did not answer"]


def snapshot_lines(snapshot: HostSnapshot) -> list[str]:
    """Give a snapshot as a person reads it."""
    python = f"Python {snapshot.python.version}" if snapshot.python else "no /usr/bin/python3"
    lines = [
        f"{snapshot.name}: {snapshot.os.pretty or snapshot.os.id}, {snapshot.arch}, {python}",
        f"  {snapshot.cpus} cpus, {snapshot.ram_mib} MiB of RAM, {snapshot.disk_free_mib} MiB of disk free",
        f"  systemd {'runs' if snapshot.systemd else 'does not run'}"
        + (f", in {snapshot.container}" if snapshot.container else "")
        + (f", driver {snapshot.driver}" if snapshot.driver else ""),
    ]
    for gpu in snapshot.gpus:
        free = f", {gpu.vram_free_mib} free" if gpu.vram_free_mib is not None else ""
        lines.append(f"  GPU {gpu.index}: {gpu.name}, {gpu.vram_mib} MiB{free}, at {gpu.bus_id} (by {gpu.source})")
    if not snapshot.gpus:
        lines.append("  no GPU")
    for one in snapshot.endpoints:
        what = " ".join(filter(None, (one.kind, one.version)))
        lines.append(f"  answers already: {what} at {one.url} with {', '.join(one.llms) or 'no llm'}")
    if snapshot.firewalls:
        lines.append(f"  firewalls, left as they are: {', '.join(snapshot.firewalls)}")
    lines += [f"  problem: {problem.what}. {problem.do}" for problem in snapshot.problems]
    return lines
