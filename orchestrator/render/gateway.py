"""The gateway: nginx as our own unit, with its paths, limits and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from orchestrator.people import clients_of
from orchestrator.render.texts import filled
from orchestrator.render.units import GATEWAY_UNIT, GATEWAY_USER
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import RuntimeRow
    from orchestrator.deployment import Deployment

NGINX = "/usr/sbin/nginx"
CONFIGURATION = "gateway/nginx.conf"
TOKENS = "gateway/tokens.conf"
SCRIPT = "gateway/gateway.js"
#: nginx's module for scripts as the distributions package it, and the package's name.
NJS, NJS_PACKAGE = "/usr/lib/nginx/modules/ngx_http_js_module.so", "libnginx-mod-http-js"
#: Where the door to the sandboxes writes who their tokens belong to.
CLIENTS = "/var/lib/agentrig/gateway/clients"
HEALTH_PATH = "/healthz"

#: The gateway's address on the bridge of the sandboxes: of a private network (RFC 1918) that home routers do not hand
#: out.
BRIDGE_ADDRESS, BRIDGE_NETWORK = "10.87.0.1", "10.87.0.0/24"

#: nginx makes its folders even where it only reads its configuration: they go where they are taken away again.
TEST_COMMAND = (
    *("/bin/sh", "-ec"),
    (
        "prefix=$(mktemp -d); trap 'rm -rf \"$prefix\"' EXIT; "
        f'{NGINX} -t -q -e stderr -p "$prefix/" -c {CURRENT}/{CONFIGURATION}'
    ),
)

#: MiB that a request's body may have: ten times the text of the largest window in the catalog.
BODY_LIMIT_MIB = 32
#: Requests that one token may have open at once.
OPEN_REQUESTS = 64
#: What a sandbox may ask for in a minute and at once: four a second is more than any agent that works asks for.
REQUESTS_A_MINUTE, REQUESTS_AT_ONCE = 240, 60
#: MiB that a body may have whose answer has a cap: it is read whole in memory.
CAPPED_BODY_LIMIT_MIB = 8
#: Seconds a runtime may be silent: a long prompt on a slow machine gives no byte before its first token.
SILENCE_SECONDS = 3600


class Upstream(NamedTuple):
    """Where requests go: ``server`` as HOST:PORT, the name that its certificate bears, what stands before ``/v1``."""

    scheme: str
    server: str
    name: str
    prefix: str

    @property
    def elsewhere(self) -> bool:
        """Tell whether it is off this machine."""
        return self.scheme == "https"


class Route(NamedTuple):
    """One path that the gateway passes on, and the one method that it takes."""

    path: str
    method: Literal["GET", "POST"]


OPENAI = (
    Route("/v1/chat/completions", "POST"),
    Route("/v1/completions", "POST"),
    Route("/v1/models", "GET"),
)
ANTHROPIC = (
    Route("/v1/messages", "POST"),
    Route("/v1/messages/count_tokens", "POST"),
)


def routes_of(row: RuntimeRow) -> tuple[Route, ...]:
    """Give the paths of the wire forms that a runtime speaks."""
    return (*(OPENAI if row.openai.spoken else ()), *(ANTHROPIC if row.anthropic.spoken else ()))


def upstream_of(deployment: Deployment) -> Upstream:
    """Give where the gateway passes requests on to: our own runtime, or the endpoint that already runs."""
    if deployment.runtime_url is None:
        return Upstream("http", f"127.0.0.1:{deployment.runtime_port}", "127.0.0.1", "")
    parts = urlsplit(deployment.runtime_url)
    return Upstream(parts.scheme, parts.netloc, parts.hostname or "", parts.path)


def gateway_files(deployment: Deployment, row: RuntimeRow) -> tuple[RenderedFile, ...]:
    """Give nginx's configuration, the file with the tokens, and the unit."""
    upstream = upstream_of(deployment)
    bridge = BRIDGE_ADDRESS if deployment.sandbox else ""
    configuration = filled(
        "gateway/nginx.conf.j2",
        deployment=deployment,
        upstream=upstream,
        routes=routes_of(row),
        bridge_address=bridge,
        njs=NJS,
        script=f"{CURRENT}/{SCRIPT}",
        requests_a_minute=REQUESTS_A_MINUTE,
        requests_at_once=REQUESTS_AT_ONCE,
        capped_body_limit_mib=CAPPED_BODY_LIMIT_MIB,
        tokens=f"{CURRENT}/{TOKENS}",
        health_path=HEALTH_PATH,
        body_limit_mib=BODY_LIMIT_MIB,
        open_requests=OPEN_REQUESTS,
        silence_seconds=SILENCE_SECONDS,
    )
    tokens = filled(
        "gateway/tokens.conf.j2",
        gateway_token="{{secret:gateway_token}}",  # noqa: S106 - placeholders, filled when they are put on a host
        runtime_key="" if deployment.runtime_url else "{{secret:runtime_key}}",
        clients=[(client.slug, f"{{{{secret:{client.secret}}}}}") for client in clients_of(deployment)],
    )
    unit = filled(
        f"units/{GATEWAY_UNIT}.j2",
        user=GATEWAY_USER,
        nginx=NGINX,
        configuration=f"{CURRENT}/{CONFIGURATION}",
        elsewhere=upstream.elsewhere,
        bridge_address=bridge,
        bridge_network=BRIDGE_NETWORK,
    )
    script = (
        (
            RenderedFile(
                path=SCRIPT, content=filled(SCRIPT, clients=CLIENTS, capped_body_limit_mib=CAPPED_BODY_LIMIT_MIB)
            ),
        )
        if bridge
        else ()
    )
    return (
        RenderedFile(path=CONFIGURATION, content=configuration),
        *script,
        RenderedFile(path=TOKENS, content=tokens, mode="0640", group=GATEWAY_USER),
        RenderedFile(path=f"units/{GATEWAY_UNIT}", content=unit),
    )
