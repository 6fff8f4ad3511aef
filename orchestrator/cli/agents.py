"""``deploy agents``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import show_json, targets, verb

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.cli.wired import Wired
    from orchestrator.inventory import Host


@click.group("agents")
def command() -> None:
    """Coding agents of a host: which there are, and how to start one yourself."""


@command.command("list")
@targets
@verb
def listing(inventory: Path | None, limit: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """List the agents of every host that is known here."""
    from orchestrator.line.agents import listed

    rooms, hosts = _hosts(inventory, limit, lab=lab, verbose=verbose)
    found = listed(hosts, rooms.lock_of(hosts[0], inventory), rooms.ports)
    if as_json:
        show_json({"agents": [one.document() for one in found]})
        return 0
    for one in found:
        there = "installed" if one.installed else "not installed"
        click.echo(
            f"{one.host}: {one.row.title} {one.version}, {there}, command {one.row.command}, "
            f"window {one.window_tokens} tokens, answers up to {one.output_tokens}"
        )
    if not found:
        click.echo("no agent is known here; name some under agents in the profile")
    return 0


@command.command("env")
@click.argument("agent")
@targets
@verb
def environment(agent: str, inventory: Path | None, limit: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """Print what a shell must export for an agent that you start yourself: eval "$(deploy agents env AGENT)"."""
    from orchestrator.line.agents import listed, variables

    rooms, host, rest = _one(inventory, limit, lab=lab, verbose=verbose)
    lock = rooms.lock_of(host, inventory)
    found = variables(host, agent, lock, rooms.ports)
    if as_json:
        rows = [one.document() for one in listed([host], lock, rooms.ports) if one.row.name == agent]
        show_json({"agents": rows, "variables": found})
        return 0
    _say_which(host, rest)
    for name, word in found.items():
        click.echo(f"export {name}={word}")
    return 0


@command.command("config")
@click.argument("agent")
@targets
@verb
def config(agent: str, inventory: Path | None, limit: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """Print the settings of an agent as they lie on the host."""
    from orchestrator.line.agents import files, listed

    rooms, host, rest = _one(inventory, limit, lab=lab, verbose=verbose)
    lock = rooms.lock_of(host, inventory)
    found = files(host, agent, lock, rooms.ports)
    if as_json:
        rows = [one.document() for one in listed([host], lock, rooms.ports) if one.row.name == agent]
        contents: list[dict[str, Any]] = [{"path": file.path, "content": file.content} for file in found]
        show_json({"agents": rows, "files": contents})
        return 0
    _say_which(host, rest)
    for file in found:
        click.echo(f"# {file.path}")
        click.echo(file.content, nl=False)
    return 0


def _hosts(inventory: Path | None, limit: str | None, *, lab: bool, verbose: bool) -> tuple[Wired, list[Host]]:
    from orchestrator.cli.wired import wired
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    return rooms, already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))


def _one(inventory: Path | None, limit: str | None, *, lab: bool, verbose: bool) -> tuple[Wired, Host, list[Host]]:
    rooms, hosts = _hosts(inventory, limit, lab=lab, verbose=verbose)
    return rooms, hosts[0], hosts[1:]


def _say_which(host: Host, rest: list[Host]) -> None:
    if rest:
        click.echo(f"of {host.name}; --limit names another", err=True)
