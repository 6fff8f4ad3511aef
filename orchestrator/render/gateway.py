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
HEALTH_PATH = "/healthz"

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
    configuration = filled(
        "gateway/nginx.conf.j2",
        deployment=deployment,
        upstream=upstream,
        routes=routes_of(row),
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
    )
    return (
        RenderedFile(path=CONFIGURATION, content=configuration),
        RenderedFile(path=TOKENS, content=tokens, mode="0640", group=GATEWAY_USER),
        RenderedFile(path=f"units/{GATEWAY_UNIT}", content=unit),
    )
