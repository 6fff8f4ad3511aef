"""The full list of listening sockets against the declared one: anything more or less is red. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.evidence import Check
from orchestrator.verify.subject import Figure, check

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.manifest import Manifest, Reading
    from orchestrator.snapshot import Listener

LIST_NAME = "listening sockets equal the declared ones"
RUNTIME_NAME = "the runtime listens on 127.0.0.1 alone"
_UNREAD = "the host's listening sockets could not be read"


def list_check(manifest: Manifest, reading: Reading | None) -> Check:
    """Compare every listening socket of a host with the declared ones.

    Those of ``before`` are their owner's: they may be there or not, and no other may.
    """
    if reading is None:
        return check("host", LIST_NAME, [_UNREAD])
    declared = _by_socket((*manifest.before.listeners, *manifest.listeners))
    found = _by_socket(reading.listeners)
    extra = [f"not declared: {_named(found[socket])}" for socket in sorted(found.keys() - declared.keys())]
    ours = _by_socket(manifest.listeners)
    missing = [f"declared and not there: {_named(ours[socket])}" for socket in sorted(ours.keys() - found.keys())]
    detail = ", ".join(_named(found[socket]) for socket in sorted(found))
    return check("host", LIST_NAME, extra + missing, detail, Figure(len(found), "sockets", len(declared)))


def runtime_check(reading: Reading | None, port: int) -> Check:
    """Tell whether the runtime's port is open to this host itself and to nobody else."""
    if reading is None:
        return check("host", RUNTIME_NAME, [_UNREAD])
    found = [item for item in reading.listeners if item.protocol == "tcp" and item.port == port]
    faults = [f"it listens on {_named(item)}" for item in found if item.address != "127.0.0.1"]
    return check("host", RUNTIME_NAME, faults if found else [f"nothing listens on tcp port {port}"], f"port {port}")


def foreign_check(url: str) -> Check:
    """Say of an endpoint that is not ours that its socket is its owner's."""
    return Check(area="host", name=RUNTIME_NAME, result="skipped", detail=f"{url} is not ours, and left as it is")


def _by_socket(listeners: Iterable[Listener]) -> dict[tuple[str, str, int], Listener]:
    return {(item.protocol, item.address, item.port): item for item in listeners}


def _named(item: Listener) -> str:
    program = f" ({item.program})" if item.program else ""
    return f"{item.protocol} {item.address}:{item.port}{program}"
