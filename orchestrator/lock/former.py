"""What an earlier lock, and this run so far, already hold for a request: that is kept and not asked anew. Pure."""

from __future__ import annotations

import difflib
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.lock.apt import Closure
from orchestrator.lock.wanted import DEB_ARCHITECTURES
from orchestrator.lock.weights import Resolved
from orchestrator.lock.wheels import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from orchestrator.lockfile import Artefact, HostLock, Lock
    from orchestrator.snapshot import HostSnapshot

#: Given to ``upgrade``: every name.
EVERYTHING = "*"


class Former:
    """The artefacts known so far, and the names whose versions may move."""

    def __init__(self, previous: Lock | None, upgrade: Collection[str]) -> None:
        self.hosts = dict(previous.hosts) if previous else {}
        self.artefacts = previous.by_id() if previous else {}
        self.upgrade = frozenset(canonical(name) for name in upgrade)
        self._moved: set[str] = set()
        self._guard = threading.Lock()
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def turn(self, source: str) -> threading.Lock:
        """Give the lock under which one request is resolved: hosts that ask for the same wait and take it over."""
        with self._guard:
            return self._turns[source]

    def know(self, artefacts: Iterable[Artefact]) -> None:
        """Add what this run has resolved, so that the next host has it too."""
        new = {artefact.id: artefact for artefact in artefacts}
        with self._guard:
            self._moved.update(new)
            self.artefacts = {**self.artefacts, **new}

    def moves(self, artefact: Artefact) -> bool:
        """Tell whether the artefact may get another version, and has not got one in this run."""
        if artefact.id in self._moved:
            return False
        return EVERYTHING in self.upgrade or canonical(artefact.name) in self.upgrade

    def resolved(self, host: str, source: str, *, again: bool) -> Resolved | None:
        """Give what was locked for the same request, for this host or else for another.

        ``again`` where one that could not be resolved is to be tried once more.
        """
        former = self.hosts.get(host)
        own = {*former.links.values(), *former.asked} if former else set()
        for artefact in sorted(self.artefacts.values(), key=lambda one: one.id not in own):
            if artefact.source == source and artefact.kind in {"venv", "folder", "file", "binary", "image", "npm_tree"}:
                parts = tuple(self.artefacts[part] for part in artefact.parts)
                stale = artefact.digest is None and again and artefact.id not in self._moved
                if not stale and not any(self.moves(one) for one in (artefact, *parts)):
                    return Resolved(artefact, parts)
        return None

    def held(self, runtime: str) -> dict[str, str]:
        """Give the versions (name -> version) of a tree's packages that must not move, but for those it has twice."""
        trees = [one for one in self.artefacts.values() if one.kind in {"venv", "npm_tree"} and one.name == runtime]
        if any(self.moves(one) for one in trees):
            return {}
        parts = {part: self.artefacts[part] for tree in trees for part in tree.parts}.values()
        versions = {(one.name, one.version) for one in parts if one.kind == "npm"}
        names = [name for name, _ in versions]
        twice = {name for name in names if names.count(name) > 1}
        return {part.name: part.version for part in parts if not self.moves(part) and part.name not in twice}

    def held_of_image(self, source: str) -> dict[str, str]:
        """Give the versions (name -> version) of an image's packages that must not move."""
        tops = [one for one in self.artefacts.values() if one.kind == "image" and one.source == source]
        if any(self.moves(one) for one in tops):
            return {}
        parts = {part: self.artefacts[part] for top in tops for part in top.parts}.values()
        return {part.name: part.version for part in parts if part.kind == "deb" and not self.moves(part)}

    def debs(self, host: str) -> dict[str, Artefact]:
        """Give the .debs that the earlier lock has for a host, by name."""
        former = self.hosts.get(host)
        return {self.artefacts[name].name: self.artefacts[name] for name in former.debs} if former else {}

    def held_debs(self, host: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """Give the versions (name -> version) of a host's .debs that do not move, and the names that are ours alone."""
        debs = self.debs(host)
        upgraded = {change.name for change in self.hosts[host].upgrades} if debs else set()
        held = {name: deb.version for name, deb in debs.items() if not self.moves(deb)}
        return held, tuple(name for name in debs if name not in upgraded)

    def joined(self, host: str, found: Closure) -> Closure:
        """Give a new closure with the upgrades that the earlier lock made: the host keeps them."""
        former = self.hosts.get(host)
        if former is None or not former.upgrades:
            return found
        before = {change.name: change.before for change in former.upgrades}
        debs = {name: deb for name, deb in self.debs(host).items() if name in before}
        debs.update({deb.name: deb for deb in found.debs})
        changes = {change.name: change for change in former.upgrades}
        for change in found.upgrades:
            first = before.get(change.name, change.before)
            changes[change.name] = change.model_copy(update={"before": first})
        ordered = tuple(debs[name] for name in sorted(debs))
        return Closure(ordered, tuple(changes[name] for name in sorted(changes)), found.leans_on)

    def closure(self, snapshot: HostSnapshot, packages: Sequence[str]) -> Closure | None:
        """Give the earlier closure of a host, where it still brings the same packages onto it."""
        former, debs = self.hosts.get(snapshot.name), self.debs(snapshot.name)
        if former is None or former.packages != tuple(packages) or any(self.moves(deb) for deb in debs.values()):
            return None
        if EVERYTHING in self.upgrade or self.upgrade & {canonical(name) for name in packages}:
            return None
        present = {package.name for package in snapshot.packages}
        suits = all(_is_for(deb, snapshot) for deb in debs.values())
        if not suits or not {*former.leans_on, *(set(packages) - set(debs))} <= present:
            return None
        return Closure(tuple(debs.values()), former.upgrades, former.leans_on)

    def names_are_known(self) -> None:
        """Raise UsageError for a name in ``upgrade`` that nothing in the lock bears."""
        known = {canonical(one.name) for one in self.artefacts.values()}
        known |= {canonical(name) for host in self.hosts.values() for name in host.packages}
        for name in sorted(self.upgrade - known - {EVERYTHING}):
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            there = f"{meant}There is: {', '.join(sorted(known))}" if known else "write a lock first: deploy lock"
            raise UsageError(f"nothing in the lock is called {name}", where="--upgrade", do=there)


def used_by(hosts: Iterable[HostLock], artefacts: dict[str, Artefact]) -> tuple[Artefact, ...]:
    """Give the artefacts that hosts refer to, their parts included, sorted by id."""
    open_ids = [name for host in hosts for name in (*host.links.values(), *host.debs, *host.asked)]
    used: dict[str, Artefact] = {}
    while open_ids:
        artefact = artefacts[open_ids.pop()]
        if artefact.id not in used:
            used[artefact.id] = artefact
            open_ids.extend(artefact.parts)
    return tuple(used[name] for name in sorted(used))


def _is_for(deb: Artefact, snapshot: HostSnapshot) -> bool:
    architecture = deb.filename.removesuffix(".deb").rsplit("_", 1)[-1]
    suits = architecture in {"all", DEB_ARCHITECTURES.get(snapshot.arch)}
    return suits and deb.source.startswith(f"apt:{snapshot.os.codename} ")
