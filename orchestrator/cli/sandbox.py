"""``deploy sandbox``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orchestrator.cli.common import PATH, show_json, verb
from orchestrator.sandbox.reached import Reached

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.cli.wired import Wired
    from orchestrator.inventory import Host
    from orchestrator.sandbox.quarantine import Quarantine
    from orchestrator.sandbox.values import Review

_Verb = TypeVar("_Verb", bound="Callable[..., Any]")
_SHOWN = 40


def on_host(function: _Verb) -> _Verb:
    """Add the options that name the host of a sandbox."""
    function = click.option("--lab", is_flag=True, help="A throwaway host on this machine.")(function)
    function = click.option("--host", metavar="H", help="The host; the first of the inventory otherwise.")(function)
    return click.option("-i", "--inventory", type=PATH, metavar="INV", help="An Ansible inventory.")(function)


@click.group("sandbox")
def command() -> None:
    """Walled places where an agent works on a copy of a repository; what it did comes back as a diff."""


@command.command("create")
@click.argument("name")
@click.option("--kind", type=click.Choice(["container", "vm"]), default="container", show_default=True)
@on_host
@verb
def create(
    name: str, kind: str, inventory: Path | None, host: str | None, lab: bool, as_json: bool, verbose: bool
) -> int:
    """Make a sandbox."""
    from orchestrator.errors import UsageError
    from orchestrator.line import sandboxes

    if kind == "vm":
        raise UsageError("no host has sandboxes of the kind vm yet", do="take --kind container")
    _, one, _ = _place(name, inventory, host, lab=lab, verbose=verbose)
    made = sandboxes.create(one, name)
    if as_json:
        show_json({"sandbox": {**made, "host": one.name}})
    else:
        click.echo(f"{name} on {one.name}: {made['address']}, made in {made['seconds']} s")
        click.echo(f"  deploy sandbox run {name} --agent AGENT --repo PATH -- TASK")
    return 0


@command.command("list")
@on_host
@verb
def listing(inventory: Path | None, host: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """List your sandboxes."""
    from orchestrator.line import sandboxes

    rooms, hosts = _hosts(inventory, host, lab=lab, verbose=verbose)
    found = sandboxes.listed(hosts, rooms.state.root)
    if as_json:
        show_json({"sandboxes": found})
        return 0
    for one in found:
        state = f"stopped: {one['stopped']}" if one["stopped"] else "runs" if one["running"] else "at rest"
        holds = f", a copy of {one['repository']}" if one["repository"] else ""
        click.echo(
            f"{one['host']}: {one['name']} ({one['owner_name']}), {one['kind']} {one['address']}, {state}{holds}"
        )
    if not found:
        click.echo("there is none; deploy sandbox create NAME makes one")
    return 0


@command.command("run")
@click.argument("name")
@click.option("--agent", required=True, metavar="A", help="Which agent works.")
@click.option("--repo", type=PATH, required=True, metavar="PATH", help="The repository whose copy goes in.")
@click.option("--branch", metavar="B", help="That branch, not the one that is checked out.")
@click.option("--uncommitted", is_flag=True, help="What is not committed goes in too, but for ignored files.")
@click.option("--also", multiple=True, metavar="PATH", help="An ignored file that goes in all the same.")
@click.option("--file", "files", multiple=True, metavar="PATH", help="A file that the agent begins with.")
@click.option("--seconds", type=click.FloatRange(1, 86400), default=3600, show_default=True, help="Its time limit.")
@click.option("--again", is_flag=True, help="Start the sandbox although it was stopped.")
@click.argument("task", nargs=-1, required=True)
@on_host
@verb
def run(
    name: str, agent: str, repo: Path, branch: str | None, uncommitted: bool, also: tuple[str, ...],
    files: tuple[str, ...], seconds: float, again: bool, task: tuple[str, ...],
    inventory: Path | None, host: str | None, lab: bool, as_json: bool, verbose: bool,
) -> int:  # fmt: skip
    """Let an agent work on a copy of a repository; its result waits to be reviewed."""
    from orchestrator.line import sandboxes
    from orchestrator.sandbox.values import Wish

    rooms, one, kept = _place(name, inventory, host, lab=lab, verbose=verbose)
    row = sandboxes.agent_of(one, agent, rooms.lock_of(one, inventory), rooms.ports)
    wish = Wish(branch=branch, uncommitted=uncommitted, also=also)
    asked = sandboxes.Task(agent, " ".join(task), seconds, files)
    place = Reached(one, name, again)
    ended = sandboxes.run(place, kept, repo, row, asked, wish, lambda line: click.echo(f"  {line}", err=True))
    if as_json:
        show_json({"run": ended.document()})
        return 0
    late = ", stopped at its time limit" if ended.late else ""
    click.echo(f"{row.title} ended with {ended.exit_code} after {ended.seconds:.0f} s{late}; {ended.requests} requests")
    _show_review(ended.review, ended.diff_file)
    click.echo(f"  deploy sandbox accept {name}   or   deploy sandbox reject {name}")
    return 0


@command.command("diff")
@click.argument("name")
@click.option("--patch", is_flag=True, help="Print the whole patch.")
@click.option("--kept", is_flag=True, help="What came back last; the sandbox is not asked.")
@on_host
@verb
def diff(
    name: str,
    patch: bool,
    kept: bool,
    inventory: Path | None,
    host: str | None,
    lab: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Bring back what was done and show it, what your machine would later run first."""
    from orchestrator.line import sandboxes

    _, one, quarantine = _place(name, inventory, host, lab=lab, verbose=verbose)
    found, file = sandboxes.diff(None if kept else Reached(one, name), quarantine)
    if as_json:
        show_json({"review": found.document(), "diff_file": str(file)})
        return 0
    _show_review(found, file)
    if patch:
        click.echo(file.read_text(encoding="utf-8"), nl=False)
    return 0


