"""NVIDIA's cards through NVML, the library of this machine's own driver.

A make-believe NVML serves as well as a real one: what it does not answer stays unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.detect.cards import Cards, bus_id
from orchestrator.detect.nvml_health import nvml_health
from orchestrator.detect.smi import divided, failure, no_memory, unified
from orchestrator.detect.system import Memory, parse_memory
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MIB = 1 << 20
#: NVML's levels of a common ancestor, by nvidia-smi's own words (nvml.h, nvmlGpuTopologyLevel_t).
_LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_NVLINKS = 18
#: What two cards can do together (nvml.h, nvmlGpuP2PCapsIndex_t); the binding's own constants are not all numbers.
_READ, _NVLINK, _WORKS = 0, 2, 0


def read_nvml() -> Cards | None:
    """Ask this machine's driver through NVML, None where there is no such library."""
    import pynvml  # noqa: PLC0415 - most machines have no such card

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        known = failure(str(error))
        return Cards(problems=(known,)) if known else None
    try:
        return nvml_cards(pynvml)
    except pynvml.NVMLError as error:
        what = f"NVML answered and then failed: {error}"
        return Cards(problems=(failure(str(error)) or Problem(kind="driver_failed", what=what, do="see dmesg"),))
    finally:
        pynvml.nvmlShutdown()


def nvml_cards(nvml: Any) -> Cards:
    """Give what an initialised NVML tells; a card that fails is a problem, and the others are still read."""
    gpus, problems, handles = [], [], {}
    apps: dict[tuple[str, int], int] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu = _nvml_gpu(nvml, index, handle)
        except (nvml.NVMLError, ValueError) as error:
            problems.append(failure(str(error)) or no_memory(f"card {index}"))
            continue
        gpus.append(gpu)
        handles[index] = handle
        apps |= {(gpu.bus_id, process): memory for process, memory in _nvml_apps(nvml, handle).items()}
        problems += [divided(gpu.bus_id, _nvml_parts(nvml, handle))] if gpu.mig else []
    cuda = _maybe(nvml, nvml.nvmlSystemGetCudaDriverVersion)
    return Cards(
        gpus=tuple(gpus),
        driver=_text(_maybe(nvml, nvml.nvmlSystemGetDriverVersion)),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        links=_nvml_links(nvml, handles),
        problems=tuple(dict.fromkeys(problems)),
        apps=apps,
    )


def _nvml_gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    name = _text(nvml.nvmlDeviceGetName(handle)) or ""
    memory = _nvml_memory(nvml, name, handle)
    capability = _maybe(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    mig = _maybe(nvml, nvml.nvmlDeviceGetMigMode, handle)
    return Gpu(
        index=index,
        vendor="nvidia",
        name=name,
        vram_mib=memory.total,
        vram_free_mib=memory.free,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        bus_id=bus_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId) or ""),
        source="nvml",
        drives_display=bool(_maybe(nvml, nvml.nvmlDeviceGetDisplayActive, handle)),
        mig=bool(mig and mig[0]),
        pcie_generation=_maybe(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_width=_maybe(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        health=nvml_health(nvml, handle),
    )


def _nvml_memory(nvml: Any, name: str, handle: Any) -> Memory:
    """Give a card's memory; one that has none of its own uses the machine's."""
    try:
        told = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        shared = unified(name, _ram())
        if shared is None:
            raise
        return shared
    return Memory(told.total // _MIB, told.free // _MIB)


def _ram() -> Memory | None:
    try:
        return parse_memory(Path("/proc/meminfo").read_text(encoding="ascii"))
    except (OSError, ProbeGarbled):
        return None


def _nvml_apps(nvml: Any, handle: Any) -> dict[int, int]:
    """Give process -> MiB that it computes with; a process whose memory the driver does not tell is left out."""
    running = _maybe(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return {one.pid: one.usedGpuMemory // _MIB for one in running if one.usedGpuMemory}


def _nvml_parts(nvml: Any, handle: Any) -> tuple[str, ...]:
    """Give the parts of a divided card as MIG names them: the last word of each one's own name."""
    found = []
    for index in range(_maybe(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        part = _maybe(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        name = _text(_maybe(nvml, nvml.nvmlDeviceGetName, part)) if part else None
        found += [name.split()[-1]] if name else []
    return tuple(found)


def _nvml_links(nvml: Any, handles: Mapping[int, Any]) -> tuple[Link, ...]:
    places = {index: _nvml_place(nvml, handle) for index, handle in handles.items()}
    bridges = {index: _bridges(nvml, handle) for index, handle in handles.items()} if len(handles) > 1 else {}
    found = []
    for first, second in ((one, two) for one in handles for two in handles if one < two):
        pair = handles[first], handles[second]
        direct = bridges[first].count(places[second])
        if not direct and _p2p(nvml, pair, _NVLINK):
            direct = min(len(bridges[first]), len(bridges[second]))
        level = _maybe(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, *pair)
        kind = f"NV{direct}" if direct and places[second] else _LEVELS.get(level)
        readable = _p2p(nvml, pair, _READ)
        found += [Link(first=first, second=second, kind=kind, p2p=readable)] if kind else []
    return tuple(found)


def _p2p(nvml: Any, pair: tuple[Any, Any], capability: int) -> bool | None:
    """Tell whether two cards have a capability together; NVLink through a switch shows here alone."""
    status = _maybe(nvml, nvml.nvmlDeviceGetP2PStatus, *pair, capability)
    return None if status is None else bool(status == _WORKS)


def _nvml_place(nvml: Any, handle: Any) -> str | None:
    about = _maybe(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    return _text(about.busId) if about else None


def _bridges(nvml: Any, handle: Any) -> list[str | None]:
    """Give the far end of each active NVLink of a card."""
    ends = []
    for lane in range(_NVLINKS):
        if _maybe(nvml, nvml.nvmlDeviceGetNvLinkState, handle, lane):
            about = _maybe(nvml, nvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, lane)
            ends.append(_text(about.busId) if about else None)
    return ends


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _maybe(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Give a function's answer, None where this driver has none."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None
