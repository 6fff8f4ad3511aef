"""How NVIDIA's cards are: heat, what slows them, power, clocks, errors of memory, Xid errors, who holds memory there.

Commands, pure parses, and the limits of a profile. What a driver does not tell stays unknown, and is never taken for
well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ParseError, fromstring

from orchestrator.errors import ProbeGarbled
from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.profile import Limits

#: The whole of what the driver tells, less its long lists of clocks; ended where it hangs on a card that is gone.
HEALTH = r"""
command -v nvidia-smi >/dev/null || exit 127
said=$(timeout 20 nvidia-smi -q -x 2>&1)
status=$?
printf '%s\n' "$said" | sed '/<supported_clocks>/,/<\/supported_clocks>/d'
exit $status"""
#: Xid errors of the kernel's log since it started; where the journal has none, of its ring.
XIDS = """
command -v nvidia-smi >/dev/null || exit 127
said=$(journalctl --dmesg --boot --quiet --no-pager --output=cat | grep -F 'NVRM: Xid' | tail -n 200)
test -n "$said" || said=$(dmesg | grep -F 'NVRM: Xid' | tail -n 200)
printf '%s\\n' "$said"
"""
#: Degrees beyond which a card is too hot where it names none itself: the lowest "GPU Max Operating Temp" that
#: nvidia-smi tells of the cards seen (A100, T4: 85; RTX 3090: 93).
TOO_HOT_CELSIUS = 85
#: What slows a card though nobody asked for it (nvml.h, nvmlClocksEventReasons): its own heat, its power supply.
HARMFUL = {
    "hw_thermal_slowdown": "its heat halves its clocks",
    "hw_power_brake_slowdown": "its power supply halves its clocks",
}
#: Xid errors that are the card's or the driver's own, not a program's (NVIDIA, "Xid Errors"): what each means.
SERIOUS_XIDS = {
    48: "an error of memory that could not be put right",
    62: "its own controller stopped",
    64: "a bad row of memory could not be replaced",
    74: "an error of NVLink",
    79: "it fell off the bus",
    95: "an error of memory that could not be kept to one program",
    119: "its own processor (GSP) does not answer",
    120: "its own processor (GSP) failed",
    140: "an error of memory that was not put right",
    143: "it could not be started",
}
#: Bits of the reasons for which clocks are held (nvml.h), by nvidia-smi's own names.
REASONS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}
_IDLE = "gpu_idle"
_LOG, _END = "<nvidia_smi_log", "</nvidia_smi_log>"
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2})(?:\.[0-7])?\): ([0-9]{1,4}),")
_REASON = re.compile(r"clocks_(?:event|throttle)_reason_(\w+)")
_NUMBER = re.compile(r"(-?[0-9]{1,9}(?:\.[0-9]{1,3})?)(?: (?:C|W|MHz|MiB))?")
_PLACE = re.compile(r"[0-9a-f]{8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class CardProcess(Noun):
    """A program that computes on a card, and the MiB that it holds there where the driver tells."""

    pid: int
    program: str = ""
    mib: int | None = None


class CardHealth(Noun):
    """How one card is. None is what its driver does not tell.

    ``slows_at_celsius`` is the heat from which the card itself goes below its base clock. ``slowed_by`` are
    nvidia-smi's names for what holds its clocks now. Errors of memory are those since the driver was loaded, Xid
    numbers those since the kernel started, each once.
    """

    temperature_celsius: int | None = None
    slows_at_celsius: int | None = None
    memory_temperature_celsius: int | None = None
    slowed_by: tuple[str, ...] | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    graphics_mhz: int | None = None
    memory_mhz: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    xids: tuple[int, ...] = ()
    processes: tuple[CardProcess, ...] = ()

    @property
    def told(self) -> bool:
        """Tell whether the driver said anything by which a card that is not well would show."""
        return self.temperature_celsius is not None or self.slowed_by is not None


def parse_health(text: str) -> dict[str, CardHealth]:
    """Read ``nvidia-smi -q -x``: bus id -> how the card is; nothing where it says something else than cards.

    Raises ProbeGarbled where it was cut off or is not understood.
    """
    start = text.find(_LOG)
    if start < 0:
        return {}
    end = text.find(_END, start)
    if end < 0:
        raise ProbeGarbled("nvidia-smi -q -x was cut off")
    try:
        # No prologue goes in, so no entity can be declared.
        log = fromstring(text[start : end + len(_END)])  # noqa: S314
    except ParseError:
        raise ProbeGarbled("nvidia-smi -q -x is not understood") from None
    places = {gpu.get("id", "").lower(): gpu for gpu in log.findall("gpu")}
    return {place: _card(gpu) for place, gpu in places.items() if _PLACE.fullmatch(place)}


def _card(gpu: Element) -> CardHealth:
    own, slowdown = "temperature/gpu_temp_max_gpu_threshold", "temperature/gpu_temp_slow_threshold"
    power = next((name for name in ("gpu_power_readings", "power_readings") if gpu.find(name) is not None), "")
    draws = ("instant_power_draw", "average_power_draw", "power_draw")
    limits = ("current_power_limit", "enforced_power_limit", "power_limit")
    return CardHealth(
        temperature_celsius=_whole(gpu, "temperature/gpu_temp"),
        slows_at_celsius=_whole(gpu, own, slowdown),
        memory_temperature_celsius=_whole(gpu, "temperature/memory_temp"),
        slowed_by=_reasons(gpu),
        power_watts=_number(gpu, *(f"{power}/{name}" for name in draws)),
        power_limit_watts=_number(gpu, *(f"{power}/{name}" for name in limits)),
        graphics_mhz=_whole(gpu, "clocks/graphics_clock"),
        memory_mhz=_whole(gpu, "clocks/mem_clock"),
        ecc_corrected=_errors(gpu, "correctable", "single_bit"),
        ecc_uncorrected=_errors(gpu, "uncorrectable", "double_bit"),
        processes=tuple(_processes(gpu)),
    )


def _reasons(gpu: Element) -> tuple[str, ...] | None:
    """Give what holds the clocks but for having nothing to do; None where the driver tells of no reason at all."""
    told = {
        match[1]: (reason.text or "").strip()
        for block in ("clocks_event_reasons", "clocks_throttle_reasons")
        for reason in gpu.findall(f"{block}/*")
        if (match := _REASON.fullmatch(reason.tag)) and (reason.text or "").strip() in {"Active", "Not Active"}
    }
    return tuple(name for name, state in told.items() if state == "Active" and name != _IDLE) if told else None


def _errors(gpu: Element, kind: str, old: str) -> int | None:
    """Give the sum of the errors of one kind since the driver was loaded; cards before Turing count by bits."""
    found = [
        counted
        for counter in gpu.findall("ecc_errors/volatile/*")
        if counter.tag.split("_", 1)[-1].startswith(kind) and (counted := _value(counter.text)) is not None
    ]
    before = _value(gpu.findtext(f"ecc_errors/volatile/{old}/total"))
    return int(sum(found)) if found else None if before is None else int(before)


def _processes(gpu: Element) -> Iterable[CardProcess]:
    for one in gpu.findall("processes/process_info"):
        pid, memory = _value(one.findtext("pid")), _value(one.findtext("used_memory"))
        if pid is not None:
            said = (one.findtext("process_name") or "").strip()
            program = "" if said.startswith("[") else said.split(" ")[0].rsplit("/", 1)[-1]
            yield CardProcess(pid=int(pid), program=program[:60], mib=None if memory is None else int(memory))


def _number(gpu: Element, *paths: str) -> float | None:
    return next((value for path in paths if (value := _value(gpu.findtext(path))) is not None), None)


def _whole(gpu: Element, *paths: str) -> int | None:
    value = _number(gpu, *paths)
    return None if value is None else int(value)


def _value(text: str | None) -> float | None:
    """Give a number with or without its unit; None for N/A, for an error's words and for anything else."""
    said = _NUMBER.fullmatch((text or "").strip())
    return float(said[1]) if said else None


