"""``deploy lab``: throwaway hosts on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import show_json, verb

if TYPE_CHECKING:
    from orchestrator.lab import LabHost


@click.group("lab")
def command() -> None:
    """Throwaway systemd hosts on this machine: a rehearsal for users, hosts for tests."""


@command.command("up")
@click.argument("count", type=click.IntRange(1, 64), default=1)
@click.option("--os", "system", default="debian-12", show_default=True, metavar="NAME", help="The hosts' system.")
@verb
def up(count: int, system: str, as_json: bool, verbose: bool) -> int:
    """Make hosts named host-1, host-2 and so on; those that are there stay."""
    from orchestrator.cli.screen import Screen
    from orchestrator.lab import Lab
    from orchestrator.state import State

    state, screen = State.here(), Screen(verbose=verbose)
    with state.alone("lab up"):
        try:
            hosts = Lab(state.lab).up({f"host-{number}": system for number in range(1, count + 1)}, screen.tell)
        finally:
            screen.close()
    _show(hosts, as_json=as_json)
    return 0


@command.command("list")
@verb
def listing(as_json: bool, verbose: bool) -> int:
    """List the hosts that are alive."""
    del verbose
    from orchestrator.lab import Lab
    from orchestrator.state import State

    _show(Lab(State.here().lab).hosts(), as_json=as_json)
    return 0


@command.command("ssh", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, arguments: tuple[str, ...]) -> int:
    """Open a shell on a host, or run a command there."""
    from orchestrator.errors import UsageError
    from orchestrator.lab import Lab
    from orchestrator.state import State

    hosts = {host.name: host for host in Lab(State.here().lab).hosts()}
    if name not in hosts:
        raise UsageError(f"the lab has no host {name}", do=f"it has: {', '.join(hosts) or 'none'}")
    os.execvp("ssh", [*hosts[name].ssh(), *arguments])  # noqa: S606 - the person's terminal becomes ssh's


@command.command("down")
@verb
def down(as_json: bool, verbose: bool) -> int:
    """Take every lab host away; the lock of the rehearsals and the store stay."""
    del verbose
    from orchestrator.lab import Lab
    from orchestrator.line.down import forget_lab
    from orchestrator.state import State

    state = State.here()
    with state.alone("lab down"):
        gone = Lab(state.lab).hosts()
        forget_lab(Lab(state.lab), state)
    if as_json:
        show_json({"hosts": [], "gone": [host.name for host in gone]})
    else:
        click.echo(f"gone: {', '.join(host.name for host in gone) or 'there was none'}")
    return 0


def _show(hosts: tuple[LabHost, ...], *, as_json: bool) -> None:
    rows = [{"name": one.name, "address": f"{one.address}:{one.ssh_port}", "os": one.os} for one in hosts]
    if as_json:
        show_json({"hosts": rows})
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['os']}  deploy lab ssh {row['name']}")
    if not rows:
        click.echo("the lab has no host; deploy lab up makes one")
