"""The cards' driver on a host: what keeps nouveau out and upgrades away, and what is set at the cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.render.texts import filled
from orchestrator.render.units import RUNTIME_UNIT, links_of
from orchestrator.rendered import RenderedFile, RenderedLink

if TYPE_CHECKING:
    from orchestrator.deployment import DriverChoice

GPU_UNIT = "agentrig-gpu.service"
#: Where a file of the release lies on the host as well: as a copy, since both are read where ``/opt`` may not be there
#: (the kernel's first minutes, apt's own root).
COPIED = {
    "driver/nouveau.conf": "/etc/modprobe.d/agentrig-nouveau.conf",
    "driver/unattended.conf": "/etc/apt/apt.conf.d/53agentrig-driver",
}


def driver_files(driver: DriverChoice | None) -> tuple[RenderedFile, ...]:
    """Give the files of a choice; none where the driver that is there is left as it is."""
    if driver is None:
        return ()
    found = [RenderedFile(path=path, content=filled(f"{path}.j2")) for path in COPIED if driver.branch]
    if _sets(driver):
        unit = filled(f"units/{GPU_UNIT}.j2", driver=driver, runtime=RUNTIME_UNIT)
        found.append(RenderedFile(path=f"units/{GPU_UNIT}", content=unit))
    return tuple(found)


def driver_links(driver: DriverChoice | None) -> tuple[RenderedLink, ...]:
    """Give the links by which systemd finds the unit that sets the cards."""
    return links_of(GPU_UNIT) if _sets(driver) else ()


def driver_values(driver: DriverChoice | None) -> dict[str, Any]:
    """Give the role's variables; none where nothing is done."""
    if driver is None:
        return {}
    copies = {file.path: file.content for file in driver_files(driver) if file.path in COPIED}
    return {
        "gpu_driver_branch": driver.branch or "",
        "gpu_driver_files": [{"path": COPIED[path], "content": content} for path, content in copies.items()],
        "gpu_driver_unit": GPU_UNIT if _sets(driver) else "",
    }


def _sets(driver: DriverChoice | None) -> bool:
    return driver is not None and (driver.persistence or driver.power_limit_watts is not None)
