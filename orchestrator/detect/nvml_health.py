"""How NVIDIA's cards are, through an initialised NVML: what a function does not answer stays unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.card_health import REASONS, CardHealth, CardProcess

if TYPE_CHECKING:
    from collections.abc import Callable

_MIB = 1 << 20
_MILLI = 1000
#: nvml.h: the sensor of the chip; thresholds of heat; domains of clocks; kinds of errors and how long they are counted.
_CHIP, _MOST, _SLOWDOWN, _GRAPHICS, _MEMORY, _CORRECTED, _UNCORRECTED, _VOLATILE = 0, 3, 1, 0, 2, 0, 1, 0


def nvml_health(nvml: Any, handle: Any) -> CardHealth | None:
    """Give how one card is, None where its driver answers none of the questions."""

    def ask(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(handle, *arguments)
        except nvml.NVMLError:
            return None

    limit = ask(nvml.nvmlDeviceGetTemperatureThreshold, _MOST)
    reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
    draw, most = ask(nvml.nvmlDeviceGetPowerUsage), ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    running = ask(nvml.nvmlDeviceGetComputeRunningProcesses) or []
    found = CardHealth(
        temperature_celsius=ask(nvml.nvmlDeviceGetTemperature, _CHIP),
        slows_at_celsius=limit or ask(nvml.nvmlDeviceGetTemperatureThreshold, _SLOWDOWN),
        slowed_by=None if reasons is None else tuple(name for bit, name in REASONS.items() if reasons & bit),
        power_watts=None if draw is None else draw / _MILLI,
        power_limit_watts=None if most is None else most / _MILLI,
        graphics_mhz=ask(nvml.nvmlDeviceGetClockInfo, _GRAPHICS),
        memory_mhz=ask(nvml.nvmlDeviceGetClockInfo, _MEMORY),
        ecc_corrected=ask(nvml.nvmlDeviceGetTotalEccErrors, _CORRECTED, _VOLATILE),
        ecc_uncorrected=ask(nvml.nvmlDeviceGetTotalEccErrors, _UNCORRECTED, _VOLATILE),
        processes=tuple(
            CardProcess(pid=one.pid, mib=one.usedGpuMemory // _MIB if one.usedGpuMemory else None) for one in running
        ),
    )
    return found if found != CardHealth() else None
