"""What lies under a runtime: what kernel, driver and container engine say -> their causes. Pure.

The causes are those rows of ``catalog/causes.yml`` that say ``machine``: a machine's log holds much else that is no
fault of ours, and a line that no such row knows is no finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.doctor import UNKNOWN, CauseRow, Finding, cleaned, diagnose
from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What a kernel's log tells however the driver answers now: a card that is gone hides behind those that are not.
OF_A_LOST_CARD = "gpu_lost"


class MachineLogs(Noun):
    """What one machine says of its driver and its containers, each part as it was printed.

    ``driver_answers`` tells whether nvidia-smi answered: what the kernel said earlier of a driver that works is past.
    """

    driver_answers: bool = False
    kernel: str = ""
    driver: str = ""
    engine: str = ""
    disk: str = ""
    cdi: str = ""
    devices: str = ""


def machine_findings(
    logs: MachineLogs, causes: Mapping[str, CauseRow], host: str = "", secrets: Iterable[str] = ()
) -> tuple[Finding, ...]:
    """Give a finding for each part of a machine that tells a cause, each cause once."""
    known = {name: row for name, row in causes.items() if row.machine}
    hidden = tuple(secrets)
    if logs.driver_answers:
        parts = [(logs.kernel, {name: row for name, row in known.items() if name == OF_A_LOST_CARD})]
    else:
        parts = [(f"{logs.kernel}\n{logs.driver}", known)]
    parts += [(text, known) for text in (logs.engine, logs.disk, logs.cdi, logs.devices)]
    found = [diagnose(cleaned(text, hidden), rows, host=host) for text, rows in parts]
    return tuple({one.cause: one for one in found if one.cause != UNKNOWN}.values())


def together(
    before: Sequence[Finding], machine: Sequence[Finding], causes: Mapping[str, CauseRow]
) -> tuple[Finding, ...]:
    """Give all findings of hosts, each cause of a host once: with its lines where any has them, the narrower alone."""
    shown = {(one.host, one.cause) for one in before if one.lines}
    more = [one for one in machine if (one.host, one.cause) not in shown]
    told = {(one.host, one.cause) for one in more} | shown
    wider = {(host, causes[cause].part_of) for host, cause in told if cause in causes}
    kept = [
        one for one in before if one.lines or ((one.host, one.cause) not in told and (one.host, one.cause) not in wider)
    ]
    return (*kept, *more)
