"""What a host's container engine is told, where the profile asks for containers for agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.rendered import SANDBOX_IMAGE

if TYPE_CHECKING:
    from orchestrator.deployment import Deployment

#: Engine -> the apt packages that bring it; what a distribution splits off, the lock adds.
_PACKAGES = {"docker": ("docker.io",)}
#: Keys of dockerd's configuration file (dockerd(8), "Daemon configuration file"). Containers outlive a restart of the
#: engine, and what they write to their logs is bounded: three files of 10 MB each.
SETTINGS: dict[str, Any] = {
    "live-restore": True,
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}
#: Set where the engine is ours alone. The engine turns no routing on in the kernel: a container of ours has no route,
#: and the host forwards as much as it did before.
OWN_SETTINGS: dict[str, Any] = {"ip-forward": False}


def engine_packages(deployment: Deployment) -> set[str]:
    """Give the apt packages that the container engine needs."""
    return set(_PACKAGES[deployment.sandbox.engine]) if deployment.sandbox else set()


def engine_artefacts(deployment: Deployment) -> tuple[str, ...]:
    """Give the link names of what containers are made from."""
    return (SANDBOX_IMAGE,) if deployment.sandbox else ()


def engine_values(deployment: Deployment) -> dict[str, Any]:
    """Give the variables of the role ``container_engine``."""
    if deployment.sandbox is None:
        return {}
    return {
        "container_engine_name": deployment.sandbox.engine,
        "container_engine_settings": SETTINGS,
        "container_engine_own_settings": OWN_SETTINGS,
    }
