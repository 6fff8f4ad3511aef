"""A Deployment -> all that would be put on its host, as text. Pure: it reads its templates and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.nouns import digest_of
from orchestrator.render.agents import agent_files, agent_links, agent_packages, agent_users
from orchestrator.render.driver import driver_files, driver_links, driver_values
from orchestrator.render.engine import engine_artefacts, engine_packages, engine_values
from orchestrator.render.gateway import HEALTH_PATH, NJS_PACKAGE, TEST_COMMAND, gateway_files
from orchestrator.render.runtimes import parts_of
from orchestrator.render.sandbox import (
    ADDRESS,
    NETWORK_PACKAGES,
    SANDBOX_UNIT,
    TABLES,
    sandbox_files,
    sandbox_links,
)
from orchestrator.render.units import (
    GATEWAY_UNIT,
    GATEWAY_USER,
    RUNTIME_UNIT,
    RUNTIME_USER,
    links_of,
    runtime_files,
)
from orchestrator.rendered import Rendered, RenderedFile, RenderedUnit, RenderedUser
from orchestrator.snapshot import Listener

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, RuntimeRow
    from orchestrator.deployment import Deployment
    from orchestrator.render.runtimes.shared import RuntimeParts

__all__ = ["render"]


def render(deployment: Deployment, catalog: Catalog) -> Rendered:
    """Give the rendering of one host; raises UsageError for what no builder serves."""
    if deployment.sidecar:
        raise UsageError(
            f"{deployment.sidecar} beside {deployment.llm} is planned, but no unit serves a second llm yet",
            where=deployment.profile,
            do="set autocomplete: false in the profile",
        )
    row = catalog.runtimes[deployment.runtime]
    parts = None if deployment.runtime_url else parts_of(deployment, catalog)
    decision = json.dumps(deployment.decision(), indent=2, ensure_ascii=False) + "\n"
    files = (
        RenderedFile(path="deployment.json", content=decision),
        *(runtime_files(deployment, parts) if parts else ()),
        *gateway_files(deployment, row),
        *agent_files(deployment, catalog),
        *sandbox_files(deployment, catalog),
        *driver_files(deployment.driver),
    )
    walled = deployment.sandbox is not None
    units = (*((RUNTIME_UNIT,) if parts else ()), *((SANDBOX_UNIT,) if walled else ()), GATEWAY_UNIT)
    users = (GATEWAY_USER, RUNTIME_USER) if parts else (GATEWAY_USER,)
    runtime = Listener(protocol="tcp", address="127.0.0.1", port=deployment.runtime_port)
    gateway = Listener(protocol="tcp", address=deployment.gateway_address, port=deployment.gateway_port)
    bridge = gateway.model_copy(update={"address": ADDRESS})
    return Rendered(
        deployment_digest=digest_of(deployment.decision()),
        files=tuple(sorted(files, key=lambda file: file.path)),
        links=(
            *(link for unit in units for link in links_of(unit)),
            *agent_links(deployment, catalog),
            *sandbox_links(deployment),
            *driver_links(deployment.driver),
        ),
        units=tuple(RenderedUnit(name=unit) for unit in units),
        users=(*agent_users(deployment), *(RenderedUser(name=user) for user in users)),
        listeners=(*((runtime,) if parts else ()), gateway, *((bridge,) if walled else ())),
        tables=TABLES if walled else (),
        artefacts=tuple(
            sorted((*(("llm", "runtime") if parts else ()), *deployment.agents, *engine_artefacts(deployment)))
        ),
        packages=tuple(
            sorted(
                {
                    *_packages(row, parts),
                    *agent_packages(deployment, catalog),
                    *engine_packages(deployment),
                    *((*NETWORK_PACKAGES, NJS_PACKAGE) if walled else ()),
                    *(deployment.driver.packages if deployment.driver else ()),
                }
            )
        ),
        variables=_variables(deployment, row, parts)
        | engine_values(deployment)
        | driver_values(deployment.driver)
        | {"host_base_people": list(deployment.people)},
    )


def _packages(row: RuntimeRow, parts: RuntimeParts | None) -> tuple[str, ...]:
    if parts is None:
        return ("ca-certificates", "nginx")  # what an endpoint elsewhere proves itself with
    venv = ("python3-venv",) if row.install.kind == "venv" else ()
    return tuple(sorted({"nginx", *venv, *row.install.packages, *parts.packages}))


def _variables(deployment: Deployment, row: RuntimeRow, parts: RuntimeParts | None) -> dict[str, Any]:
    gateway: dict[str, Any] = {
        "sandbox_host_unit": SANDBOX_UNIT,
        "sandbox_host_state": "started" if deployment.sandbox else "absent",
        "gateway_unit": GATEWAY_UNIT,
        "gateway_test": list(TEST_COMMAND),
        "gateway_port": deployment.gateway_port,
        "gateway_health": f"http://{deployment.gateway_address}:{deployment.gateway_port}{HEALTH_PATH}",
        "gateway_health_statuses": [204],
    }
    if parts is None:  # an endpoint that already runs: a runtime of ours from before goes
        return gateway | {"runtime_unit": RUNTIME_UNIT, "runtime_state": "absent"}
    return gateway | {
        "runtime_unit": RUNTIME_UNIT,
        "runtime_port": deployment.runtime_port,
        "runtime_health": f"http://127.0.0.1:{deployment.runtime_port}{row.health_path}",
        "runtime_seconds": parts.start_timeout_seconds,
    }
