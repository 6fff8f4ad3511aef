"""The hub of weights: the one door to huggingface_hub. What it says is read; what it does not say is not guessed."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LockError
from orchestrator.lock import hub_token
from orchestrator.lock.arriving import watched
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from huggingface_hub import HfApi

    from orchestrator.lock.store import Store

#: Seconds that the hub has for an answer, unless ``HF_HUB_ETAG_TIMEOUT`` says otherwise.
PATIENCE_S = 5.0
#: Files under this size (in bytes) that the hub lists without a sha256 are read, to know it.
SMALL = 64 << 20
#: What runtimes read beside weights in safetensors: configuration, tokenizer, chat template.
COMPANIONS = ("*.json", "*.jinja", "*.model", "*.txt")


class HubSilent(Exception):  # noqa: N818 - an answer of the world, told in a lock's ``why``
    """The hub did not give what was asked; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a repository: size in bytes, sha256 where the hub says it, git's blob id."""

    path: str
    bytes: int
    sha256: str | None
    blob_id: str


def patterns(members: Iterable[str]) -> tuple[str, ...]:
    """Give the globs of an llm's files, companions of safetensors among them. Pure."""
    named = tuple(members)
    return (*named, *COMPANIONS) if any(one.endswith(".safetensors") for one in named) else named


def chosen(files: Iterable[Listed], globs: Sequence[str]) -> tuple[Listed, ...]:
    """Give the files that the globs mean, by path; files in folders only where a glob names one. Pure."""
    return tuple(
        sorted(
            (
                one
                for one in files
                if any(one.path.count("/") == glob.count("/") and fnmatch.fnmatchcase(one.path, glob) for glob in globs)
            ),
            key=lambda one: one.path,
        )
    )


def list_files(repository: str, revision: str = "main") -> tuple[str, tuple[Listed, ...]]:
    """Give a repository's revision (40 digits) and all its files at it. Raises HubSilent."""
    asked = api()
    try:
        commit = asked.model_info(repository, revision=revision, timeout=PATIENCE_S).sha
        if not commit:
            raise HubSilent(f"the hub names no revision of {repository}")  # noqa: TRY301 - the same outcome
        tree = [
            one for one in asked.list_repo_tree(repository, revision=commit, recursive=True) if hasattr(one, "blob_id")
        ]
    except Exception as error:
        raise HubSilent(why(error, repository)) from error
    return commit, tuple(_listed(one) for one in tree)


def _listed(one: Any) -> Listed:
    return Listed(one.path, int(one.size), one.lfs.sha256 if one.lfs else None, one.blob_id)


def resolve_repository(
    name: str, repository: str, members: Sequence[str], store: Store, revision: str | None = None
) -> tuple[Artefact, ...]:
    """Give the files of an llm at today's revision, each by its sha256. Raises HubSilent.

    A small file that the hub lists without one (git keeps it, not LFS) is read into the store to know it.
    """
    commit, files = list_files(repository, revision or "main")
    found = chosen(files, patterns(members))
    for member in members:
        if not chosen(found, (member,)):
            raise HubSilent(f"{repository} has no {member} at {commit[:12]}")
    return tuple(_artefact(name, repository, commit, one, store) for one in found)


def _artefact(name: str, repository: str, commit: str, one: Listed, store: Store) -> Artefact:
    digest = one.sha256 or _read_small(repository, commit, one, store)
    return Artefact(
        kind="file",
        name=f"{name}/{one.path}",
        version=commit,
        digest=f"sha256:{digest.removeprefix('sha256:')}",
        bytes=one.bytes,
        source=f"hub:{repository}@{commit}/{one.path}",
        filename=one.path,
    )


def _read_small(repository: str, commit: str, one: Listed, store: Store) -> str:
    if one.bytes > SMALL:
        raise HubSilent(f"the hub gives no sha256 for {one.path} of {repository}")
    with store.workroom() as room:
        fetched = _download(repository, commit, one.path, room)
        content = fetched.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if blob != one.blob_id:
            raise LockError(f"{one.path} of {repository} has other bytes than the hub lists", where=f"hub:{repository}")
        return store.add_file(fetched, name=one.path, move=True)


