"""Decides, purely: a snapshot, a profile and the catalog give a Deployment or NoFit."""

from orchestrator.plan.cases import estimate_cases, estimate_line, knowledge
from orchestrator.plan.choose import plan
from orchestrator.plan.estimate import estimate
from orchestrator.plan.explain import compare, explain
from orchestrator.plan.external import offers
from orchestrator.plan.hardware import parse_gpu, profile_hardware
from orchestrator.plan.match import matching_profile
from orchestrator.plan.more import next_steps
from orchestrator.plan.rehearse import rehearse
from orchestrator.plan.request import Estimate, EstimateRequest
from orchestrator.plan.wishes import Asked

__all__ = [
    "Asked",
    "Estimate",
    "EstimateRequest",
    "compare",
    "estimate",
    "estimate_cases",
    "estimate_line",
    "explain",
    "knowledge",
    "matching_profile",
    "next_steps",
    "offers",
    "parse_gpu",
    "plan",
    "profile_hardware",
    "rehearse",
]
