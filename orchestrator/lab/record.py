"""What a lab remembers of its hosts, so that after a kill they come back as they were: ``lab.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Kept:
    """One host: its system, its number in the lab's network, and the ports that lead to its ports."""

    system: str
    index: int
    ports: Mapping[int, int] = field(default_factory=dict)

    def with_port(self, port: int, outer: int) -> Kept:
        """Give it with one more port of this machine that leads to ``port``."""
        return replace(self, ports={**self.ports, port: outer})


class Record:
    """The file, and what stands in it. A file that cannot be read counts as empty."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.hosts: dict[str, Kept] = _read(file)

    def keep(self, name: str, kept: Kept) -> None:
        """Remember a host."""
        self.hosts[name] = kept
        self._write()

    def forget(self, name: str) -> None:
        """Forget a host."""
        self.hosts.pop(name, None)
        self._write()

    def _write(self) -> None:
        document = {
            name: {"os": kept.system, "index": kept.index, "ports": {str(k): v for k, v in kept.ports.items()}}
            for name, kept in sorted(self.hosts.items())
        }
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps({"hosts": document}, indent=2) + "\n", encoding="utf-8")
        beside.rename(self._file)


def _read(file: Path) -> dict[str, Kept]:
    try:
        hosts = json.loads(file.read_text(encoding="utf-8"))["hosts"]
        return {
            name: Kept(said["os"], int(said["index"]), {int(k): int(v) for k, v in said["ports"].items()})
            for name, said in hosts.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
