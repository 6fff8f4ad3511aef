"""Images of a registry by digest: a tag is resolved once, then manifest, configuration and layers lie in the store.

What is spoken is the registries' own interface (OCI distribution specification 1.1, "Pulling manifests" and "Pulling
blobs"). ``AGENTRIG_IMAGES`` names a mirror; without it the registry is the one in the image's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import LockError, UsageError
from orchestrator.lock.arriving import watched
from orchestrator.lock.keys import image_key
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import requests

    from orchestrator.lock.store import Store

#: Address of a registry that is asked instead of the one in an image's name.
MIRROR = "AGENTRIG_IMAGES"
#: Machine -> its name in an image index (GOARCH, OCI image specification, "Image Index").
PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64"}
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
#: Longest manifest, in bytes (OCI distribution specification, "Pushing manifests": registries take 4 MiB).
MOST_MANIFEST = 4 << 20
PATIENCE_S = (5.0, 30.0)
_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: A registry's host, a path, and a tag or a digest (OCI distribution specification, "Pulling manifests").
_NAME = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<path>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class Named(NamedTuple):
    """An image's name in its parts."""

    host: str
    path: str
    reference: str

    @property
    def text(self) -> str:
        """Give it whole."""
        return f"{self.host}/{self.path}{'@' if ':' in self.reference else ':'}{self.reference}"


class Blob(NamedTuple):
    """One piece of an image: its digest (``sha256:…``) and size in bytes."""

    digest: str
    bytes: int


def named(text: str) -> Named:
    """Read an image's name; without tag and digest it is ``latest``. Pure; raises UsageError."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} names no image", do="write it as REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:…")
    return Named(match["host"], match["path"], match["digest"] or match["tag"] or "latest")


def resolve_image(text: str, arch: str, store: Store) -> Resolved:
    """Give an image by the digest of its manifest for a machine; its parts are configuration and layers.

    The manifest is put into the store, the parts are not. Raises UsageError, LockError.
    """
    image = named(text)
    with _session() as session:
        content = _manifest(session, image, image.reference)
        document = _read(content, image)
        if document.get("mediaType") in INDEXES or "manifests" in document:
            chosen = for_machine(document, arch, image)
            content = _manifest(session, image, chosen.digest)
            document = _read(content, image)
    config, layers = pieces(document, image)
    digest = _put(content, store, image)
    parts = tuple(_part(image, one, "config" if one is config else "layer") for one in dict.fromkeys((config, *layers)))
    manifest = Artefact(
        kind="file",
        name=f"{image.path}/manifest",
        version=image.reference,
        digest=digest,
        bytes=len(content),
        source=f"image:{image.host}/{image.path}@{digest}",
        filename="manifest.json",
    )
    top = Artefact(
        kind="image",
        name=image.path,
        version=image.reference,
        digest=image_key(digest, [part.digest or "" for part in parts]),
        bytes=sum(part.bytes or 0 for part in (manifest, *parts)),
        source=f"image:{image.text} for {arch}",
        parts=tuple(sorted(one.id for one in (manifest, *parts))),
    )
    return Resolved(top, (manifest, *parts))


def fetch_images(parts: Sequence[Artefact], store: Store) -> None:
    """Put an image's manifest, configuration and layers into the store by their digests; raises LockError by name."""
    missing = [one for one in parts if one.source.startswith("image:") and one.digest and not store.has(one.digest)]
    total, before = sum(one.bytes or 0 for one in missing) or None, 0
    with _session() as session:
        for one in missing:
            image = named(one.source.removeprefix("image:"))
            what = "manifests" if one.filename == "manifest.json" else "blobs"
            with store.workroom() as room, watched(room, one.bytes, before=before, total=total):
                fetched = room / "blob"
                with (
                    _asked(session, image, what, str(one.digest)) as answer,
                    store.told(one.name),
                    fetched.open("wb") as file,
                ):
                    for chunk in answer.iter_content(_CHUNK):
                        file.write(chunk)
                store.add_file(fetched, one.digest, name=f"{one.name} of {image.path}", move=True)
            before += one.bytes or 0


