"""Decides, purely: a snapshot, a profile and the catalog give a Deployment or NoFit."""

from orchestrator.plan.choose import plan
from orchestrator.plan.explain import explain
from orchestrator.plan.hardware import parse_gpu, profile_hardware
from orchestrator.plan.match import matching_profile
from orchestrator.plan.rehearse import rehearse

__all__ = ["explain", "matching_profile", "parse_gpu", "plan", "profile_hardware", "rehearse"]
