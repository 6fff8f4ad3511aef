"""Brings a host to its rendering with Ansible, back to a former release, or away; Ansible is loaded late."""

from orchestrator.apply.work import Applied, Removed, activate, apply, remove, stop

__all__ = ["Applied", "Removed", "activate", "apply", "remove", "stop"]
