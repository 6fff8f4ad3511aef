"""A small lock over real files, signed with a real key: what the tests of bundles begin with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.lock import Store, bundle_folder, bundle_writing, read_signed, write
from orchestrator.lock.bundle_command import Packed
from orchestrator.lock.bundle_folder import Opened
from orchestrator.lock.bundle_writing import Written
from orchestrator.lock.keys import venv_key
from orchestrator.lockfile import Artefact, HostLock, Lock
from orchestrator.progress import Progress, silent
from orchestrator.state import State
from tests.unit.lock_stand_ins import deployment

#: A blob of each kind that is carried, by its name in the lock.
CONTENTS: dict[str, bytes] = {
    "nginx": b"a package" * 900,
    "xllamacpp": b"a wheel" * 700,
    "opencode": b"a tarball" * 500,
    "smollm2": b"weights" * 9000,
}
KINDS: dict[str, Any] = {"nginx": "deb", "xllamacpp": "wheel", "opencode": "npm", "smollm2": "file"}


@dataclass(frozen=True)
class Bundler:
    """A control machine with a lock and a store that holds what the lock names."""

    state: State
    lock_file: Path

    @property
    def store(self) -> Store:
        return Store(self.state.store)

    def create(self, root: Path, packed: Packed | None = None, progress: Progress = silent) -> Written:
        signed = read_signed(self.lock_file, self.state.signers)
        assert signed is not None
        return bundle_writing.write(root, signed, self.store, packed, self.state.sign, progress)

    def opened(self, root: Path) -> Opened:
        return bundle_folder.opened(root, self.state.signers())

    def check(self, root: Path) -> None:
        bundle_folder.verify(self.opened(root), silent)

    def write(self, lock: Lock) -> None:
        write(self.lock_file, lock, self.state.sign)


def bundler(folder: Path, contents: dict[str, bytes] | None = None) -> Bundler:
    """Make one whose store holds these contents by name."""
    made = Bundler(State(folder / "state"), folder / "rig/deploy.lock")
    made.write(lock_of(contents or CONTENTS, made.store, folder))
    return made


def lock_of(contents: dict[str, bytes], store: Store, folder: Path) -> Lock:
    """Give a lock of one host over some contents, which are put into the store."""
    artefacts = [put(name, content, store, folder) for name, content in contents.items()]
    wheels = [one for one in artefacts if one.kind == "wheel"]
    venv = Artefact(
        kind="venv",
        name="runtime",
        version="1",
        digest=venv_key([str(one.digest) for one in wheels], "3.11.2", "x86_64"),
        source="venv:xllamacpp for python 3.11.2 x86_64 glibc 2.36",
        parts=tuple(one.id for one in wheels),
    )
    others = [one for one in artefacts if one.kind not in {"wheel", "deb"}]
    host = HostLock(
        profile_digest="p",
        hardware_digest="h",
        deployment=deployment("small", "Q4", "xllamacpp"),
        links={"runtime": venv.id, **{one.name: one.id for one in others}},
        debs=tuple(one.id for one in artefacts if one.kind == "deb"),
        packages=("nginx",),
        leans_on=("libc6",),
    )
    return Lock(agentrig="0", hosts={"one": host}, artefacts=tuple(sorted([venv, *artefacts], key=lambda one: one.id)))


def put(name: str, content: bytes, store: Store, folder: Path) -> Artefact:
    """Put a content into the store and give its artefact."""
    beside = folder / "beside"
    beside.write_bytes(content)
    digest = store.add_file(beside)
    kind = KINDS.get(name, "file")
    common: dict[str, Any] = {"kind": kind, "name": name, "version": "1.0", "digest": digest, "bytes": len(content)}
    if kind == "deb":
        return Artefact(**common, source=f"apt:bookworm {name}=1.0", filename=f"{name}_1.0_amd64.deb")
    return Artefact(**common, source=f"test:{name}")


def blob(root: Path, name: str) -> Path:
    """Give where a bundle has the blob of a name."""
    digest = hashlib.sha256(CONTENTS[name]).hexdigest()
    return root / "store/sha256" / digest[:2] / digest


def tree(root: Path) -> dict[str, bytes]:
    """Give all files of a folder with their bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