def still_there(images: Sequence[Artefact]) -> list[str]:
    """Give a sentence for each manifest that its registry no longer has; no layer is fetched."""
    lost = []
    for one in images:
        image = named(one.source.removeprefix("image:"))
        try:
            with _session() as session:
                _manifest(session, image, str(one.digest))
        except LockError as error:
            lost.append(f"{one.name} {one.version}: {error.what}")
    return lost


def for_machine(index: dict[str, Any], arch: str, image: Named) -> Blob:
    """Give the manifest that an index has for a machine. Pure; raises LockError."""
    for one in index.get("manifests", []):
        platform = one.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", PLATFORMS.get(arch)):
            return _blob(one, image)
    raise LockError(f"{image.text} is not made for {arch}", where="images")


def pieces(manifest: dict[str, Any], image: Named) -> tuple[Blob, tuple[Blob, ...]]:
    """Give configuration and layers of a manifest. Pure; raises LockError for one of another form."""
    if manifest.get("schemaVersion") != 2 or not isinstance(manifest.get("layers"), list):  # noqa: PLR2004
        raise LockError(f"the manifest of {image.text} is of a form that is not known", where="images")
    return _blob(manifest.get("config") or {}, image), tuple(_blob(one, image) for one in manifest["layers"])


def _blob(one: dict[str, Any], image: Named) -> Blob:
    digest, size = str(one.get("digest")), one.get("size")
    if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise LockError(f"the manifest of {image.text} names a piece without a sha256 or a size", where="images")
    return Blob(digest, size)


def _part(image: Named, one: Blob, what: str) -> Artefact:
    return Artefact(
        kind="file",
        name=f"{image.path}/{what}-{one.digest.removeprefix('sha256:')[:12]}",
        version=image.reference,
        digest=one.digest,
        bytes=one.bytes,
        source=f"image:{image.host}/{image.path}@{one.digest}",
        filename=one.digest.removeprefix("sha256:"),
    )


def _manifest(session: requests.Session, image: Named, reference: str) -> bytes:
    """Give a manifest's bytes; one that was asked for by digest must be it."""
    with _asked(session, image, "manifests", reference) as answer:
        content = answer.raw.read(MOST_MANIFEST + 1, decode_content=True)
    if len(content) > MOST_MANIFEST:
        raise LockError(f"the manifest of {image.text} is larger than any may be", where="images")
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if ":" in reference and found != reference:
        raise LockError(f"the manifest of {image.text} is not {reference} but {found}", where="images")
    return bytes(content)


def _read(content: bytes, image: Named) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        document = json.loads(content)
        if isinstance(document, dict):
            return document
    raise LockError(f"the manifest of {image.text} is no JSON object", where="images")


def _put(content: bytes, store: Store, image: Named) -> str:
    with store.workroom() as room:
        path = room / "manifest"
        with store.told(image.text):
            path.write_bytes(content)
        return store.add_file(path, name=f"the manifest of {image.text}", move=True)


@contextlib.contextmanager
def _session() -> Iterator[requests.Session]:
    import requests  # noqa: PLC0415 - only a question to a registry should cost it

    with requests.Session() as session:
        session.headers["User-Agent"] = "agentrig"
        yield session


@contextlib.contextmanager
def _asked(session: requests.Session, image: Named, what: str, reference: str) -> Iterator[requests.Response]:
    """Give a registry's answer; what fails is told in a line without its address."""
    import requests  # noqa: PLC0415

    base = (os.environ.get(MIRROR) or f"https://{image.host}").rstrip("/")
    accept = ", ".join((*INDEXES, *MANIFESTS)) if what == "manifests" else "*/*"
    try:
        with session.get(
            f"{base}/v2/{image.path}/{what}/{reference}",
            headers={"Accept": accept, "Accept-Encoding": "identity"},
            stream=True,
            timeout=PATIENCE_S,
        ) as answer:
            answer.raise_for_status()
            yield answer
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        said = f"HTTP {status}" if status else f"not reached ({type(error).__name__})"
        raise LockError(
            f"the registry of {image.path} does not give {reference}: {said}",
            where="images",
            do=f"see the image's name, or set {MIRROR} to a mirror of the registry",
        ) from error
