"""What Molecule's playbooks ask of the line: the variables that it gives the roles, and its word on check mode.

The hosts, their secrets and their lock are the scenario's own and lie in Molecule's ephemeral directory; the store is
that of this machine's state, so that what was fetched once is fetched once. The line is gone as ``up --check`` goes
it. On standard output: for each host, in words, what apply would change.
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
from orchestrator.line.wiring import Questions, real
from orchestrator.state import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.apply import Applied
    from orchestrator.inventory import Host
    from orchestrator.lockfile import Lock
    from orchestrator.progress import Event, Progress
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import HostSnapshot
    from orchestrator.state import HostState

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
NOBODY = Questions(confirm=lambda _: False, confirm_fetch=lambda _: False, ready_to_ask=lambda: None)


class Scenario(State):
    """The scenario's state, with the store of this machine's."""

    @property
    def store(self) -> Path:
        """Give the root of this machine's store."""
        return State.here().store


SCENARIO = Scenario(EPHEMERAL / "state")
LOCK_FILE = SCENARIO.lock_file(lab=True)


def ask(verb: str, platforms: Mapping[str, Mapping[str, object]]) -> dict[str, list[str]]:
    """Go the line's way up to apply, which is only asked.

    Before (``values``) what the roles are given is written; after (``declare``) the manifest of a host that has it all.
    """
    catalog, lab = load(Path(__file__).parent / "profiles"), Lab(SCENARIO.lab)
    ports = real(SCENARIO, catalog, lab, NOBODY)
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
        if not platforms[host.name].get("units", True):
            none = rendered.variables | {"runtime_unit": "", "gateway_unit": ""}
            rendered = rendered.model_copy(update={"units": (), "listeners": (), "variables": none})
        applied = ports.apply(host, rendered, lock, snapshot, state, progress, check=check)
        said[host.name] = list(applied.changes)
        if verb == "values":
            ports.write_lock(LOCK_FILE, lock)
            state.keep_intended(applied.manifest)
            _write_values(host, rendered, lock, snapshot, state)
        elif not applied.changed:
            state.keep_manifest(applied.manifest, rendered, lock.hosts[host.name])
        return applied

    made = {one.name: as_host(one) for one in lab.hosts()}
    hosts = {name: (made[name], profile(catalog, str(about["profile"]))) for name, about in platforms.items()}
    wish = Wish(LOCK_FILE, lab=True, locked=verb == "declare", check=True)
    for each in up(hosts, wish, Way(replace(ports, apply=put), _tell)).hosts:
        if each.error:
            raise each.error
    return said


def _write_values(host: Host, rendered: Rendered, lock: Lock, snapshot: HostSnapshot, state: HostState) -> None:
    path = EPHEMERAL / "values" / f"{host.name}.yml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    values = applying.role_values(host, rendered, lock, host.name, SCENARIO.store, state.secrets(), snapshot)
    applying.write_values(path, values)


def _tell(event: Event) -> None:
    if event.state != "running":
        sys.stderr.write(f"{event.phase} {event.host}: {event.text}: {event.state}\n")


def main() -> int:
    """Do what the first argument names for the platforms of the scenario, which are the second, as JSON."""
    try:
        said = ask(sys.argv[1], {each["name"]: each for each in json.loads(sys.argv[2])})
    except AgentrigError as error:
        sys.stderr.write(f"error: {error}\n  {error.do}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(said, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
