"""What was measured on a host when it was accepted, or was not."""

from __future__ import annotations

from typing import Literal

from orchestrator.calibration import Calibration
from orchestrator.deployment import StandIn
from orchestrator.nouns import Noun

Area = Literal["host", "endpoint", "tools", "context", "walls", "agents"]
AREAS: tuple[Area, ...] = ("host", "endpoint", "tools", "context", "walls", "agents")


class Check(Noun):
    """One check. ``figure`` in ``unit``, held against ``limit`` where there is one; ``detail`` for a person."""

    area: Area
    name: str
    result: Literal["passed", "failed", "skipped"]
    figure: float | None = None
    unit: str | None = None
    limit: float | None = None
    detail: str = ""


class Evidence(Noun):
    """One acceptance: when it began (ISO 8601, UTC), how long it took in seconds, what was seen."""

    host: str
    deployment_id: str
    lock_digest: str
    manifest_digest: str
    began: str
    seconds: float
    checks: tuple[Check, ...]
    stand_ins: tuple[StandIn, ...] = ()
    #: What the runtime logged of its memory at start, against the ledger.
    calibration: tuple[Calibration, ...] = ()

    @property
    def accepted(self) -> bool:
        """Tell whether no check failed and at least one passed."""
        results = [check.result for check in self.checks]
        return "failed" not in results and "passed" in results
