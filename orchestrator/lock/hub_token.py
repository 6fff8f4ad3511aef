"""The token that a gated repository asks for: its owner's, read where he keeps it, and written nowhere by us."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import os
from functools import cache
from urllib.parse import urlsplit

#: What a keyring knows our token by: ``keyring set agentrig hub`` asks for it.
SERVICE, NAME = "agentrig", "hub"
HOW = f"give a token of yours: HF_TOKEN, hf auth login, or keyring set {SERVICE} {NAME}"


def token() -> str | None:
    """Give the token: of the environment, else the one that the hub's own login keeps, else the keyring's.

    None where ``HF_HUB_DISABLE_IMPLICIT_TOKEN`` says that none is to be sent unasked. The keyring's is ours, and goes
    to no endpoint whose answers others on the way could read; what becomes of the first two is the hub's own business.
    """
    from huggingface_hub import constants, get_token  # noqa: PLC0415 - a second that only a question to the hub costs

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    return get_token() or (None if _in_clear_text(os.environ.get("HF_ENDPOINT", "")) else _of_the_keyring())


def how() -> str:
    """Say how a token is given, and what keeps one that may be there from being sent."""
    from huggingface_hub import constants  # noqa: PLC0415

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return f"{HOW}; none is sent as long as HF_HUB_DISABLE_IMPLICIT_TOKEN is set"
    if _in_clear_text(os.environ.get("HF_ENDPOINT", "")):
        return f"{HOW}; the keyring's is not sent to an HF_ENDPOINT without TLS"
    return HOW


def _in_clear_text(endpoint: str) -> bool:
    """Tell whether an endpoint is asked over a network without TLS. Pure."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return host != "localhost"


@cache
def _of_the_keyring() -> str | None:
    """Ask the keyring once, where the library is installed; one that is locked or absent has no token."""
    with contextlib.suppress(Exception):
        found = importlib.import_module("keyring").get_password(SERVICE, NAME)
        return found if isinstance(found, str) and found else None
    return None


def forget() -> None:
    """Ask the keyring again next time."""
    _of_the_keyring.cache_clear()