def parse_xids(text: str) -> dict[str, tuple[int, ...]]:
    """Read Xid errors of a kernel's log: bus id -> their numbers, each once, in their order."""
    found: dict[str, dict[int, None]] = {}
    for place, number in _XID.findall(text):
        domain, rest = place.lower().split(":", 1)
        found.setdefault(f"{int(domain, 16):08x}:{rest}.0", {})[int(number)] = None
    return {place: tuple(numbers) for place, numbers in found.items()}


def with_xids(cards: Mapping[str, CardHealth], xids: Mapping[str, tuple[int, ...]]) -> dict[str, CardHealth]:
    """Give cards with the Xid errors of each; one that only the kernel still speaks of is there as well."""
    places = dict.fromkeys((*cards, *xids))
    return {place: cards.get(place, CardHealth()).model_copy(update={"xids": xids.get(place, ())}) for place in places}


def shortcomings(health: CardHealth, limits: Limits) -> tuple[str, ...]:
    """Give what is wrong with a card, a sentence each; nothing where it is well by all that its driver tells."""
    found = [f"Xid {number}: {SERIOUS_XIDS[number]}" for number in health.xids if number in SERIOUS_XIDS]
    most = limits.gpu_temperature_celsius or health.slows_at_celsius or TOO_HOT_CELSIUS
    if health.temperature_celsius is not None and health.temperature_celsius > most:
        found.append(f"it is at {health.temperature_celsius} °C, and {most} °C is what it may be")
    found += [why for reason, why in HARMFUL.items() if reason in (health.slowed_by or ())]
    if (health.ecc_uncorrected or 0) > limits.gpu_uncorrected_errors:
        found.append(f"{health.ecc_uncorrected} errors of its memory could not be put right")
    return tuple(found)


def in_words(health: CardHealth) -> str:
    """Give how a card is in one line, leaving out what its driver does not tell."""
    parts = []
    if health.temperature_celsius is not None:
        most = f" (slows at {health.slows_at_celsius})" if health.slows_at_celsius is not None else ""
        parts.append(f"{health.temperature_celsius} °C{most}")
    if health.power_watts is not None:
        most = f" of {health.power_limit_watts:.0f}" if health.power_limit_watts is not None else ""
        parts.append(f"{health.power_watts:.0f}{most} W")
    parts += [f"{health.graphics_mhz} MHz"] if health.graphics_mhz is not None else []
    parts += [f"slowed by {', '.join(health.slowed_by)}"] if health.slowed_by else []
    parts += [f"{health.ecc_uncorrected} uncorrected errors"] if health.ecc_uncorrected else []
    parts += [f"Xid {', '.join(map(str, health.xids))}"] if health.xids else []
    parts += [f"{one.program or one.pid} holds {one.mib} MiB" for one in health.processes if one.mib is not None]
    return ", ".join(parts) or "its driver tells nothing of how it is"
