"""What acceptance keeps of how a runtime came up: its memory against the ledger, and a change that was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.calibration import calibrate
from orchestrator.doctor import RUNTIME_UNIT, cleaned
from orchestrator.evidence import Check

if TYPE_CHECKING:
    from orchestrator.calibration import Calibration
    from orchestrator.deployment import Deployment
    from orchestrator.detect import Answer
    from orchestrator.line.values import Draft


def tried_check(one: Draft) -> tuple[Check, ...]:
    """Give what was changed by itself as evidence; nothing where nothing was."""
    if one.tried is None:
        return ()
    return (Check(area="endpoint", name="the runtime came up after one change", result="passed", detail=one.tried),)


def calibrated(answer: Answer, deployment: Deployment) -> tuple[Calibration, ...]:
    """Give what a host's runtime logged of its memory against the ledger of its deployment."""
    text = "\n".join(
        unit.text for unit in answer.units if unit.unit == RUNTIME_UNIT and unit.active and not unit.restarts
    )
    return calibrate(cleaned(text), deployment)
