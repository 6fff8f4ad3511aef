"""Resolves versions and digests, and fetches every byte that is applied into the content-addressed store."""

from __future__ import annotations

from orchestrator.lock.check import check
from orchestrator.lock.document import read, write
from orchestrator.lock.resolve import missing, resolve
from orchestrator.lock.store import Store
from orchestrator.lock.wanted import Request, Wanted, wanted

__all__ = ["Request", "Store", "Wanted", "check", "missing", "read", "resolve", "wanted", "write"]
