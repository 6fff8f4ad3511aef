"""The image that a host's sandboxes start from: of the host's own system, out of locked .debs, its tarball by digest.

A build gives the same bytes every time (``image_build``), so the lock names them: whoever has the .debs has the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import LockError
from orchestrator.lock.apt import fetch_debs
from orchestrator.lock.image_build import build_image, resolve_built
from orchestrator.lock.wanted import DEB_ARCHITECTURES
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.lock.store import Store
    from orchestrator.snapshot import HostSnapshot

NAME = "sandbox-image"
#: Where an image's tarball came from, before what it was built from.
BUILT = "built:"


def source_of(system: HostSnapshot, packages: Sequence[str]) -> str:
    """Give how the lock names the request: the same words as ``resolve_built`` writes. Pure; raises LockError."""
    architecture = DEB_ARCHITECTURES.get(system.arch)
    if architecture is None:
        raise LockError(f"images for {system.arch} are not built here", where=system.name)
    return f"mmdebstrap:{system.os.codename} {architecture} {' '.join(packages)}".rstrip()


def resolve_image(system: HostSnapshot, packages: Sequence[str], store: Store) -> Resolved:
    """Give the image with its .debs and its tarball, all of them in the store; raises LockError."""
    found = resolve_built(NAME, system, packages, store)
    fetch_debs(found.parts, system, store)
    digest = build_image(found, store)
    tarball = Artefact(
        kind="file",
        name=f"{NAME}/tarball",
        version=found.top.version,
        digest=digest,
        bytes=store.path(digest).stat().st_size,
        source=f"{BUILT}{found.top.source}",
        filename="image.tar",
    )
    parts = (*found.parts, tarball)
    top = found.top.model_copy(update={"bytes": tarball.bytes, "parts": tuple(sorted(one.id for one in parts))})
    return Resolved(top, parts)


def fetch_image(image: Resolved, system: HostSnapshot, store: Store) -> None:
    """Put what the store lacks of a locked image there; its tarball is built again and must be the locked bytes.

    Raises LockError that names what is other than it was locked.
    """
    debs = [one for one in image.parts if one.kind == "deb"]
    fetch_debs(debs, system, store)
    for tarball in (one for one in image.parts if one.source.startswith(BUILT)):
        if store.has(str(tarball.digest)):
            continue
        if (made := build_image(Resolved(image.top, tuple(debs)), store)) != tarball.digest:
            raise LockError(
                f"the image was built as {made[:19]}, and {str(tarball.digest)[:19]} is locked",
                where=f"{image.top.name} {image.top.version}",
                do="take the bundle that has it, or deploy lock --upgrade sandbox-image",
            )
