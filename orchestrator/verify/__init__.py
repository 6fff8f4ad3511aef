"""Acceptance: what a host and its gateway must be seen to do before a rig is called ready."""

from __future__ import annotations

from orchestrator.verify.acceptance import AGAIN_NAMES, again, chat_once, run
from orchestrator.verify.subject import Subject

__all__ = ["AGAIN_NAMES", "Subject", "again", "chat_once", "run"]
