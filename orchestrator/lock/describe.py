"""What a hub says of a repository: configuration, exact sizes, types of tensors. Headers are read, weights never."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LockError
from orchestrator.lock import gguf, gguf_config, hub_files, safetensors
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.lock.hub_files import Repository
    from orchestrator.progress import Progress

INDEX = "model.safetensors.index.json"
#: The longest configuration, and the longest index, in bytes.
MOST_CONFIG, MOST_INDEX = 4 << 20, 64 << 20

_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")
#: GGUF files beside an llm's that are none: towers for pictures and sound, statistics of a quantisation.
_BESIDE = re.compile(r"mmproj|imatrix", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plain:
    """Weights in safetensors: their files, the bytes of all tensors, elements by type where headers were read."""

    members: tuple[str, ...]
    bytes: int
    read_from: str
    elements: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights in one GGUF file, or in one that was split; ``name`` is without folder and part."""

    name: str
    members: tuple[str, ...]
    header: gguf.Header


@dataclass(frozen=True, slots=True)
class Description:
    """What was read at ``commit``, which ``asked`` names.

    ``config`` is ``config.json`` or what a GGUF header says; ``strange`` says why there is none.
    """

    repository: str
    asked: str
    commit: str
    licence: str | None
    gated: bool
    config: Mapping[str, Any] | None
    config_from: str
    generation: Mapping[str, Any]
    plain: Plain | None
    packed: tuple[Packed, ...]
    strange: str = ""
    left_out: tuple[str, ...] = ()


def describe(name: str, revision: str, wanted: Callable[[str], bool], progress: Progress) -> Description:
    """Read a repository at a revision. ``wanted`` tells of a GGUF file's name whether its header is worth reading.

    Raises UsageError for a repository or revision that is not there, PrivilegeError for a gated one, LockError for
    a hub out of reach, a file cut off, or a header that says what cannot be.
    """
    where = hub_files.repository(name, revision)
    config = _table(where, "config.json")
    plain = _plain(where, progress)
    groups = _groups(where.sizes)
    left_out = [f"{one}: no quantisation of the catalog" for one in groups if not wanted(one)]
    packed = tuple(_packed(where, one, members, progress) for one, members in groups.items() if wanted(one))
    config_from, strange = "config.json", ""
    if config is None and packed:
        config_from = f"header of {PurePosixPath(packed[0].members[0]).name}"
        try:
            config = _told(where, packed[0].members[0], lambda: gguf_config.configuration(packed[0].header))
        except gguf_config.Strange as said:
            strange = str(said)
    return Description(
        repository=where.name,
        asked=revision,
        commit=where.commit,
        licence=where.licence or _licence(packed),
        gated=where.gated,
        config=config,
        config_from=config_from,
        generation=_table(where, "generation_config.json") or {},
        plain=plain,
        packed=packed,
        strange=strange,
        left_out=tuple(left_out),
    )


def _table(where: Repository, path: str) -> dict[str, Any] | None:
    """Give a JSON object of the repository, None where it has none; raises LockError for what is no object."""
    if path not in where.sizes:
        return None
    try:
        document = json.loads(hub_files.text(where, path, MOST_CONFIG))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise LockError(f"{path} is no JSON object", where=where.place, do="see the repository")
    return document


def _plain(where: Repository, progress: Progress) -> Plain | None:
    files = sorted(one for one in where.sizes if one.endswith(".safetensors") and "/" not in one)
    total: int | None = None
    if INDEX in where.sizes:
        text = hub_files.text(where, INDEX, MOST_INDEX)
        named, total = _told(where, INDEX, lambda: safetensors.indexed(text, where.sizes))
        files = [*named]
    if not files:
        return None
    if total is not None:
        return Plain(tuple(files), total, "index")
    headers = [_header(where, one, safetensors.read, progress) for one in files]
    elements: dict[str, int] = {}
    for kind, count in (item for header in headers for item in header.elements.items()):
        elements[kind] = elements.get(kind, 0) + count
    return Plain(tuple(files), sum(header.bytes for header in headers), "headers", elements)


def _groups(sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Give the GGUF files of llms: name without part -> its parts. The same name in two folders is two."""
    groups: dict[str, list[str]] = {}
    for path in sorted(sizes):
        if path.endswith(".gguf") and not _BESIDE.search(PurePosixPath(path).name):
            groups.setdefault(_PART.sub("", path), []).append(path)
    return {name: tuple(members) for name, members in groups.items()}


def _packed(where: Repository, name: str, members: Sequence[str], progress: Progress) -> Packed:
    headers = [_header(where, one, gguf.read, progress) for one in members]
    return Packed(name, tuple(members), _told(where, members[0], lambda: gguf.joined(headers)))


def _header(
    where: Repository, path: str, read: Callable[[Callable[[int], bytes], int], Any], progress: Progress
) -> Any:
    progress(Event("lock", f"reading the header of {path}"))
    with hub_files.opened(where, path) as source:
        return _told(where, path, lambda: read(source, where.sizes[path]))


def _told(where: Repository, path: str, reading: Callable[[], Any]) -> Any:
    """Read what a file says; one that lies becomes a line that names it."""
    try:
        return reading()
    except gguf.Lying as lie:
        raise LockError(f"{path} is refused: {lie}", where=where.place, do="take another repository") from lie


def _licence(packed: Sequence[Packed]) -> str | None:
    said = packed[0].header.metadata.get("general.license") if packed else None
    return said if isinstance(said, str) else None
