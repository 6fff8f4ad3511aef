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

from orchestrator.errors import LockError
from orchestrator.lock.apt import resolve_debs
from orchestrator.lock.children import ends_with_us
from orchestrator.lock.keys import image_key
from orchestrator.lock.wanted import DEB_ARCHITECTURES
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact
from orchestrator.nouns import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence
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


def resolve_built(name: str, system: HostSnapshot, packages: Sequence[str], store: Store) -> Resolved:
    """Give an image of a system with some packages, and the .debs it is built from, by digest; fetches nothing.

    Of ``system`` its release, architecture and archives count; it is taken for empty. Its key is known before it is
    built: what is asked for and the digests of its parts. Raises LockError.
    """
    empty = system.model_copy(update={"name": name, "packages": ()})
    debs = resolve_debs(empty, [ESSENTIAL, *packages], store).debs
    codename, asked = system.os.codename, " ".join(packages)
    recipe = digest_of({"suite": codename, "arch": system.arch, "packages": sorted(packages), "epoch": EPOCH})
    top = Artefact(
        kind="image",
        name=name,
        version=codename,
        digest=image_key(recipe, [deb.digest or "" for deb in debs]),
        source=f"mmdebstrap:{codename} {DEB_ARCHITECTURES[system.arch]} {asked}".rstrip(),
        parts=tuple(sorted(deb.id for deb in debs)),
    )
    return Resolved(top, debs)


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
        archive = _archive(image.parts, codename, store, room)
        tarball = room / "image.tar"
        names = ",".join(deb.name for deb in image.parts)
        # The packages are the store's own, each held against the lock above: no archive's signature is behind them.
        source = f"deb [trusted=yes] copy://{archive} ./"
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
