"""Resolves versions and digests, and fetches every byte that is applied into the content-addressed store."""

from __future__ import annotations

from orchestrator.lock.check import another_agentrig, asked, check, words
from orchestrator.lock.document import SignedLock, read, read_signed, sign_as_it_stands, write
from orchestrator.lock.moved import Moved, moved
from orchestrator.lock.own import own_digest
from orchestrator.lock.resolve import missing, resolve
from orchestrator.lock.store import Store
from orchestrator.lock.wanted import Request, Wanted, wanted

__all__ = [
    "Moved",
    "Request",
    "SignedLock",
    "Store",
    "Wanted",
    "another_agentrig",
    "asked",
    "check",
    "missing",
    "moved",
    "own_digest",
    "read",
    "read_signed",
    "resolve",
    "sign_as_it_stands",
    "wanted",
    "words",
    "write",
]
