"""Weights that already lie on this machine: found by sha256 where others keep theirs, and copied instead of fetched.

A name is where to look and no proof: the bytes are hashed on the way into the store. What is found stays its owner's;
nothing of it is moved, linked to or changed, since its owner may write into it whenever he likes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from orchestrator.lock.store import Store
    from orchestrator.lockfile import Artefact

#: Smaller files are fetched in no time; looking for them is not worth it. In bytes.
LEAST_BYTES = 1 << 20
#: Where Ollama's own service keeps its files (its installer's user ``ollama``; docs/faq of Ollama).
OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")


class Place(NamedTuple):
    """A folder that others keep weights in: its owner's name, and a glob with ``{digest}`` for one file of it."""

    folder: Path
    title: str
    glob: str

    def files(self, digest: str) -> Iterator[Path]:
        """Give what there bears the name of a sha256 (64 hex digits)."""
        with contextlib.suppress(OSError):
            yield from sorted(self.folder.glob(self.glob.format(digest=digest)))


def places(environment: Mapping[str, str], homes: Iterable[Path]) -> tuple[Place, ...]:
    """Give where to look, the environment's own first. Pure.

    The hub's cache names files of LFS by their sha256, and Ollama all of its (each one's documentation of its layout).
    """
    homes = tuple(homes)
    hubs = [Path(environment["HF_HUB_CACHE"])] if environment.get("HF_HUB_CACHE") else []
    hubs += [Path(environment["HF_HOME"]) / "hub"] if environment.get("HF_HOME") else []
    caches = [Path(environment["XDG_CACHE_HOME"])] if environment.get("XDG_CACHE_HOME") else []
    hubs += [cache / "huggingface/hub" for cache in (*caches, *(home / ".cache" for home in homes))]
    models = [Path(environment["OLLAMA_MODELS"])] if environment.get("OLLAMA_MODELS") else []
    models += [*(home / ".ollama/models" for home in homes), OLLAMA_SERVICE]
    found = [Place(folder, "the Hugging Face cache", "*--*/blobs/{digest}") for folder in hubs]
    found += [Place(folder, "Ollama's files", "blobs/sha256-{digest}") for folder in models]
    return tuple(dict.fromkeys(found))


def here() -> tuple[Place, ...]:
    """Give where to look on this machine: under sudo also in the caller's own home."""
    homes = [Path.home()]
    if os.geteuid() == 0 and (caller := os.environ.get("SUDO_UID", "")).isdecimal():
        with contextlib.suppress(KeyError):
            homes.append(Path(pwd.getpwuid(int(caller)).pw_dir))
    return places(os.environ, homes)


def adopt(
    artefacts: Iterable[Artefact], store: Store, tell: Callable[[str], None], where: Sequence[Place] | None = None
) -> int:
    """Copy into the store what already lies on this machine; give how many bytes need not be fetched."""
    looked = here() if where is None else where
    files = [one for one in artefacts if one.kind == "file" and one.digest and not store.has(one.digest)]
    return sum(
        adopt_one(one.key, one.name, store, tell, looked, one.bytes)
        for one in files
        if one.bytes is None or one.bytes >= LEAST_BYTES
    )


def adopt_one(  # noqa: PLR0913, PLR0917 - one file, where to look for it, and where it goes
    digest: str,
    name: str,
    store: Store,
    tell: Callable[[str], None],
    where: Sequence[Place] | None = None,
    size: int | None = None,
) -> int:
    """Copy one file into the store where somebody's folder has it; give its size in bytes, 0 where none has."""
    for place in here() if where is None else where:
        for path in place.files(digest):
            if not _usable(path, size):
                continue
            try:
                store.add_file(path, digest, name=name)
            except LockError as error:
                tell(f"{name} from {place.title} was not taken: {error.what}")
                continue
            found = store.path(digest).stat().st_size
            tell(f"adopted {name} from {place.title}, {_readable(found)} not fetched")
            return found
    return 0


def _readable(size: int) -> str:
    return f"{size >> 20} MiB" if size < 1 << 30 else f"{size / (1 << 30):.1f} GiB"


def _usable(path: Path, size: int | None) -> bool:
    try:
        about = path.stat()
    except OSError:
        return False
    return path.is_file() and os.access(path, os.R_OK) and size in (None, about.st_size)
