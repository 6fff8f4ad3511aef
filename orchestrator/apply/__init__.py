"""Brings a host to its rendering with Ansible, back to a former release, or away; Ansible is loaded late."""

from orchestrator.apply.runner import write_values
from orchestrator.apply.work import Applied, Removed, activate, apply, intended, remove, restart, role_values, stop

__all__ = [
    "Applied",
    "Removed",
    "activate",
    "apply",
    "intended",
    "remove",
    "restart",
    "role_values",
    "stop",
    "write_values",
]
