"""A bundle: the part of the store that a lock names, listed file by file under the owner's signature. Pure.

::

    deploy.lock  deploy.lock.sig         the lock as it stands beside the inventory
    bundle.json  bundle.json.sig         every file: path, sha256, bytes, the artefact's name
    store/sha256/<2 hex>/<64 hex>        the artefacts
    agentrig/*.whl, requirements.txt     the command itself, for a control machine that has no registry either
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from orchestrator.errors import LockError, UsageError
from orchestrator.lockfile import BUILT_KINDS
from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.lockfile import Artefact, Lock

LOCK, LOCK_SIGNATURE = "deploy.lock", "deploy.lock.sig"
INDEX, INDEX_SIGNATURE = "bundle.json", "bundle.json.sig"
STORE, COMMAND = "store", "agentrig"
REQUIREMENTS = f"{COMMAND}/requirements.txt"
#: Paths that an index may hold; none of them leads out of the bundle, or to a file that is not its own.
_PATHS = re.compile(
    rf"{re.escape(LOCK)}|{re.escape(LOCK_SIGNATURE)}|{COMMAND}/[A-Za-z0-9_][A-Za-z0-9_.+!-]*"
    rf"|{STORE}/sha256/(?P<head>[0-9a-f]{{2}})/(?P<digest>(?P=head)[0-9a-f]{{62}})"
)
_AGAIN = "make it again on the machine that locked: deploy bundle create"
#: What one is told to do about a file that is not what was signed.
CARRY_AGAIN = "carry the bundle over again, or make it anew: deploy bundle create writes only what is not whole"


class BundleFile(Noun):
    """One file. ``name`` is what a person calls it: an artefact's name and version."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    name: str


class Command(Noun):
    """The command that travels along: its version, and the interpreter that its wheels are for (``3.11``)."""

    version: str
    python: str
    arch: str
    glibc: str


class Index(Noun):
    """What a bundle holds; ``lock`` is the digest of its lock. Signed, it vouches for every byte of it."""

    version: Literal[1] = 1
    lock: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    #: None where the command could not be put in.
    command: Command | None = None
    files: tuple[BundleFile, ...]

    @property
    def digest(self) -> str:
        """Give ``sha256:`` and the digest of the canonical form."""
        return "sha256:" + self.fingerprint()

    @property
    def bytes(self) -> int:
        """Give the bytes of all files that are listed."""
        return sum(file.bytes for file in self.files)

    def by_path(self) -> dict[str, BundleFile]:
        """Give the files by their paths."""
        return {file.path: file for file in self.files}


class Blob(NamedTuple):
    """One blob that a lock names: 64 hex digits, and what a person calls it."""

    digest: str
    name: str

    @property
    def path(self) -> str:
        """Give where it lies in a bundle."""
        return f"{STORE}/sha256/{self.digest[:2]}/{self.digest}"


def called(artefact: Artefact) -> str:
    """Give what a person calls an artefact."""
    return f"{artefact.name} {artefact.version}"


def blobs_of(lock: Lock, hosts: Iterable[str] | None = None) -> tuple[Blob, ...]:
    """Give what hosts (all, where none are named) are built from, each blob once, sorted by digest.

    What is only asked for, where a rehearsal is applied, is not among it. Raises UsageError for an artefact that is
    not resolved: a bundle without it would build nothing.
    """
    names = lock.hosts if hosts is None else [name for name in hosts if name in lock.hosts]
    for artefact in lock.artefacts if hosts is None else ():
        if artefact.digest is None:
            raise UsageError(
                f"{called(artefact)} is not resolved, and no bundle can carry it: {artefact.why}",
                where=f"{artefact.kind} {artefact.name}",
                do="run deploy lock where its source is in reach",
            )
    found = {
        artefact.key: called(artefact)
        for name in names
        for artefact in lock.artefacts_of(name)
        if artefact.kind not in BUILT_KINDS and artefact.digest is not None
    }
    return tuple(Blob(digest, found[digest]) for digest in sorted(found))


def refuse_paths(index: Index, where: str) -> None:
    """Raise UsageError for a path that no bundle has, one that is listed twice, or a blob that is called otherwise."""
    seen: set[str] = set()
    for file in index.files:
        match = _PATHS.fullmatch(file.path)
        if match is None:
            raise UsageError(f"the index names {file.path!r}, where a bundle has no file", where=where, do=_AGAIN)
        if file.path in seen:
            raise UsageError(f"the index lists {file.path} twice", where=where, do=_AGAIN)
        if match["digest"] not in {None, file.sha256}:
            raise UsageError(
                f"the index gives {file.name} another sha256 than the name it lies under", where=where, do=_AGAIN
            )
        seen.add(file.path)


def refuse_other_lock(index: Index, lock: Lock, where: str) -> None:
    """Raise UsageError where index and lock are not of one another: the digest, and every blob that is named."""
    if index.lock != lock.lock_digest:
        raise UsageError("the index is that of another lock than the one beside it", where=where, do=_AGAIN)
    listed = {path: file.name for path, file in index.by_path().items() if path.startswith(f"{STORE}/")}
    named = {blob.path: blob.name for blob in blobs_of(lock)}
    for path, name in named.items():
        if path not in listed:
            raise UsageError(f"the lock names {name}, which the index does not list", where=where, do=_AGAIN)
    for path, name in listed.items():
        if path not in named:
            raise UsageError(f"the index lists {name}, which the lock does not name", where=where, do=_AGAIN)


def differences(index: Index, found: Mapping[str, int], where: str) -> None:
    """Compare the files that are there (path -> bytes) with the index; raises LockError that names the first fault."""
    listed = index.by_path()
    faults = [f"{file.name} is missing" for path, file in listed.items() if path not in found]
    faults += [
        f"{file.name} has {found[path]} bytes, {file.bytes} were signed"
        for path, file in listed.items()
        if path in found and found[path] != file.bytes
    ]
    faults += [f"{path} is in it, and nobody listed it" for path in sorted(found) if path not in listed]
    refuse(faults, where)


def refuse(faults: list[str], where: str) -> None:
    """Raise LockError where there are faults."""
    if faults:
        raise not_whole(faults, where)


def not_whole(faults: list[str], where: str) -> LockError:
    """Give the error for the first of some faults, which says how many more there are."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return LockError(f"the bundle is not whole: {faults[0]}{more}", where=where, do=CARRY_AGAIN)