def _reached(repository: str) -> None:
    """Raise HubSilent at once where the hub is out of reach: a download would try again for half a minute."""
    try:
        api().model_info(repository, revision="main", timeout=PATIENCE_S)
    except Exception as error:
        raise HubSilent(why(error, repository)) from error


def fetch_files(files: Iterable[Artefact], store: Store) -> None:
    """Put files of the hub into the store by their locked revisions and digests. Raises LockError naming the file.

    What was fetched of a large file is kept when the command is ended, and the next one goes on from there.
    """
    missing = [one for one in files if one.digest is not None and not store.has(one.digest)]
    total, before = sum(one.bytes or 0 for one in missing) or None, 0
    for one in missing:
        repository, commit, path = parted(one.source)
        room = store.root / "partial" / "hub" / one.key
        room.mkdir(parents=True, exist_ok=True)
        try:
            _reached(repository)
            with watched(room, one.bytes, before=before, total=total):
                fetched = _download(repository, commit, path, room)
            before += one.bytes or 0
        except HubSilent as error:
            raise LockError(
                f"{one.name} was not fetched: {error}", where=one.source, do=_remedy(error, repository)
            ) from error
        try:
            store.add_file(fetched, one.digest, name=one.name, move=True)
        finally:
            shutil.rmtree(room, ignore_errors=True)


def parted(source: str) -> tuple[str, str, str]:
    """Give repository, revision and path of ``hub:org/name@revision/path``. Pure."""
    repository, rest = source.removeprefix("hub:").split("@", 1)
    commit, path = rest.split("/", 1)
    return repository, commit, path


def api() -> HfApi:
    """Give the library's client for the hub, or for the mirror that ``HF_ENDPOINT`` names."""
    from huggingface_hub import HfApi  # noqa: PLC0415 - a second that only a question to the hub should cost

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=hub_token.token(), library_name="agentrig")


def page(repository: str) -> str:
    """Give the address of a repository's own page, where a licence is accepted; nothing of a login is in it."""
    from huggingface_hub import constants  # noqa: PLC0415

    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    scheme, _, rest = endpoint.rstrip("/").partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}/{repository}"


def _download(repository: str, commit: str, path: str, folder: Path) -> Path:
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()
    try:
        return Path(api().hf_hub_download(repository, path, revision=commit, local_dir=folder))
    except Exception as error:
        raise HubSilent(why(error, repository)) from error


def why(error: Exception, repository: str) -> str:
    """Give the reason of a failed question in a sentence; an error that is not the hub's is raised as it is."""
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, HubSilent):
        return str(error)
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the hub was not reached"
    reasons: tuple[tuple[type[Exception], str], ...] = (
        (errors.OfflineModeIsEnabled, "the hub was not asked: HF_HUB_OFFLINE is set"),
        (errors.GatedRepoError, _gated(repository)),
        (errors.RepositoryNotFoundError, f"the hub knows no {repository}, or it is private"),
        (errors.RevisionNotFoundError, f"{repository} has no such revision"),
        (errors.EntryNotFoundError, f"{repository} has no such file"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub refused to tell about {repository}: HTTP {error.response.status_code}"
    if _is_of_the_network(error):
        return f"the hub was not reached ({type(error).__name__})"
    raise error


def _remedy(silent: HubSilent, repository: str) -> str:
    """Say what to do about a file that the hub did not give."""
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(silent.__cause__, errors.GatedRepoError):
        return f"accept the licence at {page(repository)} and {hub_token.how()}; then run it again"
    return "run deploy lock again"


def _gated(repository: str) -> str:
    """Say of a gated repository what is missing: a token, or its owner's consent to the licence."""
    if hub_token.token() is None:
        return f"{repository} is gated: accept its licence on its page, then {hub_token.how()}"
    return f"{repository} is gated, and the token's owner has not been let in: accept its licence on its page"


def _is_of_the_network(error: Exception) -> bool:
    """Tell whether the library's HTTP client or the system failed on the way (both base classes of its own errors)."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    ways = tuple(kind for kind in HfHubHTTPError.__mro__ if kind.__module__.startswith(("httpx", "requests")))
    return isinstance(error, (OSError, *ways))
