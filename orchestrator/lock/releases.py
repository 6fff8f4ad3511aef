"""Archives that a project releases itself: found in an index of releases, known by sha256.

The index has the form of GitHub's API (``GET /repos/{owner}/{name}/releases/tags/{tag}``); ``AGENTRIG_RELEASES`` names
a mirror of it, as ``HF_ENDPOINT`` does for the hub.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import CatalogError, LockError
from orchestrator.lock.arriving import watched
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from orchestrator.catalog.rows import AgentRow, Device, ReleaseAsset, RuntimeRow
    from orchestrator.lock.store import Store
    from orchestrator.lock.wanted import Target

#: Names the index's address.
MIRROR = "AGENTRIG_RELEASES"
#: GitHub's REST API (its documentation, "Get a release by tag name").
INDEX = "https://api.github.com"
#: Seconds for a connection, and between two pieces of an answer.
PATIENCE_S = (5.0, 30.0)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20
#: Why an artefact with a digest has a ``why``: nobody but the bytes vouched for it.
COMPUTED = "the index gives no digest: this is the sha256 of the bytes as they were fetched"


class Listed(NamedTuple):
    """One asset of a release as the index has it."""

    name: str
    url: str
    bytes: int
    digest: str | None


class IndexSilent(Exception):  # noqa: N818 - an answer of the world, told in a lock's ``why``
    """The index did not give what was asked; the sentence says why."""


def asset_of(row: RuntimeRow | AgentRow, target: Target, device: Device) -> ReleaseAsset | None:
    """Give the archive for a machine, None where the catalog names none. Pure."""
    release = getattr(row.install, "release", None)
    assets: Sequence[ReleaseAsset] = release.assets if release else ()
    return next((one for one in assets if (one.arch, one.device) == (target.arch, device)), None)


def source_of(row: RuntimeRow, target: Target, device: Device) -> str:
    """Give what the lock calls the request for an archive: equal while catalog and host ask for the same. Pure."""
    asset = asset_of(row, target, device)
    if row.install.release is None or asset is None:
        return f"catalog:{row.name} {row.version} for {target.arch} {device}"
    return f"release:{row.install.release.repository}@{row.version}/{asset.name.format(version=row.version)}"


def resolve_release(row: RuntimeRow, target: Target, device: Device, store: Store) -> Resolved:
    """Give a runtime's archive by digest; where the index gives none it is fetched to know it, and ``why`` says so.

    An index out of reach, or a release that lacks the archive, makes an artefact without a digest. Raises LockError
    for bytes that are not the index's own.
    """
    source = source_of(row, target, device)
    if not source.startswith("release:"):
        return Resolved(_artefact(row, source, why=f"{row.title} has no archive for {target.arch} with {device}"))
    try:
        listed = _listed(source)
    except IndexSilent as silent:
        return Resolved(_artefact(row, source, why=str(silent)))
    digest, why = listed.digest, None
    if digest is None:
        digest, why = _fetch(listed, None, store, source), COMPUTED
    return Resolved(_artefact(row, source, listed, digest, why))


def fetch_releases(archives: Iterable[Artefact], store: Store) -> None:
    """Put archives into the store by their locked digests. Raises LockError that names the archive."""
    for one in archives:
        if one.kind == "binary" and one.digest and not store.has(one.digest):
            try:
                listed = _listed(one.source)
            except IndexSilent as silent:
                raise LockError(
                    f"{one.filename} was not fetched: {silent}", where=one.source, do="run deploy lock again"
                ) from silent
            _fetch(listed, one.digest, store, one.source)


def still_there(archives: Iterable[Artefact]) -> list[str]:
    """Give a sentence for each archive that the index no longer has with its digest; nothing is fetched."""
    lost = []
    for one in archives:
        try:
            found = _listed(one.source)
        except IndexSilent as silent:
            lost.append(f"{one.name} {one.version}: {silent}")
            continue
        if found.digest not in {None, one.digest} or found.bytes != one.bytes:
            lost.append(f"{one.name} {one.version}: the release has other bytes under this tag")
    return lost


def parted(source: str) -> tuple[str, str, str]:
    """Give repository, tag and asset of ``release:owner/name@tag/asset``. Pure; raises CatalogError."""
    match = re.fullmatch(r"release:([^@]+)@([^/]+)/([^/]+)", source)
    if match is None:
        raise CatalogError(f"{source} names no archive of a release", where="catalog/runtimes.yml")
    return match[1], match[2], match[3]


def read_release(document: Any, name: str) -> Listed:
    """Give one asset of a release as the index describes it. Pure; raises IndexSilent."""
    assets = document.get("assets") if isinstance(document, dict) else None
    if not isinstance(assets, list):
        raise IndexSilent("the index of releases gives no list of archives")
    for one in assets:
        if isinstance(one, dict) and one.get("name") == name:
            url, size, digest = one.get("browser_download_url"), one.get("size"), one.get("digest")
            if not isinstance(url, str) or not isinstance(size, int):
                raise IndexSilent(f"the index of releases does not say where {name} is, or how large")
            if digest is not None and not _DIGEST.fullmatch(str(digest)):
                raise IndexSilent(f"the index of releases gives {name} a digest that is no sha256")
            return Listed(name, url, size, digest)
    raise IndexSilent(f"the release has no archive {name}")


def _listed(source: str) -> Listed:
    import requests  # noqa: PLC0415 - only a question to the index should cost it

    repository, tag, name = parted(source)
    base = (os.environ.get(MIRROR) or INDEX).rstrip("/")
    try:
        answer = requests.get(
            f"{base}/repos/{repository}/releases/tags/{tag}",
            headers={"Accept": "application/vnd.github+json", "User-Agent": "agentrig"},
            timeout=PATIENCE_S,
        )
        if not answer.ok:
            raise IndexSilent(f"the index of releases does not tell of {repository} {tag}: HTTP {answer.status_code}")
        return read_release(answer.json(), name)
    except requests.RequestException as error:
        raise IndexSilent(f"the index of releases was not reached ({type(error).__name__})") from error


def _fetch(listed: Listed, digest: str | None, store: Store, source: str) -> str:
    """Fetch an archive into the store and give its digest; an answer of another length, or other bytes, is refused."""
    with store.workroom() as room, watched(room, listed.bytes):
        fetched = room / "archive"
        _download(listed, fetched, store, source)
        size = fetched.stat().st_size
        if size != listed.bytes:
            raise LockError(
                f"{listed.name} ended after {size} of {listed.bytes} bytes",
                where=source,
                do="nothing was kept; run deploy lock again",
            )
        return store.add_file(fetched, digest, name=listed.name, move=True)


def _download(listed: Listed, into: Path, store: Store, source: str) -> None:
    import requests  # noqa: PLC0415

    try:
        with requests.get(
            listed.url,
            headers={"User-Agent": "agentrig", "Accept-Encoding": "identity"},
            stream=True,
            timeout=PATIENCE_S,
        ) as answer:
            answer.raise_for_status()
            with store.told(listed.name), into.open("wb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        said = f"HTTP {status}" if status else type(error).__name__
        raise LockError(
            f"{listed.name} was not fetched: {said}", where=source, do="nothing was kept; run deploy lock again"
        ) from error


def _artefact(
    row: RuntimeRow, source: str, listed: Listed | None = None, digest: str | None = None, why: str | None = None
) -> Artefact:
    return Artefact(
        kind="binary",
        name=row.name,
        version=row.version,
        digest=digest,
        bytes=listed.bytes if listed else None,
        source=source,
        filename=listed.name if listed else "",
        why=why,
    )
