"""agentrig's own content by digest: what a lock was made with."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.files import data
from orchestrator.nouns import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Written by the interpreter or by tools beside the code, and no part of it.
_LEFT_OUT = frozenset({"__pycache__", "data"})


@cache
def own_digest() -> str:
    """Give ``sha256:`` and the digest of this agentrig: code, catalog, playbooks, roles and templates.

    A checkout and the wheel that was built from it have the same.
    """
    package = Path(__file__).resolve().parents[1]
    beside = {"playbooks": data("playbooks"), "roles": data("roles"), "templates": data("templates")}
    return content_digest({"orchestrator": package, **beside})


def content_digest(folders: Mapping[str, Path]) -> str:
    """Give ``sha256:`` and the digest of folders under their names: each file's path and sha256, no bytecode."""
    files = {
        f"{name}/{path.relative_to(folder)}": _sha256(path)
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and not _LEFT_OUT & set(path.relative_to(folder).parts)
    }
    return "sha256:" + digest_of(files)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
