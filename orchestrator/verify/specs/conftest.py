"""The manifest that the specs hold a host against, and how they ask the host: few commands, many answers each."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Bytes of arguments in one command; Linux takes 128 KiB for the one string that a remote shell is given.
_ARGUMENT_BYTES = 64 * 1024


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """Give the declared manifest of the host."""
    return Manifest.from_json(Path(os.environ["AGENTRIG_MANIFEST"]).read_text(encoding="utf-8"))


@pytest.fixture
def ask(host: Any) -> Callable[[str, Iterable[str]], list[str]]:
    """Give what runs one command over many arguments and gives its lines; what it can't find is left out."""

    def lines(command: str, arguments: Iterable[str]) -> list[str]:
        found: list[str] = []
        for batch in _batches([shlex.quote(argument) for argument in arguments]):
            found += host.run(f"LC_ALL=C {command} {batch}").stdout.splitlines()
        return found

    return lines


@pytest.fixture
def record_count(record_property: Callable[[str, object], None]) -> Callable[[int, str], None]:
    """Give what notes the figure of a spec: how many of what it looked at."""

    def record(count: int, unit: str) -> None:
        record_property("figure", count)
        record_property("unit", unit)

    return record


def _batches(words: list[str]) -> list[str]:
    batches: list[str] = []
    for word in words:
        if batches and len(batches[-1]) + len(word) < _ARGUMENT_BYTES:
            batches[-1] += f" {word}"
        else:
            batches.append(word)
    return batches
