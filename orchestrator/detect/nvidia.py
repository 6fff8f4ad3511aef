"""NVIDIA's cards through NVML, the library of this machine's own driver.

A make-believe NVML serves as well as a real one: what it does not answer stays unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.detect.cards import Cards, bus_id
from orchestrator.detect.smi import failure, no_memory
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MIB = 1 << 20
#: NVML's levels of a common ancestor, by nvidia-smi's own words (nvml.h, nvmlGpuTopologyLevel_t).
_LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_NVLINKS = 18


def read_nvml() -> Cards | None:
    """Ask this machine's driver through NVML, None where there is no such library."""
    import pynvml  # noqa: PLC0415 - most machines have no such card

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        known = failure(str(error))
        return Cards(problems=(known,)) if known else None
    try:
        return _nvml_cards(pynvml)
    except pynvml.NVMLError as error:
        what = f"NVML answered and then failed: {error}"
        return Cards(problems=(failure(str(error)) or Problem(kind="driver_failed", what=what, do="see dmesg"),))
    finally:
        pynvml.nvmlShutdown()


def _nvml_cards(nvml: Any) -> Cards:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    gpus, problems = [], []
    for index, handle in enumerate(handles):
        try:
            gpus.append(_nvml_gpu(nvml, index, handle))
        except (nvml.NVMLError, ValueError) as error:
            problems.append(failure(str(error)) or no_memory(f"card {index}"))
    cuda = _maybe(nvml, nvml.nvmlSystemGetCudaDriverVersion)
    return Cards(
        gpus=tuple(gpus),
        driver=_text(_maybe(nvml, nvml.nvmlSystemGetDriverVersion)),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        links=_nvml_links(nvml, handles),
        problems=tuple(problems),
    )


def _nvml_gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    capability = _maybe(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    mig = _maybe(nvml, nvml.nvmlDeviceGetMigMode, handle)
    return Gpu(
        index=index,
        vendor="nvidia",
        name=_text(nvml.nvmlDeviceGetName(handle)) or "",
        vram_mib=memory.total // _MIB,
        vram_free_mib=memory.free // _MIB,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        bus_id=bus_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId) or ""),
        source="nvml",
        drives_display=bool(_maybe(nvml, nvml.nvmlDeviceGetDisplayActive, handle)),
        mig=bool(mig and mig[0]),
        pcie_generation=_maybe(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_width=_maybe(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
    )


def _nvml_links(nvml: Any, handles: Sequence[Any]) -> tuple[Link, ...]:
    places = [_nvml_place(nvml, handle) for handle in handles]
    found = []
    for first, handle in enumerate(handles):
        bridges = _bridges(nvml, handle) if len(handles) > 1 else []
        for second in range(first + 1, len(handles)):
            direct = bridges.count(places[second])
            level = _maybe(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, handle, handles[second])
            kind = f"NV{direct}" if direct and places[second] else _LEVELS.get(level)
            found += [Link(first=first, second=second, kind=kind)] if kind else []
    return tuple(found)


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
