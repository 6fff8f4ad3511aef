"""The decision for an endpoint that already runs: what its owner says of it, and what it told when it was found."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from orchestrator.catalog.loader import llm as llm_named
from orchestrator.deployment import Deployment
from orchestrator.errors import CatalogError, UsageError
from orchestrator.plan.agents import longest_answer
from orchestrator.plan.wishes import Asked, wishes_of

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import AgenticClass
    from orchestrator.profile import Profile
    from orchestrator.snapshot import HostSnapshot, RunningEndpoint

#: The class of an llm of which the catalog knows nothing: the lowest.
LEAST_CLASS: AgenticClass = "completion"
AS_SERVED = "as served"
TITLES = {"ollama": "an Ollama", "vllm": "a vLLM", "sglang": "an SGLang", "llama_cpp": "a llama.cpp server"}
_PORTS = {"http": 80, "https": 443}
_NAMED = 3


class Address(NamedTuple):
    """Where an endpoint is: its address without ``/v1``, its port, and whether it is the host's own."""

    base: str
    port: int
    here: bool


def endpoint(snapshot: HostSnapshot, profile: Profile, catalog: Catalog, asked: Asked) -> Deployment:
    """Give the decision for the endpoint at the profile's ``runtime.url``, else the one found; the ledger is empty.

    Raises UsageError where the address, the llm or its window is neither said nor found, or could not be.
    """
    wanted = asked.llm or profile.llm.name
    nameless = profile.model_copy(update={"llm": profile.llm.model_copy(update={"name": None})})
    wishes = wishes_of(nameless, catalog, Asked(None, asked.quant, "external", asked.context, asked.users))
    url = profile.runtime.url or _only(snapshot, profile).url
    address = read_address(url, profile.name)
    if address.here and address.port == profile.gateway.port:
        raise UsageError(
            f"{url} has the port {address.port}, which is to be the gateway's",
            where=profile.name,
            do="set another gateway.port in the profile",
        )
    found = next((one for one in snapshot.endpoints if address.here and one.url.endswith(f":{address.port}")), None)
    served = _served(wanted, url, found, profile, catalog)
    row = _row(served, catalog) or (_row(wanted, catalog) if wanted else None)
    window = _window(wishes.context, url, found, row, profile)
    return Deployment(
        host=snapshot.name,
        profile=profile.name,
        llm=row.name if row else served,
        served_name=served,
        quant=wishes.quant or AS_SERVED,
        runtime="external",
        runtime_url=address.base,
        context_tokens=window,
        kv_dtype=wishes.kv_dtype or "auto",
        slots=wishes.users,
        output_tokens=longest_answer(window, profile),
        agentic_class=row.agentic_class if row else LEAST_CLASS,
        agents=profile.agents,
        people=profile.people,
        runtime_port=address.port,
        gateway_port=profile.gateway.port,
        sandbox=profile.sandbox,
        gateway_address=profile.gateway.address,
        limits=profile.limits,
        ledger=(),
        confidence="lower_bound",
        reasons=(
            f"{served} because {_whose(found)} at {url} serves it",
            f"{row.agentic_class} for agents: {row.evidence}"
            if row
            else f"{LEAST_CLASS} for agents: the catalog knows nothing of {served}, so it counts as the lowest class",
            f"a window of {window} tokens, as {'the profile says' if wishes.context else 'it says itself'}",
            "its memory, quantisation and speed are not known here: its owner decides them"
            + (f"; {wishes.quant} is the profile's word" if wishes.quant else ""),
        ),
    )


def offers(snapshot: HostSnapshot) -> tuple[str, ...]:
    """Give a sentence for each endpoint of somebody else's that answers on a host: how to build upon it."""
    return tuple(
        f"{described(one)} already answers at {one.url} with {_listed(one.llms)}: "
        "deploy up --profile external puts the gateway before it"
        + ("" if len(snapshot.endpoints) == 1 else f" (runtime.url: {one.url})")
        for one in snapshot.endpoints
    )


