"""Decides, purely: a snapshot, a profile and the catalog give a Deployment or NoFit."""

from orchestrator.plan.cases import estimate_cases, estimate_line, knowledge
from orchestrator.plan.choose import plan
from orchestrator.plan.estimate import Estimate, EstimateRequest, estimate
from orchestrator.plan.explain import compare, explain
from orchestrator.plan.hardware import parse_gpu, profile_hardware
from orchestrator.plan.match import matching_profile
from orchestrator.plan.rehearse import rehearse

__all__ = [
    "Estimate",
    "EstimateRequest",
    "compare",
    "estimate",
    "estimate_cases",
    "estimate_line",
    "explain",
    "knowledge",
    "matching_profile",
    "parse_gpu",
    "plan",
    "profile_hardware",
    "rehearse",
]
