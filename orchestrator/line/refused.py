"""What keeps a host from being changed once its lock is known: nothing was put there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import ApplyError, LockError
from orchestrator.line.sizes import readable, sizes

if TYPE_CHECKING:
    from orchestrator.errors import AgentrigError
    from orchestrator.line.values import Draft
    from orchestrator.lockfile import Lock


def refusal(one: Draft, lock: Lock, *, begun: bool) -> AgentrigError | None:
    """Give why a host is refused, or None. ``begun``: an earlier apply may have left parts there already."""
    return _unresolved(one, lock) or (None if begun and one.former is None else _cramped(one, lock))


def whole_trees(one: Draft) -> set[str]:
    """Give the keys of the artefacts that the host has whole, as its reading says."""
    return {tree.key for tree in one.reading.trees if tree.digest} if one.reading else set()


def _unresolved(one: Draft, lock: Lock) -> LockError | None:
    """Refuse by name what stands in the lock without a digest."""
    lacking = [artefact for artefact in lock.artefacts_of(one.host.name) if artefact.digest is None]
    if not lacking:
        return None
    first = lacking[0]
    what = f"{first.kind} {first.name} {first.version} is not resolved: {first.why}"
    return LockError(what, where=one.host.name, do="run it again where its source is in reach, or rehearse it: --lab")


def _cramped(one: Draft, lock: Lock) -> ApplyError | None:
    """Refuse a disk on which it would not fit, as far as sizes are known."""
    taken = sizes(lock, one.snapshot, in_store=lambda _: True, trees=whole_trees(one))
    if not taken.short or taken.free is None:
        return None
    return ApplyError(
        f"its disk is too small: {readable(taken.peak)} are needed at /opt/agentrig, {readable(taken.free)} are free",
        where=one.host.name,
        do=f"make {readable(taken.short)} of room at /opt there, then run it again; nothing was put there",
    )