@command.command("accept")
@click.argument("name")
@click.argument("paths", nargs=-1)
@click.option("--branch", metavar="B", help="Where it lands; agentrig/NAME otherwise.")
@click.option("-m", "--message", metavar="TEXT", help="The commit's message.")
@click.option("--checked-out", is_flag=True, help="The branch may be one that a working tree has checked out.")
@click.option("--seen", metavar="COMMIT", help="Only if this is still the result.")
@on_host
@verb
def accept(
    name: str, paths: tuple[str, ...], branch: str | None, message: str | None, checked_out: bool, seen: str | None,
    inventory: Path | None, host: str | None, lab: bool, as_json: bool, verbose: bool,
) -> int:  # fmt: skip
    """Land what came back, whole or by file, on a branch of the repository."""
    from orchestrator.line import sandboxes
    from orchestrator.sandbox.landing import Accepting

    _, _, kept = _place(name, inventory, host, lab=lab, verbose=verbose)
    asked = Accepting("agent", paths or None, seen, branch, message, checked_out)
    landed = sandboxes.taken(kept, asked)
    if as_json:
        show_json({"landed": landed.document()})
        return 0
    done = f"{len(landed.paths)} files on {landed.branch}" if landed.written else f"{landed.branch} has all of it"
    click.echo(done)
    for note in landed.notes:
        click.echo(f"  {note}")
    return 0


