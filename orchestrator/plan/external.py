"""The decision for an endpoint that already runs: what its owner says of it, for nothing of it can be measured."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator.catalog.loader import llm as llm_named
from orchestrator.deployment import Deployment
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.plan.wishes import Wishes
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot

#: Most tokens of one answer, and the share of the window that it may take at most.
MOST_OUTPUT, OUTPUT_SHARE = 8192, 4


def endpoint(snapshot: HostSnapshot, profile: Profile, catalog: Catalog, wishes: Wishes) -> Deployment:
    """Give the decision for an endpoint at the profile's ``runtime.url``; the ledger is empty.

    Raises UsageError where the address, the llm or its window is not said, or could not be.
    """
    url = _address(profile)
    if wishes.llm is None:
        raise _missing(profile, "which llm it serves", "llm.name")
    if wishes.context is None:
        raise _missing(profile, "the window that it was started with", "llm.context_tokens")
    row = llm_named(catalog, wishes.llm)
    if wishes.context > row.max_context_tokens:
        raise UsageError(
            f"{row.name}'s own window ends at {row.max_context_tokens} tokens, and {wishes.context} are promised",
            where=profile.name,
            do=f"set llm.context_tokens to {row.max_context_tokens} or less",
        )
    return Deployment(
        host=snapshot.name,
        profile=profile.name,
        llm=row.name,
        served_name=row.served_name,
        quant=wishes.quant or row.quants[0].quant,
        runtime="external",
        context_tokens=wishes.context,
        kv_dtype=wishes.kv_dtype or "auto",
        slots=wishes.users,
        output_tokens=max(1, min(MOST_OUTPUT, wishes.context // OUTPUT_SHARE)),
        agentic_class=row.agentic_class,
        agents=profile.agents,
        runtime_port=profile.runtime.port,
        gateway_port=profile.gateway.port,
        gateway_address=profile.gateway.address,
        ledger=(),
        confidence="lower_bound",
        reasons=(
            f"{row.name} because the profile says that {url} serves it",
            f"{row.agentic_class} for agents: {row.evidence}",
            f"a window of {wishes.context} tokens, as the profile says",
            "its memory, quantisation and speed are not known here: its owner decides them"
            + (f"; {wishes.quant} is the profile's word" if wishes.quant else ""),
        ),
    )


def _address(profile: Profile) -> str:
    url = profile.runtime.url
    if not url:
        raise _missing(profile, "where the endpoint is", "runtime.url")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or port == 0:
        raise UsageError(f"{url} is no address", where=profile.name, do="write runtime.url as https://HOST:PORT/v1")
    if parts.username or parts.password:
        raise UsageError(
            "runtime.url carries a secret, and a profile is meant for version control",
            where=profile.name,
            do="write it without user and password",
        )
    if parts.scheme == "http" and not _on_this_host(host):
        raise UsageError(
            f"plain HTTP to {host} would carry prompts and keys in the open",
            where=profile.name,
            do="write runtime.url with https, or reach it through a tunnel on 127.0.0.1",
        )
    return url


def _on_this_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _missing(profile: Profile, what: str, key: str) -> UsageError:
    return UsageError(f"the profile does not say {what}", where=profile.name, do=f"set {key} in the profile")
