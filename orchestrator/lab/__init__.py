"""Throwaway systemd hosts on this machine: rehearsal for users, hosts for the tests."""

from __future__ import annotations

from orchestrator.lab.hosts import Lab, LabHost, as_host
from orchestrator.lab.make_believe import build_nvml
from orchestrator.lab.privileges import missing_privileges

__all__ = ["Lab", "LabHost", "as_host", "build_nvml", "missing_privileges"]
