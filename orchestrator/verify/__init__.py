"""Acceptance: what a host and its gateway must be seen to do before a rig is called ready."""

from __future__ import annotations

from orchestrator.verify.acceptance import chat_once, run
from orchestrator.verify.subject import Subject

__all__ = ["Subject", "chat_once", "run"]
