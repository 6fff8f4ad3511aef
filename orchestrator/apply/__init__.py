"""Brings a host to its rendering with Ansible, back to a former release, or away; Ansible is loaded late."""

from orchestrator.apply.runner import write_values
from orchestrator.apply.work import (
    Activated,
    Applied,
    Removed,
    Swept,
    activate,
    apply,
    intended,
    reboot,
    remove,
    restart,
    role_values,
    stop,
    sweep,
)

__all__ = [
    "Activated",
    "Applied",
    "Removed",
    "Swept",
    "activate",
    "apply",
    "intended",
    "reboot",
    "remove",
    "restart",
    "role_values",
    "stop",
    "sweep",
    "write_values",
]
