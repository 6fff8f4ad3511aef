"""Whether a lock still resolves: the registries are asked for the same versions and bytes; nothing is fetched."""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.errors import LockError
from orchestrator.lock import apt, hub, npm, own, releases, wheels
from orchestrator.lock.wanted import DEB_ARCHITECTURES, Target
from orchestrator.lockfile import BUILT_KINDS
from orchestrator.progress import Event
from orchestrator.snapshot import HostSnapshot, OperatingSystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.lock.store import Store
    from orchestrator.lockfile import Artefact, Lock
    from orchestrator.progress import Progress

#: Kinds of artefacts as people call one.
KINDS = {"deb": "apt package", "npm": "npm package", "binary": "release binary"}


def check(
    lock: Lock, store: Store, progress: Progress, *, snapshots: Mapping[str, HostSnapshot] | None = None
) -> tuple[str, ...]:
    """Give a sentence for each artefact that its source no longer has as it is locked; empty where all resolves.

    ``snapshots`` say which archives a host uses; without one, those of this machine are asked.
    """
    lost: list[str] = []
    for host in sorted(lock.hosts):
        used = lock.artefacts_of(host)
        progress(Event("lock", f"asking the registries for {', '.join(words(asked(used)))}", host))
        target = next((Target.read(one.source) for one in used if one.kind == "venv"), None)
        lost += [f"{one.name} {one.version}: not resolved, {one.why}" for one in used if one.digest is None]
        if target:
            lost += _wheels([one for one in used if one.kind == "wheel"], target, store)
            lost += _members([one for one in used if one.member_of], target, store)
        lost += npm.still_there([one for one in used if one.kind == "npm"], store)
        lost += _hub(one for one in used if one.source.startswith("hub:"))
        lost += releases.still_there(one for one in used if one.kind == "binary" and one.digest)
        debs = [one for one in used if one.kind == "deb"]
        if debs:
            driver = lock.hosts[host].applied.driver
            snapshot = (snapshots or {}).get(host) or _stand_in(host, debs, target)
            lost += _debs(debs, snapshot, store, driver.components if driver else ())
    return tuple(lost)


def asked(artefacts: Iterable[Artefact]) -> dict[str, int]:
    """Give how many artefacts of each kind a registry is asked for: all but trees, which are built from them. Pure."""
    return dict(sorted(Counter(one.kind for one in artefacts if one.kind not in BUILT_KINDS).items()))


def words(counted: Mapping[str, int]) -> list[str]:
    """Give counts as people read them (``3 wheels``). Pure."""
    return [f"{count} {KINDS.get(kind, kind)}{'s' if count != 1 else ''}" for kind, count in counted.items()]


def another_agentrig(lock: Lock) -> str | None:
    """Give a sentence where a lock was made with another agentrig than this one; None where it does not say."""
    if lock.agentrig_digest in {None, own.own_digest()}:
        return None
    now = f"agentrig {__version__}, {own.own_digest()[:19]}"
    return f"the lock was made with agentrig {lock.agentrig}, {str(lock.agentrig_digest)[:19]}; this is {now}"


def _wheels(found: Sequence[Artefact], target: Target, store: Store) -> list[str]:
    try:
        if found:
            wheels.still_there(found, target, store)
    except LockError:
        return [sentence for one in found if (sentence := _wheel(one, target, store))]
    return []


def _wheel(one: Artefact, target: Target, store: Store) -> str | None:
    try:
        wheels.still_there([one], target, store)
    except LockError as error:
        return f"{one.name} {one.version}: {error.what}"
    return None


def _members(found: Iterable[Artefact], target: Target, store: Store) -> list[str]:
    """Ask for the wheel that carries a file; its digest is the file's, so the wheel's own is not compared."""
    lost = []
    for one in found:
        try:
            wheels.resolve_wheels([str(one.member_of)], target, store, alone=True)
        except LockError as error:
            lost.append(f"{one.name} {one.version}: {error.what}")
    return lost


def _hub(found: Iterable[Artefact]) -> list[str]:
    lost, listings = [], {}
    for one in found:
        repository, commit, path = hub.parted(one.source)
        try:
            if (repository, commit) not in listings:
                listings[repository, commit] = {each.path: each for each in hub.list_files(repository, commit)[1]}
        except hub.HubSilent as silent:
            lost.append(f"{one.name}: {silent}")
            continue
        there = listings[repository, commit].get(path)
        if there is None or (there.sha256 and f"sha256:{there.sha256}" != one.digest):
            lost.append(f"{one.name}: the hub no longer has these bytes at {commit[:12]}")
    return lost


def _debs(debs: Sequence[Artefact], snapshot: HostSnapshot, store: Store, components: Iterable[str]) -> list[str]:
    try:
        return list(apt.debs_still_there(debs, snapshot, store, components))
    except LockError as error:
        return [f"apt packages of {snapshot.name}: {error.what}"]


def _stand_in(host: str, debs: Sequence[Artefact], target: Target | None) -> HostSnapshot:
    """Give as much of a host as its lock says: suite and architecture. Used where no snapshot was given."""
    codename = debs[0].source.removeprefix("apt:").split(" ")[0]
    names = {deb.filename.removesuffix(".deb").rsplit("_", 1)[-1] for deb in debs}
    arch = next((arch for arch, name in DEB_ARCHITECTURES.items() if name in names), None)
    try:
        here = platform.freedesktop_os_release().get("ID", "debian")
    except OSError:
        here = "debian"
    return HostSnapshot(
        name=host,
        os=OperatingSystem(id=here, codename=codename, pretty=codename),
        arch=arch or (target.arch if target else platform.machine()),
        cpus=1,
        ram_mib=1,
    )
