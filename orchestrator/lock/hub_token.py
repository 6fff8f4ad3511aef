"""The token that a gated repository asks for: its owner's, read where he keeps it, and written nowhere by us."""

from __future__ import annotations

import contextlib
import importlib
from functools import cache

#: What a keyring knows our token by: ``keyring set agentrig hub`` asks for it.
SERVICE, NAME = "agentrig", "hub"
HOW = f"give a token of yours: HF_TOKEN, hf auth login, or keyring set {SERVICE} {NAME}"


def token() -> str | None:
    """Give the token: of the environment, else the one that the hub's own login keeps, else the keyring's."""
    from huggingface_hub import get_token  # noqa: PLC0415 - a second that only a question to the hub should cost

    return get_token() or _of_the_keyring()


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
