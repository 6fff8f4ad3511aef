"""How our units stand on a host and what they wrote: commands, and a pure parse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.doctor import GATEWAY_UNIT, RUNTIME_UNIT, UnitLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.detect.script import Output

UNITS = (RUNTIME_UNIT, GATEWAY_UNIT)
#: Lines of a start, from its beginning (where it tells its memory), and of an end, from its last.
START_LINES, END_LINES = 800, 600
_LOG = "agentrig-log"
#: A unit that systemd started anew and that runs for fewer seconds is taken for one that does not stay up.
_SETTLED_SECONDS = 60


def commands(since_seconds: int | None = None) -> dict[str, str]:
    """Give a command for each unit: how it stands, then its log since its start, or the last of one that ended.

    With ``since_seconds`` only what was written in so many seconds counts of one that ended.
    """
    since = f" --since=-{since_seconds}s" if since_seconds is not None else ""
    return {
        unit: f"systemctl show {unit} --property=LoadState,ActiveState,Result,NRestarts,ActiveEnterTimestampMonotonic\n"
        "echo Uptime=$(cut -d. -f1 /proc/uptime)\n"
        f"echo {_LOG}\n"
        f"stands=$(systemctl show {unit} --property=ActiveState --value)/"
        f"$(systemctl show {unit} --property=NRestarts --value)\n"
        'if [ "$stands" = active/0 ]; then '
        f"journalctl _SYSTEMD_INVOCATION_ID=$(systemctl show {unit} --property=InvocationID --value)"
        f" --output=cat --no-pager --quiet | head -n {START_LINES}; "
        f"else journalctl --unit={unit} --lines={END_LINES}{since} --output=cat --no-pager --quiet; fi"
        for unit in UNITS
    }


def parse(outputs: Mapping[str, Output]) -> tuple[UnitLog, ...]:
    """Give the units that are there, each with its state and log."""
    found = []
    for unit in UNITS:
        head, _, text = outputs[unit].text.partition(f"{_LOG}\n") if unit in outputs else ("", "", "")
        shown = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
        if shown.get("LoadState", "not-found") in {"not-found", ""}:
            continue
        restarts = shown.get("NRestarts", "0")
        found.append(
            UnitLog(
                unit=unit,
                active=shown.get("ActiveState") == "active" and not _restless(shown),
                result=shown.get("Result", ""),
                restarts=int(restarts) if restarts.isdigit() else 0,
                text=text,
            )
        )
    return tuple(found)


def _restless(shown: Mapping[str, str]) -> bool:
    """Tell whether a unit that runs now was started anew a moment ago by systemd."""
    since, now = shown.get("ActiveEnterTimestampMonotonic", ""), shown.get("Uptime", "")
    if shown.get("NRestarts", "0") == "0" or not since.isdigit() or not now.isdigit():
        return False
    return int(now) - int(since) // 1_000_000 < _SETTLED_SECONDS
