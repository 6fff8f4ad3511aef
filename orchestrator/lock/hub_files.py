"""Beginnings of a hub's files: read as far as they are wanted, so that gigabytes of weights stay where they are."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import LockError, PrivilegeError, UsageError
from orchestrator.lock import hub, hub_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from huggingface_hub.hf_api import ModelInfo

    from orchestrator.errors import AgentrigError

#: Seconds that the hub has to send the next bytes of a file.
PATIENCE_S = 30.0
#: No header is longer than this, in bytes; the range that is asked for ends here.
MOST_ASKED = 256 << 20
_CHUNK = 1 << 18
_PARTIAL, _DENIED = 206, (401, 403)
_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one revision (40 digits), and each file's size in bytes."""

    name: str
    commit: str
    licence: str | None
    gated: bool
    sizes: dict[str, int]

    @property
    def place(self) -> str:
        """Give where it lies, for a sentence."""
        return f"hub:{self.name}@{self.commit}"


def repository(name: str, revision: str) -> Repository:
    """Ask the hub for a repository; raises UsageError, PrivilegeError and LockError, each with what to do."""
    from huggingface_hub import RepoFile  # noqa: PLC0415 - as in hub.api

    asked = hub.api()
    with _told(name):
        info = asked.model_info(name, revision=revision, timeout=hub.PATIENCE_S)
    commit = info.sha or ""
    if len(commit) != _DIGITS or set(commit) - set("0123456789abcdef"):
        raise LockError(f"the hub names no revision of {name}", where=f"hub:{name}", do="see what answers as the hub")
    with _told(name):
        tree = asked.list_repo_tree(name, revision=commit, recursive=True)
        sizes = {one.path: int(one.size) for one in tree if isinstance(one, RepoFile)}
    return Repository(name, commit, _licence(info), bool(info.gated), sizes)


def text(where: Repository, path: str, most: int) -> bytes:
    """Give a small file whole; raises LockError for one of more than ``most`` bytes, or cut off."""
    size = where.sizes[path]
    if size > most:
        raise LockError(f"{path} is {size} bytes long, which it cannot be", where=where.place, do="see the repository")
    with opened(where, path) as source:
        content = source(size)
    if len(content) != size:
        raise LockError(f"{path} ended after {len(content)} of {size} bytes", where=where.place, do="run it again")
    return content


@contextlib.contextmanager
def opened(where: Repository, path: str) -> Iterator[Callable[[int], bytes]]:
    """Give the bytes of a file one after the other, for as long as the block lasts, by one request for a range.

    Raises LockError where the hub serves a file of another size than it lists.
    """
    # A second that only a question to the hub should cost.
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status  # noqa: PLC0415
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415

    size = where.sizes[path]
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(where.name, path, revision=where.commit, endpoint=endpoint)
    headers = build_hf_headers(token=hub_token.token(), library_name="agentrig") | {
        "Range": f"bytes=0-{max(0, min(size, MOST_ASKED) - 1)}",
        "Accept-Encoding": "identity",
    }
    with _told(where.name), get_session().stream("GET", url, headers=headers, timeout=PATIENCE_S) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        total = total if response.status_code == _PARTIAL else response.headers.get("Content-Length", "")
        if total.isdecimal() and int(total) != size:
            raise LockError(f"{path} has {total} bytes and the hub lists {size}", where=where.place, do="run it again")
        yield _reader(response.iter_raw(_CHUNK))


def _reader(chunks: Iterator[bytes]) -> Callable[[int], bytes]:
    """Give a function that reads exactly so many bytes, fewer only at the end."""
    held = bytearray()
    position = 0

    def read(count: int) -> bytes:
        nonlocal position
        while len(held) - position < count:
            chunk = next(chunks, b"")
            if not chunk:
                break
            del held[:position]
            position = 0
            held.extend(chunk)
        found = bytes(held[position : position + count])
        position += len(found)
        return found

    return read


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the hub's library raises into a line; errors of ours pass."""
    from orchestrator.errors import AgentrigError  # noqa: PLC0415
    from orchestrator.lock.gguf import Lying  # noqa: PLC0415

    try:
        yield
    except (AgentrigError, Lying):
        raise
    except Exception as error:
        raise _refusal(error, name) from error


def _refusal(error: Exception, name: str) -> AgentrigError:
    from huggingface_hub import errors  # noqa: PLC0415

    why, where = hub.why(error, name), f"hub:{name}"
    if isinstance(error, errors.GatedRepoError):
        return PrivilegeError(why, where=where, do=f"accept the licence at {hub.page(name)} and {hub_token.how()}")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)):
        return UsageError(why, where=where, do=f"see its spelling; for a private one {hub_token.how()}")
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _DENIED:
        return PrivilegeError(why, where=where, do=hub_token.how())
    return LockError(why, where=where, do="see HF_ENDPOINT and the network, then run it again")


def _licence(info: ModelInfo) -> str | None:
    """Give the licence as the repository's card or its tags name it."""
    said = getattr(info.card_data, "license", None) if info.card_data else None
    if said == "other":
        said = getattr(info.card_data, "license_name", None) or said
    tags = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    found = said or next(iter(tags), None)
    return str(found[0] if isinstance(found, list) and found else found) if found else None
