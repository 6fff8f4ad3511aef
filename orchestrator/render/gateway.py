"""The gateway: nginx as our own unit, with its paths, limits and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

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


def gateway_files(deployment: Deployment, row: RuntimeRow) -> tuple[RenderedFile, ...]:
    """Give nginx's configuration, the file with the tokens, and the unit."""
    configuration = filled(
        "gateway/nginx.conf.j2",
        deployment=deployment,
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
        runtime_key="{{secret:runtime_key}}",
    )
    unit = filled(
        f"units/{GATEWAY_UNIT}.j2", user=GATEWAY_USER, nginx=NGINX, configuration=f"{CURRENT}/{CONFIGURATION}"
    )
    return (
        RenderedFile(path=CONFIGURATION, content=configuration),
        RenderedFile(path=TOKENS, content=tokens, mode="0640", group=GATEWAY_USER),
        RenderedFile(path=f"units/{GATEWAY_UNIT}", content=unit),
    )
