"""Apt closures of one run: hosts that have the same system, archives and packages get one that is resolved once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from orchestrator.errors import AgentrigError
from orchestrator.lock import apt
from orchestrator.nouns import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.lock.former import Former
    from orchestrator.lock.store import Store
    from orchestrator.snapshot import HostSnapshot


class Closures:
    """Each question once: who asks it second waits for the first one's answer."""

    def __init__(self, store: Store, former: Former) -> None:
        self._store, self._former = store, former
        self._guard = threading.Lock()
        self._found: dict[str, Future[apt.Closure]] = {}

    def of(
        self, host: str, snapshot: HostSnapshot, packages: Sequence[str], components: Sequence[str] = ()
    ) -> apt.Closure:
        """Give a host's closure, the upgrades that the earlier lock made for it included; raises LockError.

        ``components`` are parts of its archives that it is not configured with.
        """
        held, ours = self._former.held_debs(host)
        upgrade = bool(self._former.upgrade)
        asked = digest_of(
            {
                "system": [snapshot.os.codename, snapshot.arch],
                "archives": [one.document() for one in snapshot.apt_sources],
                "installed": sorted((one.document() for one in snapshot.packages), key=lambda one: str(one["name"])),
                "wanted": [*packages, upgrade, *components],
                "held": [sorted(held.items()), sorted(ours)],
            }
        )
        with self._guard:
            first = asked not in self._found
            answer = self._found.setdefault(asked, Future())
        if first:
            try:
                answer.set_result(
                    apt.resolve_debs(
                        snapshot,
                        packages,
                        self._store,
                        held=held,
                        ours=ours,
                        upgrade=upgrade,
                        components=components,
                    )
                )
            except BaseException as error:  # noqa: BLE001 - who waits must hear of it, whatever it is
                answer.set_exception(error)
        return self._former.joined(host, _told_for(answer, snapshot.name))


def _told_for(answer: Future[apt.Closure], host: str) -> apt.Closure:
    """Give an answer; a failure is told as this host's own."""
    try:
        return answer.result()
    except AgentrigError as error:
        raise type(error)(error.what, where=f"apt packages of {host}", do=error.do) from error
