"""Images of our own: a root file system out of locked .debs and nothing else, the same bytes every time.

mmdebstrap installs from a folder of the store's own packages; no archive is asked. What comes out is a tarball that
``docker import`` takes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestrator.errors import LockError
from orchestrator.lock.apt import resolve_debs
from orchestrator.lock.children import ends_with_us
from orchestrator.lock.keys import image_key
from orchestrator.lock.wanted import DEB_ARCHITECTURES
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact
from orchestrator.nouns import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orchestrator.lock.store import Store
    from orchestrator.snapshot import HostSnapshot

#: Time of every file that would else bear the build's own, in seconds since 1970: 2026-01-01
#: (SOURCE_DATE_EPOCH, reproducible-builds.org's specification, which mmdebstrap keeps to).
EPOCH = 1767225600
#: The same time as an archive writes it.
_DATE = "Thu, 01 Jan 2026 00:00:00 UTC"
#: What every Debian has: packages that are marked as essential (apt-patterns(7)).
ESSENTIAL = "?essential"
#: The built file system's name, as it lies on a host.
TARBALL = "image.tar"


def source_of(system: HostSnapshot, packages: Sequence[str]) -> str:
    """Give what the lock calls the request for an image: equal while the same is asked for. Pure."""
    asked = " ".join(sorted(packages))
    return f"mmdebstrap:{system.os.codename} {DEB_ARCHITECTURES.get(system.arch, system.arch)} {asked}".rstrip()


def resolve_built(
    name: str, system: HostSnapshot, packages: Sequence[str], store: Store, held: Mapping[str, str] | None = None
) -> Resolved:
    """Give an image of a system with some packages, and the .debs it is built from, by digest; fetches nothing.

    Of ``system`` its release, architecture and archives count; it is taken for empty. Its key is known before it is
    built: what is asked for and the digests of its parts. ``held`` are packages (name -> version) that do not move.
    Raises LockError.
    """
    empty = system.model_copy(update={"name": name, "packages": ()})
    debs = resolve_debs(empty, [ESSENTIAL, *packages], store, held=held).debs
    codename = system.os.codename
    recipe = digest_of({"suite": codename, "arch": system.arch, "packages": sorted(packages), "epoch": EPOCH})
    top = Artefact(
        kind="image",
        name=name,
        version=codename,
        digest=image_key(recipe, [deb.digest or "" for deb in debs]),
        source=source_of(system, packages),
        parts=tuple(sorted(deb.id for deb in debs)),
    )
    return Resolved(top, debs)


def debs_of(image: Resolved) -> tuple[Artefact, ...]:
    """Give the .debs that an image is built from."""
    return tuple(part for part in image.parts if part.kind == "deb")


def with_tarball(image: Resolved, store: Store) -> Resolved:
    """Give an image with its built tarball among its parts, which lies in the store then; built where it is lacking.

    One that the lock has already must come out with the same bytes. Raises LockError.
    """
    locked = next((part for part in image.parts if part.kind == "file"), None)
    digest = locked.digest if locked else store.built(str(image.top.digest))
    if digest is None or not store.has(digest):
        made = build_image(image, store)
        store.note_built(str(image.top.digest), made)
        if locked and made != locked.digest:
            raise LockError(
                f"built again, it has other bytes than were locked: {made[:19]} instead of {str(locked.digest)[:19]}",
                where=f"image {image.top.name}",
                do=f"take the mmdebstrap that built it, or a bundle; or run deploy lock --upgrade {image.top.name}",
            )
        digest = made
    if locked:
        return image
    size = store.path(digest).stat().st_size
    tarball = Artefact(
        kind="file",
        name=f"{image.top.name}-tarball",
        version=image.top.version,
        digest=digest,
        bytes=size,
        source=f"built:{image.top.key}",
        filename=TARBALL,
    )
    parts = (*image.parts, tarball)
    ids = tuple(sorted(part.id for part in parts))
    return Resolved(image.top.model_copy(update={"parts": ids, "bytes": size}), parts)


def build_image(image: Resolved, store: Store) -> str:
    """Build an image from its .debs, which must lie in the store; give the digest of its tarball, which lies there too.

    Raises LockError where mmdebstrap is missing or fails; each .deb is held against its digest first.
    """
    if shutil.which("mmdebstrap") is None:
        raise LockError(
            "this machine has no mmdebstrap, and images are built with it",
            where=f"image {image.top.name}",
            do="install the package mmdebstrap",
        )
    with store.workroom() as room:
        codename, architecture = image.top.source.removeprefix("mmdebstrap:").split(" ")[:2]
        debs = debs_of(image)
        archive = _archive(debs, codename, store, room)
        tarball = room / "image.tar"
        names = ",".join(deb.name for deb in debs)
        # The packages are the store's own, each held against the lock above: no archive's signature is behind them.
        source = f"deb [trusted=yes] copy://{quote(str(archive))} ./"
        kind = [f"--architectures={architecture}", "--variant=essential", f"--include={names}", "--format=tar"]
        # Where the packages lay is this build's own affair.
        kind += ['--customize-hook=: > "$1/etc/apt/sources.list"']
        _run([*ends_with_us(), "mmdebstrap", "--quiet", *kind, codename, str(tarball), source], image.top.name, room)
        return store.add_file(tarball, name=f"image {image.top.name}", move=True)


def _archive(debs: Sequence[Artefact], codename: str, store: Store, room: Path) -> Path:
    """Make a folder that apt reads as an archive of a release: the packages under their names and a list of them."""
    archive = room / "archive"
    archive.mkdir()
    paragraphs = []
    for deb in debs:
        store.verify(str(deb.digest), name=f"{deb.name} {deb.version}")
        path = archive / f"{deb.name}_{deb.key[:16]}.deb"
        path.hardlink_to(store.path(str(deb.digest)))
        control = _run(["dpkg-deb", "--field", str(path)], deb.name, room).rstrip("\n")
        size = path.stat().st_size
        paragraphs.append(f"{control}\nFilename: ./{path.name}\nSize: {size}\nSHA256: {deb.key}\n")
    listed = "\n".join(paragraphs).encode()
    (archive / "Packages").write_bytes(listed)
    # mmdebstrap looks for essential packages in the archive that bears the release's name.
    about = f"Suite: {codename}\nCodename: {codename}\nDate: {_DATE}\nSHA256:\n"
    (archive / "Release").write_text(f"{about} {hashlib.sha256(listed).hexdigest()} {len(listed)} Packages\n")
    return archive


def _run(command: Sequence[str], what: str, room: Path) -> str:
    """Run a command and give what it prints; raises LockError with its last words."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8", "TMPDIR": str(room)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise LockError(said[-1] if said else f"ended with {done.returncode}", where=f"image {what}")
    return done.stdout
