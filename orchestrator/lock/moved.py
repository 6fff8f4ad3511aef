"""What moved from one lock to the next, and what that means by the catalog's rows. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.lock.wheels import canonical, requirement_name
from orchestrator.lockfile import BUILT_KINDS
from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.catalog.rows import Catalog, RuntimeRow, VersionNote
    from orchestrator.lockfile import Artefact, Lock


class Moved(Noun):
    """One artefact that is another now. ``before`` is null for a new one, ``after`` for one that is gone."""

    kind: str
    name: str
    before: str | None
    after: str | None
    #: What changes with it, a sentence each.
    means: tuple[str, ...] = ()


def moved(before: Lock | None, after: Lock, catalog: Catalog) -> tuple[Moved, ...]:
    """Give what is another in the second lock, by kind and name."""
    old, new = _versions(before.artefacts if before else ()), _versions(after.artefacts)
    found = []
    for kind, name in sorted(old.keys() | new.keys()):
        was, now = old.get((kind, name), {}), new.get((kind, name), {})
        if was.keys() == now.keys():
            continue
        gone = [one.version for key, one in was.items() if key not in now]
        come = [one.version for key, one in now.items() if key not in was]
        first = next((one for key, one in now.items() if key not in was), None)
        last = next((one for key, one in was.items() if key not in now), None)
        means = tuple(_means(last, first, catalog)) if last and first else ()
        found.append(
            Moved(kind=kind, name=name, before=_joined(gone), after=_joined(come), means=means),
        )
    return tuple(found)


def _versions(artefacts: Iterable[Artefact]) -> dict[tuple[str, str], dict[str, Artefact]]:
    found: dict[tuple[str, str], dict[str, Artefact]] = {}
    for one in artefacts:
        found.setdefault((one.kind, one.name), {})[one.id] = one
    return found


def _joined(versions: Iterable[str]) -> str | None:
    return ", ".join(sorted(versions)) or None


def _means(before: Artefact, after: Artefact, catalog: Catalog) -> Iterator[str]:
    if before.digest is None and after.digest is not None:
        yield "it is resolved now"
    elif before.version == after.version and after.kind not in BUILT_KINDS:
        yield "other bytes under the same version"
    row = _runtime_of(after, catalog)
    for note in row.notes if row else ():
        if _between(before.version, note.since, after.version):
            yield from _said(note)
    if after.parts:
        count = len({*after.parts} - {*before.parts})
        yield f"it is built anew: {count} of its {len(after.parts)} parts are others"


def _runtime_of(artefact: Artefact, catalog: Catalog) -> RuntimeRow | None:
    """Give the row of the runtime that an artefact is, or whose first package it is."""
    for row in catalog.runtimes.values():
        first = row.install.requirements[0] if row.install.requirements else ""
        if artefact.kind in {"venv", "binary", "image"} and artefact.name == row.name:
            return row if artefact.kind != "venv" else None
        if artefact.kind == "wheel" and first and canonical(artefact.name) == requirement_name(first):
            return row
    return None


def _said(note: VersionNote) -> Iterator[str]:
    if note.min_driver:
        yield f"driver {note.min_driver} needed ({note.since})"
    for old, new in note.tool_parsers.items():
        yield f"tool-call parser {old} is called {new} ({note.since})"
    for old, new in note.flags.items():
        yield f"{old} is {new} ({note.since})"
    if note.text:
        yield f"{note.text} ({note.since})"


def _between(before: str, since: str, after: str) -> bool:
    """Tell whether a change that came with ``since`` lies between two versions, in either direction."""
    low, high = sorted((_key(before), _key(after)))
    return low < _key(since) <= high


def _key(version: str) -> tuple[int, ...]:
    """Give a version's numbers for comparison; what follows a plus or a letter after them says nothing here."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))
