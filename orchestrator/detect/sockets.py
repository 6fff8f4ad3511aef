"""Who listens where, from the kernel's own tables: no program of the host is needed. Commands and a pure parse."""

from __future__ import annotations

import ipaddress
import re

from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Listener

#: State 0A is a listening TCP socket, 07 a UDP socket that is bound and not connected (the kernel's net/tcp_states.h).
SOCKETS = """
for table in tcp tcp6 udp udp6; do
test -r /proc/net/$table && {
echo "table $table"
awk 'FNR > 1 && ($4 == "0A" || $4 == "07") { print $2, $4, $10 }' /proc/net/$table; }
done
:"""
#: Which process holds which socket, and each process's program; a user who is not root sees his own.
HOLDERS = """
find /proc/[0-9]*/fd -lname 'socket:*' -printf '%h %l\\n'
grep -H '' /proc/[0-9]*/comm
:"""

_STATES = {"tcp": "0A", "udp": "07"}
_ROW = re.compile(
    r"^(?:table (?P<table>\w+)|"
    r"(?P<address>[0-9A-F]{8}|[0-9A-F]{32}):(?P<port>[0-9A-F]{4}) (?P<state>\w\w) (?P<inode>\d+))$"
)


def parse_sockets(text: str, holders: str = "") -> tuple[Listener, ...]:
    """Read the kernel's tables; each socket once, sorted, with its program where ``holders`` tells it."""
    programs = _programs(holders)
    found: dict[tuple[str, str, int], str] = {}
    table = ""
    for line in text.splitlines():
        row = _ROW.match(line)
        if not row or not (row["table"] or table):
            raise ProbeGarbled("the kernel's table of sockets is not what it should be")
        table = row["table"] or table
        protocol = table.removesuffix("6")
        if row["table"] or row["state"] != _STATES.get(protocol):
            continue
        key = (protocol, _address(row["address"]), int(row["port"], 16))
        found[key] = found.get(key) or programs.get(row["inode"], "")
    if not table:
        raise ProbeGarbled("the kernel shows no table of sockets")
    return tuple(
        Listener.model_validate({"protocol": protocol, "address": address, "port": port, "program": found[key]})
        for key in sorted(found)
        for protocol, address, port in [key]
    )


def _address(digits: str) -> str:
    """Give an address that the kernel wrote as words of four bytes in this machine's (little-endian) order."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _programs(text: str) -> dict[str, str]:
    """Give the program of each socket's inode."""
    names = dict(re.findall(r"^/proc/(\d+)/comm:(.*)$", text, re.MULTILINE))
    held = re.findall(r"^/proc/(\d+)/fd socket:\[(\d+)\]$", text, re.MULTILINE)
    found: dict[str, str] = {}
    for process, inode in sorted(held, key=lambda pair: int(pair[0])):
        found.setdefault(inode, names.get(process, ""))
    return found
