"""Whether a host can be built from a lock as it is, so that no registry is asked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import LockError
from orchestrator.lock import apt_parse
from orchestrator.lock.former import Former
from orchestrator.lock.image_build import source_of
from orchestrator.lock.wanted import Target, target_of, wanted
from orchestrator.rendered import SANDBOX_IMAGE

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.lock.wanted import Request
    from orchestrator.lockfile import Artefact, HostLock, Lock


def misfit(lock: Lock, host: str, request: Request, catalog: Catalog) -> str | None:
    """Say why a host cannot be built from what the lock has for it, or None where it can."""
    locked = lock.hosts.get(host)
    if locked is None:
        return f"the lock does not name {host}"
    asked = wanted(request.applied, request.packages, catalog, request.snapshot)
    packages = asked.packages
    if locked.packages != packages:
        other = sorted({*packages} ^ {*locked.packages})
        return f"this agentrig asks for other packages than were locked: {', '.join(other)}"
    present = {package.name for package in request.snapshot.packages}
    if lost := sorted({*locked.leans_on} - present):
        return f"the host lacks {', '.join(lost)}, on which the locked packages lean"
    if Former(lock, ()).closure(request.snapshot, packages) is None:
        return f"the locked packages are not for {request.snapshot.os.codename} on {request.snapshot.arch}"
    if asked.image and not _has_image(lock, locked, source_of(request.snapshot, asked.image)):
        return f"it asks for another image for the sandboxes than was locked: {' '.join(asked.image)}"
    return _other_interpreter(lock, locked, request)


def _has_image(lock: Lock, locked: HostLock, source: str) -> bool:
    image = lock.by_id().get(locked.links.get(SANDBOX_IMAGE, ""))
    return image is not None and image.source == source


def _other_interpreter(lock: Lock, locked: HostLock, request: Request) -> str | None:
    """Say where the host's interpreter is not the one that its trees are for."""
    snapshot, known = request.snapshot, lock.by_id()
    installed = {package.name: package.version for package in snapshot.packages}
    installed |= {known[name].name: known[name].version for name in locked.debs}
    now = apt_parse.interpreter(installed, snapshot.python.version if snapshot.python else None)
    for artefact in (known[name] for name in locked.links.values()):
        target = _target(artefact)
        if target and (now is None or target != target_of(snapshot, now)):
            return f"{artefact.name} is locked for {target}, and the host has Python {now or 'not at all'}"
    return None


def _target(artefact: Artefact) -> Target | None:
    try:
        return Target.read(artefact.source) if artefact.kind == "venv" else None
    except LockError:
        return None
