"""Who has a token at the gateway, and by which safe word each is known there: the same in files, logs and secrets."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestrator.deployment import Deployment

#: The system user that verify runs agents as.
AGENT_USER = "agentrig-agent"

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DIGITS = 8


class Client(NamedTuple):
    """One account of the host that the gateway knows. ``slug`` is how its log names it."""

    account: str
    slug: str

    @property
    def secret(self) -> str:
        """Give the name of the secret that is its token."""
        return self.slug


def slug_of(account: str) -> str:
    """Give a word of small letters, digits, ``_`` and ``-`` for an account: ``person-ada``.

    A name that is no such word keeps what of it is, and gets the head of its sha256, so that two never meet.
    """
    if _PLAIN.fullmatch(account) and "--" not in account:
        return f"person-{account}"
    readable = re.sub(r"[^a-z0-9]+", "-", account.lower()).strip("-")
    digest = hashlib.sha256(account.encode()).hexdigest()[:_DIGITS]
    return f"person-{readable}--{digest}"


def clients_of(deployment: Deployment) -> tuple[Client, ...]:
    """Give the accounts of a host that have a token of their own: its people, and the one agents are tried as."""
    people = tuple(Client(account, slug_of(account)) for account in deployment.people)
    return (*people, Client(AGENT_USER, AGENT_USER)) if deployment.agents else people
