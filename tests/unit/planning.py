"""Machines for the planner's tests, made of names alone."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.loader import load
from orchestrator.plan import parse_gpu, profile_hardware
from orchestrator.snapshot import Gpu, HostSnapshot, OperatingSystem

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog


@cache
def catalog() -> Catalog:
    return load()


def machine(*names: str, ram_mib: int = 65536, **card: Any) -> HostSnapshot:
    """Give a machine with these cards; ``card`` changes each of them."""
    gpus = [parse_gpu(name, catalog(), index) for index, name in enumerate(names)]
    return _with([gpu.model_copy(update=card) for gpu in gpus], ram_mib)


def machine_of(profile: str) -> HostSnapshot:
    """Give the machine that a profile is made for."""
    wanted = catalog().profiles[profile]
    return _with(profile_hardware(wanted, catalog()), wanted.hardware.ram_mib or 65536)


def _with(gpus: Any, ram_mib: int) -> HostSnapshot:
    cards: tuple[Gpu, ...] = tuple(gpus)
    return HostSnapshot(
        name="rig",
        os=OperatingSystem(id="debian", version_id="12"),
        arch="x86_64",
        cpus=16,
        ram_mib=ram_mib,
        gpus=cards,
    )
