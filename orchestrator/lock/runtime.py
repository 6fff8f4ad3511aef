"""The artefact of a runtime, or of an agent that comes the same way: a venv from its resolved wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import LockError
from orchestrator.lock import wheels
from orchestrator.lock.keys import venv_key
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.catalog.rows import AgentRow, RuntimeRow
    from orchestrator.lock.store import Store
    from orchestrator.lock.wanted import Target

_KINDS = {"venv": "venv", "binary": "binary", "container": "image", "npm": "npm_tree"}


def source_of(row: RuntimeRow | AgentRow, target: Target) -> str:
    """Give what the lock calls the request for a runtime: equal while catalog and host ask for the same. Pure."""
    if row.install.kind != "venv":
        return f"catalog:{row.name} {row.version}"
    return f"venv:{' '.join(row.install.requirements)} for {target}"


def resolve_runtime(row: RuntimeRow | AgentRow, target: Target, store: Store, held: Mapping[str, str]) -> Resolved:
    """Give a runtime's artefact and its parts; ``held`` names wheels whose versions do not move. Raises LockError."""
    if row.install.kind != "venv":
        return Resolved(
            unresolved(row, target, f"{row.title} comes as a {row.install.kind}, which is not fetched here")
        )
    _interpreter_suits(row, target)
    parts = wheels.resolve_wheels(row.install.requirements, target, store, held)
    first = wheels.requirement_name(row.install.requirements[0])
    version = next((part.version for part in parts if part.name == first), row.version)
    top = Artefact(
        kind="venv",
        name=row.name,
        version=version,
        digest=venv_key([str(part.digest) for part in parts], target.python, target.arch),
        source=source_of(row, target),
        parts=tuple(sorted(part.id for part in parts)),
    )
    return Resolved(top, parts)


def unresolved(row: RuntimeRow | AgentRow, target: Target, why: str) -> Artefact:
    """Give the artefact of a runtime whose digest could not be read (decision 13). Pure."""
    return Artefact.model_validate(
        {
            "kind": _KINDS[row.install.kind],
            "name": row.name,
            "version": row.version,
            "source": source_of(row, target),
            "why": why,
        }
    )


def _interpreter_suits(row: RuntimeRow | AgentRow, target: Target) -> None:
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - only where a runtime says what it needs

    if row.install.python and not SpecifierSet(row.install.python).contains(target.python):
        raise LockError(f"{row.title} needs Python {row.install.python}, the host has {target.python}", where=row.name)
