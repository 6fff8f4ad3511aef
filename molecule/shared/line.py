"""What Molecule's playbooks ask of the line: the variables that it gives the roles, and its word on check mode.

The hosts, their secrets and their lock are the scenario's own and lie in Molecule's ephemeral directory; the store is
that of this machine's state, so that what was fetched once is fetched once. On standard output: for each host, in
words, what apply would change.
"""
# ruff: noqa: INP001 - Molecule's folder, not a package: its name is that of Molecule's own

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import apply as applying
from orchestrator.catalog.loader import load, profile
from orchestrator.errors import AgentrigError
from orchestrator.lab import Lab, as_host
from orchestrator.line.ports import Way
from orchestrator.line.up import up
from orchestrator.line.values import Wish
from orchestrator.line.wiring import real
from orchestrator.state import HostState, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.apply import Applied
    from orchestrator.catalog.rows import Catalog
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports
    from orchestrator.lockfile import Lock
    from orchestrator.progress import Event, Progress
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import HostSnapshot

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


class Scenario(State):
    """The scenario's state, with the store of this machine's."""

    @property
    def store(self) -> Path:
        """Give the root of this machine's store."""
        return State.here().store


SCENARIO = Scenario(EPHEMERAL / "state")
LOCK_FILE = SCENARIO.lock_file(lab=True)


def values(pairs: Sequence[str]) -> dict[str, list[str]]:
    """Go the line's way up to apply for each ``host=profile``; there, write what the roles are given."""
    catalog, ports, lab_hosts = _rooms()
    said: dict[str, list[str]] = {}

    def put(  # noqa: PLR0913, PLR0917 - the port's own shape
        host: Host,
        rendered: Rendered,
        lock: Lock,
        snapshot: HostSnapshot,
        state: HostState,
        progress: Progress,
        *,
        check: bool,
    ) -> Applied:
        del check
        ports.write_lock(LOCK_FILE, lock)
        _write_values(host, rendered, lock, snapshot, state)
        applied = _checked(host, rendered, lock, state, progress)
        said[host.name] = list(applied.changes)
        return applied

    wanted = dict(pair.split("=", 1) for pair in pairs)
    hosts = {name: (lab_hosts[name], profile(catalog, wanted[name])) for name in wanted}
    outcome = up(hosts, Wish(LOCK_FILE, lab=True, check=True), Way(replace(ports, apply=put), _tell))
    for each in outcome.hosts:
        if each.error:
            raise each.error
    return said


def declare(names: Sequence[str]) -> dict[str, list[str]]:
    """Ask each host, with the scenario's lock, what apply would change; declare the manifest of one that has it all."""
    _, ports, hosts = _rooms()
    lock = ports.read_lock(LOCK_FILE)
    if lock is None:
        raise AgentrigError("nothing is locked for this scenario", where=str(LOCK_FILE), do="molecule prepare")
    said: dict[str, list[str]] = {}
    for name in names:
        state = SCENARIO.host(name, lab=True)
        rendered = ports.render(lock.hosts[name].applied)
        applied = _checked(hosts[name], rendered, lock, state, _tell)
        said[name] = list(applied.changes)
        if not applied.changed:
            state.keep_manifest(applied.manifest, rendered)
    return said


def _rooms() -> tuple[Catalog, Ports, dict[str, Host]]:
    """Give the catalog, the line's ports over the scenario's state, and the lab's hosts by name."""
    catalog, lab = load(), Lab(SCENARIO.lab)
    ports = real(SCENARIO, catalog, lab, confirm=lambda _: False, ready_to_ask=lambda: None)
    return catalog, ports, {made.name: as_host(made) for made in lab.hosts()}


def _checked(host: Host, rendered: Rendered, lock: Lock, state: HostState, progress: Progress) -> Applied:
    """Run apply in check mode."""
    secrets, store, name = state.secrets(), SCENARIO.store, host.name
    return applying.apply(host, rendered, lock, name, store, secrets, state.work, progress, check=True)


def _write_values(host: Host, rendered: Rendered, lock: Lock, snapshot: HostSnapshot, state: HostState) -> None:
    path = EPHEMERAL / "values" / f"{host.name}.yml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    secrets, store, name = state.secrets(), SCENARIO.store, host.name
    applying.write_values(path, applying.role_values(host, rendered, lock, name, store, secrets, snapshot))


def _tell(event: Event) -> None:
    if event.state != "running":
        sys.stderr.write(f"{event.phase} {event.host}: {event.text}: {event.state}\n")


def main() -> int:
    """Do what the first argument names for the hosts in the others."""
    verbs = {"values": values, "declare": declare}
    try:
        said = verbs[sys.argv[1]](sys.argv[2:])
    except AgentrigError as error:
        sys.stderr.write(f"error: {error}\n  {error.do}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(said, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