@command.command("reject")
@click.argument("name")
@on_host
@verb
def reject(name: str, inventory: Path | None, host: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """Drop what came back; your repository is not touched."""
    from orchestrator.sandbox.landing import reject as drop

    _, _, kept = _place(name, inventory, host, lab=lab, verbose=verbose)
    dropped = drop(kept)
    if as_json:
        show_json({"rejected": dropped})
    else:
        click.echo("dropped" if dropped else "there was nothing to drop")
    return 0


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--repo", type=PATH, metavar="PATH", help="A repository whose copy goes in first.")
@click.option("--again", is_flag=True, help="Start the sandbox although it was stopped.")
@on_host
def execute(
    name: str, words: tuple[str, ...], repo: Path | None, again: bool,
    inventory: Path | None, host: str | None, lab: bool,
) -> int:  # fmt: skip
    """Run a command inside as the agent, on this terminal or these pipes."""
    _, one, kept = _place(name, inventory, host, lab=lab, verbose=False)
    return _joined(Reached(one, name, again), kept, words, repo)


@command.command("shell")
@click.argument("name")
@click.option("--agent", metavar="A", help="The agent's own terminal interface in the place of a shell.")
@click.option("--repo", type=PATH, metavar="PATH", help="A repository whose copy goes in first.")
@click.option("--again", is_flag=True, help="Start the sandbox although it was stopped.")
@on_host
def shell(
    name: str, agent: str | None, repo: Path | None, again: bool,
    inventory: Path | None, host: str | None, lab: bool,
) -> int:  # fmt: skip
    """Open a shell inside, or an agent."""
    rooms, one, kept = _place(name, inventory, host, lab=lab, verbose=False)
    words: tuple[str, ...] = ("/bin/sh",)
    if agent is not None:
        from orchestrator.line import sandboxes

        words = (sandboxes.command_of(sandboxes.agent_of(one, agent, rooms.lock_of(one, inventory), rooms.ports)),)
    return _joined(Reached(one, name, again), kept, words, repo)


@command.command("destroy")
@click.argument("name")
@on_host
@verb
def destroy(name: str, inventory: Path | None, host: str | None, lab: bool, as_json: bool, verbose: bool) -> int:
    """Take a sandbox away, with the copy in it and what came back of it."""
    from orchestrator.line import sandboxes

    _, one, kept = _place(name, inventory, host, lab=lab, verbose=verbose)
    sandboxes.destroy(one, name, kept)
    if as_json:
        show_json({"destroyed": name})
    else:
        click.echo(f"{name} is gone")
    return 0


def _joined(place: Reached, kept: Quarantine, words: tuple[str, ...], repo: Path | None) -> int:
    from orchestrator.line import sandboxes
    from orchestrator.sandbox.values import Wish

    if repo is not None:
        sandboxes.put_in(place, kept, repo, Wish(), lambda line: click.echo(f"  {line}", err=True))
    return place.joined(words, terminal=sys.stdin.isatty() and sys.stdout.isatty())


def _show_review(found: Review, patch: Path) -> None:
    click.echo(f"{len(found.changes)} files changed, {len(found.flagged)} flagged; the whole: {patch}")
    for change in found.changes[:_SHOWN]:
        size = f"+{change.added_lines} -{change.deleted_lines}" if change.added_lines is not None else change.what
        click.echo(f"  {'!' if change.flags else ' '} {change.kind:<12} {change.path}  {size}")
        for flag in change.flags:
            click.echo(f"      {flag.why}{f': {flag.detail}' if flag.detail else ''}")
    if len(found.changes) > _SHOWN:
        click.echo(f"  and {len(found.changes) - _SHOWN} more")
    for note in found.notes:
        click.echo(f"  {note}")


def _hosts(inventory: Path | None, host: str | None, *, lab: bool, verbose: bool) -> tuple[Wired, list[Host]]:
    from orchestrator.cli.wired import wired
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    return rooms, already_up(Asked(inventory, host, (), lab), rooms.lab, known_here=knows(rooms.state))


def _place(
    name: str, inventory: Path | None, host: str | None, *, lab: bool, verbose: bool
) -> tuple[Wired, Host, Quarantine]:
    from orchestrator.errors import UsageError
    from orchestrator.line.sandboxes import quarantine_of

    rooms, hosts = _hosts(inventory, host, lab=lab, verbose=verbose)
    if not hosts:
        raise UsageError("no host is known here", do="bring one up first: deploy up")
    return rooms, hosts[0], quarantine_of(rooms.state.root, hosts[0], name)
