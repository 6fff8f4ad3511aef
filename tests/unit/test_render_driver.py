"""What a driver's choice puts on a host, as text."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.deployment import DriverChoice
from orchestrator.plan import plan
from orchestrator.render import render
from orchestrator.rendered import Rendered
from tests.unit.planning import catalog, machine_of

OPEN = DriverChoice(branch="580", modules="open", kernel="dkms", packages=("nvidia-dkms-580-server-open",))


def tree(driver: DriverChoice | None) -> Rendered:
    decision = plan(machine_of("dual-3090"), catalog().profiles["dual-3090"], catalog())
    return render(decision.model_copy(update={"driver": driver}), catalog())


def contents(rendered: Rendered) -> dict[str, str]:
    return {file.path: file.content for file in rendered.files if "driver" in file.path or "gpu" in file.path}


def test_nothing_is_rendered_where_the_driver_is_left_alone() -> None:
    rendered = tree(None)
    assert contents(rendered) == {}
    assert not any(name.startswith("gpu_driver") for name in rendered.variables)


def test_the_packages_are_the_locks_and_the_copies_are_the_releases_own_files() -> None:
    rendered = tree(OPEN)
    assert "nvidia-dkms-580-server-open" in rendered.packages
    files = contents(rendered)
    assert set(files) == {"driver/nouveau.conf", "driver/unattended.conf", "units/agentrig-gpu.service"}
    copies = {file["path"]: file["content"] for file in rendered.variables["gpu_driver_files"]}
    assert copies == {
        "/etc/modprobe.d/agentrig-nouveau.conf": files["driver/nouveau.conf"],
        "/etc/apt/apt.conf.d/53agentrig-driver": files["driver/unattended.conf"],
    }
    assert "blacklist nouveau\n" in files["driver/nouveau.conf"]
    assert all(f'"^{name}-";' in files["driver/unattended.conf"] for name in ("nvidia", "libnvidia", "cuda"))
    assert rendered.variables["gpu_driver_branch"] == "580"


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        ({}, ["--persistence-mode=1"]),
        ({"power_limit_watts": 280}, ["--persistence-mode=1", "--power-limit=280"]),
        ({"power_limit_watts": 280, "persistence": False}, ["--power-limit=280"]),
        ({"persistence": False}, []),
    ],
)
def test_the_cards_are_set_before_the_runtime_starts(changes: dict[str, Any], commands: list[str]) -> None:
    rendered = tree(OPEN.model_copy(update=changes))
    unit = contents(rendered).get("units/agentrig-gpu.service", "")
    assert [line.split()[-1] for line in unit.splitlines() if line.startswith("ExecStart=")] == commands
    links = [link.path for link in rendered.links if "agentrig-gpu" in link.path]
    assert bool(links) is bool(commands) is bool(rendered.variables["gpu_driver_unit"])
    if commands:
        assert "Before=agentrig-runtime.service" in unit
        assert "ConditionPathExists=/proc/driver/nvidia/version" in unit


def test_a_power_limit_at_the_owners_driver_brings_the_unit_alone() -> None:
    rendered = tree(DriverChoice(power_limit_watts=250))
    assert set(contents(rendered)) == {"units/agentrig-gpu.service"}
    assert rendered.variables["gpu_driver_files"] == []
    assert rendered.variables["gpu_driver_branch"] == ""
