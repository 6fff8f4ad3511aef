"""``deploy lock``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import PATH, profiles, show_json, verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.line.ports import Ports
    from orchestrator.lock import Moved
    from orchestrator.lockfile import Lock
    from orchestrator.state import State


@click.command("lock")
@profiles
@click.option("-i", "--inventory", type=PATH, metavar="INV", help="An Ansible inventory.")
@click.option("--snapshot", type=PATH, metavar="FILE", help="Lock for that machine, as deploy detect --json wrote it.")
@click.option("--upgrade", multiple=True, is_flag=False, flag_value="*", metavar="[NAME]", help="Move what is named.")
@click.option("--check", is_flag=True, help="Say whether the lock still resolves; write nothing.")
@click.option("--sign", is_flag=False, flag_value="", metavar="[FILE]", help="Sign the lock as it stands.")
@click.option("--sweep", is_flag=True, help="Tell what in the store no lock names; with --yes throw it away.")
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@verb
def command(
    profiles: tuple[str, ...],
    inventory: Path | None,
    snapshot: Path | None,
    upgrade: tuple[str, ...],
    check: bool,
    sign: str | None,
    sweep: bool,
    yes: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Write deploy.lock and fill the store."""
    from orchestrator.cli.wired import wired
    from orchestrator.line.locking import asked_by_kind, lock_inventory, lock_machine, moves, still_resolves
    from orchestrator.line.planning import Pretended, Wishes, plan_for
    from orchestrator.line.targets import Asked, to_bring_up

    rooms = wired(inventory, verbose=verbose)
    lock_file = Path(sign) if sign else rooms.state.lock_file(inventory=inventory)
    before: Lock | None = None
    if sweep:
        return sweep_store(rooms.state, lock_file, yes=yes, as_json=as_json)
    with rooms.state.alone("lock"):
        try:
            if sign is not None:
                lock = sign_as_it_stands(lock_file, rooms.ports, yes=yes)
            elif check:
                lock = still_resolves(lock_file, rooms.way)
            elif inventory is not None:
                before = rooms.ports.read_lock(lock_file)
                hosts = to_bring_up(Asked(inventory, None, profiles), rooms.catalog, rooms.lab, rooms.screen.tell)
                lock = lock_inventory(hosts, lock_file, upgrade, rooms.way)
            else:
                (planned, *_) = plan_for(profiles, Pretended(snapshot=snapshot), Wishes(), rooms.catalog)
                before = rooms.ports.read_lock(lock_file)
                lock = lock_machine(planned, lock_file, upgrade, rooms.way)
        finally:
            rooms.screen.close()
    moved = moves(before, lock, rooms.ports) if before else ()
    asked = asked_by_kind(lock) if check else {}
    if as_json:
        show_json({"lock": lock_document(lock, moved, asked)})
    else:
        click.echo(f"{lock_file}: {lock.lock_digest}, {len(lock.artefacts)} artefacts, hosts {', '.join(lock.hosts)}")
        for line in (*moved_lines(moved), *asked_lines(asked), *unresolved_lines(lock)):
            click.echo(f"  {line}")
    return 0


def lock_document(lock: Lock, moved: Sequence[Moved] = (), asked: Mapping[str, int] | None = None) -> dict[str, object]:
    """Give the ``lock`` key of the contract."""
    document = lock.document()
    return {
        "digest": lock.lock_digest,
        "hosts": document["hosts"],
        "artefacts": document["artefacts"],
        "moved": [one.document() for one in moved],
        "asked": dict(asked or {}),
    }


def moved_lines(moved: Sequence[Moved]) -> Iterator[str]:
    """Say what moved, and what changes with it."""
    for one in moved:
        yield f"{one.kind} {one.name}: {one.before or 'not there'} -> {one.after or 'gone'}"
        yield from (f"  {sentence}" for sentence in one.means)


def asked_lines(asked: Mapping[str, int]) -> Iterator[str]:
    """Say how much of each kind was asked for."""
    from orchestrator.lock import words

    if asked:
        yield f"all there: {', '.join(words(asked))}"


def unresolved_lines(lock: Lock) -> Iterator[str]:
    """Say what has no digest, and what has one that only its own bytes vouch for."""
    for one in lock.artefacts:
        if one.why:
            what = "not resolved: " if one.digest is None else ""
            yield f"{what}{one.kind} {one.name} {one.version}: {one.why}"


def sign_as_it_stands(lock_file: Path, ports: Ports, *, yes: bool) -> Lock:
    """Show what a lock is, ask, and sign it; raises UsageError where there is none, or nobody to ask."""
    from orchestrator.cli.wired import ask_terminal
    from orchestrator.line.locking import as_it_stands

    lock = as_it_stands(lock_file)
    click.echo(f"{lock_file}: {lock.lock_digest}, {len(lock.artefacts)} artefacts", err=True)
    for name, host in lock.hosts.items():
        click.echo(f"  {name}: {host.applied.llm} on {host.applied.runtime}, profile {host.applied.profile}", err=True)
    if not ask_terminal("Sign it as it stands?", yes=yes):
        raise click.Abort
    return ports.sign_lock(lock_file)


def sweep_store(state: State, lock_file: Path, *, yes: bool, as_json: bool) -> int:
    """Tell what the store holds that no lock names, and throw it away where that was asked for."""
    from orchestrator.line.sizes import readable
    from orchestrator.line.unused import discard, unused

    with state.alone("lock"):
        found = unused(state, lock_file)
        if yes:
            discard(found)
    if as_json:
        show_json({"sweep": found.document(removed=yes)})
        return 0
    done = "thrown away" if yes else "used by none of these locks; --yes throws it away"
    click.echo(f"{len(found.blobs)} files, {readable(found.bytes)}: {done}")
    for path in found.locks:
        click.echo(f"  {path}")
    for path in found.lost:
        click.echo(f"  {path} is not there any more: what it alone named counts as unused")
    return 0