def described(one: RunningEndpoint) -> str:
    """Give what serves an endpoint, in words."""
    title = TITLES.get(one.kind, f"an endpoint of {one.program}" if one.program else "an endpoint")
    return f"{title} {one.version}" if one.version else title


def read_address(url: str, where: str) -> Address:
    """Read an address that a profile names; raises UsageError for one that is none, or would carry text in the open."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    plain = not set(url) & set(" \t\r\n;{}'\"\\$#?")
    if not host or parts.scheme not in _PORTS or port == 0 or not plain:
        raise UsageError(f"{url} is no address", where=where, do="write runtime.url as https://HOST:PORT/v1")
    if parts.username or parts.password:
        raise UsageError(
            "runtime.url carries a secret, and a profile is meant for version control",
            where=where,
            do="write it without user and password",
        )
    here = _on_this_host(host)
    if parts.scheme == "http" and not here:
        raise UsageError(
            f"plain HTTP to {host} would carry prompts and keys in the open",
            where=where,
            do="write runtime.url with https, or reach it through a tunnel on 127.0.0.1",
        )
    port = port or _PORTS[parts.scheme]
    name = f"[{host}]" if ":" in host else "127.0.0.1" if host == "localhost" else host
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return Address(f"{parts.scheme}://{name}:{port}{prefix}", port, here)


def _only(snapshot: HostSnapshot, profile: Profile) -> RunningEndpoint:
    """Give the one endpoint that was found on the host, where the profile names none."""
    if not snapshot.endpoints:
        raise _missing(profile, "where the endpoint is, and none was found on the host", "runtime.url")
    if len(snapshot.endpoints) > 1:
        urls = ", ".join(one.url for one in snapshot.endpoints)
        raise UsageError(
            f"{len(snapshot.endpoints)} endpoints answer on the host: {urls}",
            where=profile.name,
            do="set runtime.url in the profile to one of them",
        )
    return snapshot.endpoints[0]


def _served(wanted: str | None, url: str, found: RunningEndpoint | None, profile: Profile, catalog: Catalog) -> str:
    """Give the name that the endpoint itself answers to."""
    listed = found.llms if found else ()
    if wanted is None and len(listed) == 1:
        return listed[0]
    if wanted is None:
        which = f", and {url} serves {_listed(listed)}" if listed else ""
        raise _missing(profile, f"which llm it serves{which}", "llm.name")
    row = _row(wanted, catalog)
    alike = [name for name in listed if row and _row(name, catalog) == row]
    same = [name for name in listed if name == wanted] or alike
    if listed and not same:
        raise UsageError(
            f"{url} serves {_listed(listed)}, and not {wanted}", where=profile.name, do="set llm.name to one of them"
        )
    return same[0] if same else row.served_name if row else wanted


def _window(wished: int | None, url: str, found: RunningEndpoint | None, row: LlmRow | None, profile: Profile) -> int:
    """Give the window that is promised, in tokens: never more than the endpoint or the llm has."""
    has = found.context_tokens if found else None
    most = row.max_context_tokens if row else None
    if wished is None and has is None:
        raise _missing(profile, "the window that it was started with", "llm.context_tokens")
    limits = [limit for limit in (has, most) if limit is not None]
    window = wished or min(limits)
    if limits and window > min(limits):
        whose = f"{url} was started with" if has == min(limits) else f"{row.name if row else ''}'s own window ends at"
        raise UsageError(
            f"{whose} {min(limits)} tokens, and {window} are promised",
            where=profile.name,
            do=f"set llm.context_tokens to {min(limits)} or less",
        )
    return window


def _row(name: str, catalog: Catalog) -> LlmRow | None:
    try:
        return llm_named(catalog, name)
    except CatalogError:
        return None


def _whose(found: RunningEndpoint | None) -> str:
    return described(found) if found else "the endpoint"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) + more) or "no llm"


def _on_this_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _missing(profile: Profile, what: str, key: str) -> UsageError:
    return UsageError(f"the profile does not say {what}", where=profile.name, do=f"set {key} in the profile")
