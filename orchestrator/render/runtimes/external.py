"""An endpoint that already runs: gateway and agents stand before it, and no unit of ours serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment


def build(deployment: Deployment, catalog: Catalog) -> NoReturn:
    """Refuse: without an address there is no endpoint, and with one nothing of ours is started (``render``)."""
    del catalog
    raise UsageError(
        "the deployment is for an endpoint that already runs, and does not say where it is",
        where=f"deployment of {deployment.host}",
        do="set runtime.url in the profile",
    )
