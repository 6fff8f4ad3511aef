"""NVIDIA's cards as nvidia-smi tells of them, and the driver's complaints. Commands and pure parses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.detect.cards import Cards, bus_id
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ASKED = (
    "index,name,memory.total,memory.free,pci.bus_id,compute_cap,display_active,mig.mode.current,"
    "pcie.link.gen.max,pcie.link.width.max,driver_version"
)
#: The second question is for drivers before 510, which know fewer columns.
_OLD = _ASKED.replace("compute_cap,", "").replace("mig.mode.current,", "")
_CSV = "--format=csv,noheader,nounits"
_NEED = "command -v nvidia-smi >/dev/null || exit 127"
SMI = f"{_NEED}\nnvidia-smi --query-gpu={_ASKED} {_CSV} 2>&1 || nvidia-smi --query-gpu={_OLD} {_CSV} 2>&1"
CUDA = f"{_NEED}\nnvidia-smi | grep -m1 'CUDA.*Version'"
TOPOLOGY = f"{_NEED}\nnvidia-smi topo -m || :"
#: Memory that our own units hold: the rows of processes in their control groups.
OURS = f"""
test -e /opt/agentrig/current || exit 0
{_NEED}
nvidia-smi --query-compute-apps=gpu_bus_id,pid,used_memory {_CSV} | while IFS=', ' read -r bus process memory; do
grep -q '/agentrig-[a-z]*\\.service' "/proc/$process/cgroup" && echo "$bus $memory"
done
:"""
MODULE = "test -r /proc/driver/nvidia/version || exit 0; head -n1 /proc/driver/nvidia/version"

_OLD_REST = 4
_COLUMNS = {9, 11}
_FAILURES = (
    (
        re.compile(r"version mismatch", re.IGNORECASE),
        "driver_mismatch",
        "the loaded NVIDIA module is not the installed driver's",
        "reboot, and hold the driver's packages",
    ),
    (
        re.compile(r"couldn't communicate with the NVIDIA driver|driver (is )?not loaded", re.IGNORECASE),
        "driver_not_loaded",
        "the NVIDIA driver is installed and its module is not loaded",
        "reboot; under Secure Boot sign the module",
    ),
    (
        re.compile(r"gpu is lost|unable to determine the device handle", re.IGNORECASE),
        "gpu_lost",
        "an NVIDIA card has fallen off the bus",
        "see dmesg for Xid 79; check its power and seat, then reboot",
    ),
    (
        re.compile(r"insufficient permissions", re.IGNORECASE),
        "gpu_forbidden",
        "this user may not ask the NVIDIA driver",
        "detect as root",
    ),
)


def failure(said: str) -> Problem | None:
    """Give what a driver's complaint means, None for one that nobody knows."""
    for pattern, kind, what, do in _FAILURES:
        if pattern.search(said):
            return Problem(kind=kind, what=what, do=do)
    return None


def parse_smi(text: str) -> Cards:
    """Read nvidia-smi's rows; a known complaint becomes a problem, other text raises ProbeGarbled."""
    gpus, problems, driver = [], [], None
    for line in filter(str.strip, text.splitlines()):
        columns = [column.strip() for column in line.split(", ")]
        if len(columns) in _COLUMNS and columns[0].isdecimal():
            gpu, driver = _smi_gpu(columns), columns[-1]
            gpus += [gpu] if gpu else []
            problems += [] if gpu else [no_memory(columns[1])]
        elif known := failure(line):
            problems += [] if known in problems else [known]
    if not gpus and not problems and "No devices were found" not in text:
        raise ProbeGarbled("nvidia-smi does not list one card a line")
    return Cards(gpus=tuple(gpus), driver=driver, problems=tuple(problems))


def _smi_gpu(columns: Sequence[str]) -> Gpu | None:
    index, name, total, free, place, *rest = columns
    capability, display, mig, generation, width = ["", rest[0], "", *rest[1:3]] if len(rest) == _OLD_REST else rest[:5]
    if not total.isdecimal() or int(total) < 1:
        return None
    try:
        return Gpu(
            index=int(index),
            vendor="nvidia",
            name=name,
            vram_mib=int(total),
            vram_free_mib=_number(free),
            compute_capability=capability if re.fullmatch(r"\d+\.\d+", capability) else None,
            bus_id=bus_id(place),
            source="nvidia-smi",
            drives_display=display in {"Enabled", "Yes"},
            mig=mig == "Enabled",
            pcie_generation=_number(generation),
            pcie_width=_number(width),
        )
    except ValueError:
        raise ProbeGarbled("nvidia-smi gives a card no place on the bus") from None


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def no_memory(name: str) -> Problem:
    """Give the problem of a card whose memory its driver does not tell."""
    return Problem(
        kind="gpu_unknown",
        what=f"the driver does not tell the memory of {name}",
        do='give it by hand: --gpu "NAME:MIB"',
    )


def parse_cuda(text: str) -> str | None:
    """Read the newest CUDA version that the driver serves."""
    said = re.search(r"CUDA (?:UMD )?Version\s*:\s*(\d+\.\d+)", text)
    return said[1] if said else None


def parse_topology(text: str) -> tuple[Link, ...]:
    """Read ``nvidia-smi topo -m``: the upper half of its matrix, cards alone."""
    lines = [line.split("\t") for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    header = next((line for line in lines if "GPU0" in [cell.strip() for cell in line] and not line[0].strip()), [])
    columns = {at: int(cell.strip()[3:]) for at, cell in enumerate(header) if re.fullmatch(r"GPU\d+", cell.strip())}
    found = []
    for line in lines:
        row = re.fullmatch(r"GPU(\d+)", line[0].strip())
        if row:
            pairs = [(columns[at], cell.strip()) for at, cell in enumerate(line) if at in columns]
            found += [Link(first=int(row[1]), second=to, kind=kind) for to, kind in pairs if to > int(row[1]) and kind]
    return tuple(found)


def parse_ours(text: str) -> dict[str, int]:
    """Give bus id -> MiB that our own units hold there."""
    held: dict[str, int] = {}
    for place, memory in re.findall(r"^([0-9A-Fa-f]{4,8}:\S+) (\d+)$", text, re.MULTILINE):
        held[bus_id(place)] = held.get(bus_id(place), 0) + int(memory)
    return held


def parse_module(text: str) -> str | None:
    """Read the loaded module's version, None where none is loaded."""
    said = re.search(r"NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)?)\s", text)
    if text.strip() and not said:
        raise ProbeGarbled("the loaded NVIDIA module gives no version")
    return said[1] if said else None


def installed_driver(packages: Mapping[str, str]) -> str | None:
    """Give the version of the driver's own library among the installed packages, by Debian's and Ubuntu's names."""
    for name, version in packages.items():
        if name == "libnvidia-ml1" or re.fullmatch(r"libnvidia-compute-\d+(-server)?", name):
            return version.partition(":")[2].partition("-")[0] or version.partition("-")[0]
    return None
