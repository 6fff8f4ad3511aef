"""Hosts whose driver was changed under a loaded module: told, and with ``--reboot`` rebooted before they go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import AgentrigError, RebootNeeded
from orchestrator.line.draft import question
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.apply import Applied
    from orchestrator.detect import Answer
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Way
    from orchestrator.line.values import Draft, Wish
    from orchestrator.lockfile import Lock
    from orchestrator.profile import Profile


def stale_driver(profile: Profile, answer: Answer) -> str | None:
    """Give why a host must be rebooted before its cards can serve; None where it need not, or no card is used."""
    if answer.snapshot is None or profile.demonstration or "external" in {profile.use, profile.runtime.name}:
        return None
    return next((one.what for one in answer.snapshot.problems if one.kind == "driver_mismatch"), None)


def rebooted(
    hosts: Mapping[str, tuple[Host, Profile]], answers: Mapping[str, Answer], way: Way
) -> tuple[dict[str, Answer], dict[str, AgentrigError]]:
    """Reboot the hosts that must be, side by side, and ask them anew; give all answers, and whom it failed with."""
    stale = {name: host for name, (host, profile) in hosts.items() if stale_driver(profile, answers[name])}
    failures: dict[str, AgentrigError] = {}

    def one(name: str) -> None:
        try:
            way.ports.reboot(stale[name], way.progress)
        except AgentrigError as error:
            failures[name] = error

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(one, stale))
    again = [host for name, host in stale.items() if name not in failures]
    return {**answers, **(way.ports.ask([question(host, way.ports) for host in again]) if again else {})}, failures


def refuse_stale(host: Host, profile: Profile, answer: Answer, failure: AgentrigError | None) -> None:
    """Raise RebootNeeded for a host whose loaded module is not its driver's, or how its reboot failed."""
    if failure:
        raise failure
    if why := stale_driver(profile, answer):
        raise RebootNeeded.because(why, host.name)


def apply_or_reboot(one: Draft, lock: Lock, wish: Wish, way: Way) -> Applied:
    """Put the rendering on its host; where that needs a reboot and one was allowed, reboot once and go on."""
    values = (one.host, one.rendered, lock, one.snapshot, way.ports.state_of(one.host), way.progress)
    try:
        return way.ports.apply(*values, check=wish.check)
    except RebootNeeded as needed:
        if not wish.reboot or wish.check:
            raise
        way.progress(Event("apply", needed.what, host=one.host.name))
    way.ports.reboot(one.host, way.progress)
    again = way.ports.apply(*values, check=False)
    return replace(again, changed=again.changed + 1, changes=("reboot the host", *again.changes))
