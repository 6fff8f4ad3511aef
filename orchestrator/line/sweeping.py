"""What goes away once a release is accepted: releases nobody goes back to, and the artefacts that only they used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.line.sizes import readable
from orchestrator.progress import Event

if TYPE_CHECKING:
    from orchestrator.inventory import Host
    from orchestrator.kept import HostState
    from orchestrator.line.ports import Way
    from orchestrator.manifest import Manifest

#: Releases that stay on a host besides the one that serves and the one accepted before it.
KEPT_RELEASES = 3


def to_sweep(state: HostState, kept: int = KEPT_RELEASES) -> tuple[Manifest, ...]:
    """Give the releases that may go, oldest first: all but the present, the one accepted before it and ``kept`` more.

    Of the rest the ones put there last are kept, also those that were not accepted: somebody may want to read them.
    """
    present, releases = state.manifest(), state.releases()
    if present is None:
        return ()
    accepted = [one.manifest.release for one in state.accepted_releases()]
    before = accepted[: accepted.index(present.release)] if present.release in accepted else accepted
    stay = {present.release, *before[-1:]}
    rest = [one for one in releases if one.release not in stay]
    return tuple(rest[: max(0, len(rest) - kept)])


def sweep(host: Host, way: Way) -> tuple[str, ...]:
    """Sweep a host after an acceptance, and give what its owner should know of it. A sweep that fails costs nothing."""
    state = way.ports.state_of(host)
    going = to_sweep(state)
    if not going:
        return ()
    way.progress(Event("verify", f"sweeping {len(going)} former releases away", host=host.name))
    try:
        swept = way.ports.sweep(host, [one.release for one in going], way.progress)
    except Exception as error:  # noqa: BLE001 - what serves was accepted, whatever a sweep meets
        return (f"former releases could not be swept away: {getattr(error, 'what', error)}",)
    gone = [one for one in going if one.release in swept.gone]
    for manifest in gone:
        state.forget_release(manifest)
    return (f"swept {len(gone)} former releases away, {readable(swept.freed)} freed",) if gone else ()
