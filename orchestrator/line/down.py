"""``down``: away again, by the manifests."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from orchestrator.errors import AgentrigError
from orchestrator.line.up import SIDE_BY_SIDE, Clock, tell_end
from orchestrator.line.values import HostOutcome, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.inventory import Host
    from orchestrator.lab import Lab
    from orchestrator.line.ports import Way
    from orchestrator.state import State


def down(hosts: Sequence[Host], way: Way, *, purge: bool) -> Outcome:
    """Stop and take away what our manifests say we put there; with ``purge`` the store and packages too."""
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        return Outcome(tuple(pool.map(lambda host: _whole(host, way, purge=purge), hosts)))


def _whole(host: Host, way: Way, *, purge: bool) -> HostOutcome:
    """Take one host to its end, and tell how it ended."""
    outcome = _down(host, way, purge=purge)
    tell_end(outcome, way)
    return outcome


def _down(host: Host, way: Way, *, purge: bool) -> HostOutcome:
    state, clock = way.ports.state_of(host), Clock()
    manifests = state.manifests()
    if not manifests:
        return HostOutcome(host.name, "unchanged", seconds=clock.seconds)
    try:
        with clock.phase("down"):
            removed = way.ports.remove(host, manifests, state, way.progress, purge=purge)
    except AgentrigError as error:
        return HostOutcome(host.name, "failed", seconds=clock.seconds, phases=clock.phases, error=error)
    state.forget(everything=purge)
    result: Result = "changed" if removed.changed else "unchanged"
    return HostOutcome(
        host.name, result, removed.changed, seconds=clock.seconds, phases=clock.phases, left=removed.left
    )


def forget_lab(lab: Lab, state: State) -> None:
    """Take every lab host away, and what was kept of the rigs on them; the lock stays, so the next are the same."""
    lab.down()
    shutil.rmtree(state.lab / "rigs", ignore_errors=True)
