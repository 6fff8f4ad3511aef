"""``deploy.lock`` as a file: read with care, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.errors import LockError, UsageError
from orchestrator.lockfile import Lock
from orchestrator.state import give_to_caller

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.lockfile import HostLock

_DO = "put back what version control has, or remove the file and run deploy lock"


def read(path: Path) -> Lock | None:
    """Read a lock; None where there is no file. Raises UsageError that says where it is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the lock cannot be read: {error}", where=str(path), do=_DO) from error
    try:
        lock = Lock.from_json(text)
    except ValidationError as error:
        raise UsageError(_what(text, error), where=_where(path, text), do=_DO) from error
    _refers_to_itself(lock, path)
    return lock


def write(path: Path, lock: Lock) -> None:
    """Write a lock: beside the file first, then renamed. Raises LockError where that cannot be done."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8") as file:
            file.write(lock.to_json())
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        give_to_caller(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise LockError(f"the lock cannot be written: {error.strerror or error}", where=str(path)) from error


def _what(text: str, error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    known = _document(text)
    number = first["loc"][1] if len(first["loc"]) > 1 and first["loc"][0] == "artefacts" else None
    if isinstance(number, int) and isinstance(known, dict):
        one = known["artefacts"][number]
        place = f"{place} ({one.get('kind')} {one.get('name')})" if isinstance(one, dict) else place
    said = first["msg"][:1].lower() + first["msg"][1:]
    return f"the lock is not one: {place}: {said}" if place else f"the lock is not one: {said}"


def _document(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _where(path: Path, text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{path}, line {error.lineno}"
    return str(path)


def _refers_to_itself(lock: Lock, path: Path) -> None:
    """Raise UsageError where a host or a built tree names an artefact that is not in the lock."""
    known = lock.by_id()
    named = [(f"hosts.{name}", ref) for name, host in lock.hosts.items() for ref in _references(host)]
    named += [(f"{one.kind} {one.name}", ref) for one in lock.artefacts for ref in one.parts]
    for place, ref in named:
        if ref not in known:
            raise UsageError(f"the lock is not one: {place} names {ref}, which is not in it", where=str(path), do=_DO)


def _references(host: HostLock) -> tuple[str, ...]:
    return (*host.links.values(), *host.debs, *host.asked)
