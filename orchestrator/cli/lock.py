"""``deploy lock``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import PATH, profiles, show_json, verb

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.lockfile import Lock


@click.command("lock")
@profiles
@click.option("-i", "--inventory", type=PATH, metavar="INV", help="An Ansible inventory.")
@click.option("--snapshot", type=PATH, metavar="FILE", help="Lock for that machine, as deploy detect --json wrote it.")
@click.option("--upgrade", multiple=True, is_flag=False, flag_value="*", metavar="[NAME]", help="Move what is named.")
@click.option("--check", is_flag=True, help="Say whether the lock still resolves; write nothing.")
@verb
def command(
    profiles: tuple[str, ...],
    inventory: Path | None,
    snapshot: Path | None,
    upgrade: tuple[str, ...],
    check: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Write deploy.lock and fill the store."""
    from orchestrator.cli.wired import wired
    from orchestrator.line.locking import lock_inventory, lock_machine, still_resolves
    from orchestrator.line.planning import Pretended, Wishes, plan_for
    from orchestrator.line.targets import Asked, to_bring_up

    rooms = wired(inventory, verbose=verbose)
    lock_file = rooms.state.lock_file(inventory=inventory)
    with rooms.state.alone("lock"):
        try:
            if check:
                lock = still_resolves(lock_file, rooms.way)
            elif inventory is not None:
                hosts = to_bring_up(Asked(inventory, None, profiles), rooms.catalog, rooms.lab, rooms.screen.tell)
                lock = lock_inventory(hosts, lock_file, upgrade, rooms.way)
            else:
                (planned, *_) = plan_for(profiles, Pretended(snapshot=snapshot), Wishes(), rooms.catalog)
                lock = lock_machine(planned, lock_file, upgrade, rooms.way)
        finally:
            rooms.screen.close()
    if as_json:
        show_json({"lock": lock_document(lock)})
    else:
        click.echo(f"{lock_file}: {lock.lock_digest}, {len(lock.artefacts)} artefacts, hosts {', '.join(lock.hosts)}")
        for artefact in lock.artefacts:
            if artefact.digest is None:
                click.echo(f"  not resolved: {artefact.kind} {artefact.name} {artefact.version}: {artefact.why}")
    return 0


def lock_document(lock: Lock) -> dict[str, object]:
    """Give the ``lock`` key of the contract."""
    document = lock.document()
    return {"digest": lock.lock_digest, "hosts": document["hosts"], "artefacts": document["artefacts"]}
