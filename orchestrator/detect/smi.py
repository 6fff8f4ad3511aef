"""NVIDIA's cards as nvidia-smi tells of them, and the driver's complaints. Commands and pure parses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.detect.cards import Cards, bus_id
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.detect.system import Memory

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
#: How cards are joined, then which may read which other's memory.
TOPOLOGY = f"{_NEED}\nnvidia-smi topo -m; nvidia-smi topo -p2p r; :"
#: The parts of divided cards; asked only where the driver has made one (MIG User Guide, "Device Enumeration").
PARTS = f"""
{_NEED}
ls -d /proc/driver/nvidia/capabilities/gpu*/mig/gi* >/dev/null || exit 0
nvidia-smi -L"""
MODULE = "test -r /proc/driver/nvidia/version || exit 0; head -n1 /proc/driver/nvidia/version"
#: What lies on the disk: the library by its full name, the module made for the kernel that runs.
INSTALLED = """
for library in /usr/lib/*-linux-gnu/libnvidia-ml.so.1 /usr/lib64/libnvidia-ml.so.1 /usr/lib/libnvidia-ml.so.1; do
test -e "$library" && echo "library $(basename "$(readlink -f "$library")")" && break
done
command -v modinfo >/dev/null || exit 0
if version=$(modinfo -F version nvidia); then
echo "module $version"
modinfo -F signer nvidia | sed 's/^/signer /'
else echo 'module none'
fi
:"""

_PLACE = r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]"
_VERSION = r"[0-9]{3,4}\.[0-9]{1,4}(?:\.[0-9]{1,4})?"
_WORD = r"[^,]{1,40}"
#: The rows of the two questions; what a driver does not know stands in brackets.
_ROW = re.compile(
    rf"(?P<index>[0-9]{{1,3}}), (?P<name>[^,]+), (?P<total>{_WORD}), (?P<free>{_WORD}), (?P<place>{_PLACE}), "
    rf"(?:(?P<capability>[0-9]{{1,2}}\.[0-9]|\[[^\]]*\]|N/A), )?(?P<display>[A-Z][a-z]+|\[[^\]]*\]|N/A), "
    rf"(?:(?P<mig>[A-Z][a-z]+|\[[^\]]*\]|N/A), )?(?P<generation>{_WORD}), (?P<width>{_WORD}), (?P<driver>{_VERSION})"
)
#: Cards without memory of their own, by NVIDIA's names: DGX Spark and the Jetson family.
_UNIFIED = re.compile(r"\b(GB10|Orin|Thor|Xavier)\b")
#: A path between two cards, and whether one may read the other's memory, in nvidia-smi's words.
_PATH = re.compile(r"NV[0-9]{1,2}|PIX|PXB|PHB|NODE|SYS")
_P2P = {"OK", "CNS", "GNS", "TNS", "NS", "DR"}
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


def parse_smi(text: str, ram: Memory | None = None) -> Cards:
    """Read nvidia-smi's rows; a known complaint becomes a problem, other text raises ProbeGarbled.

    ``ram`` is the memory of a card that has none of its own. A row without its end is one that was cut off.
    """
    gpus: dict[str, Gpu] = {}
    problems: list[Problem] = []
    driver = None
    for line in text.splitlines(keepends=True):
        row = _ROW.fullmatch(line.rstrip()) if line.endswith("\n") else None
        if row:
            gpu, driver = _smi_gpu(row, ram), row["driver"]
            problems += [] if gpu else [no_memory(row["name"])]
            if gpu and gpu.index not in {one.index for one in gpus.values()}:
                gpus.setdefault(gpu.bus_id, gpu)
        elif (known := failure(line) or _cut(line)) and known not in problems:
            problems.append(known)
    if not gpus and not problems and "No devices were found" not in text:
        raise ProbeGarbled("nvidia-smi does not list one card a line")
    return Cards(gpus=tuple(gpus.values()), driver=driver, problems=tuple(problems))


def _cut(line: str) -> Problem | None:
    """Give the problem of a last line that has no end, None for one that has."""
    if line.endswith("\n") or not line.strip() or not line[0].isdecimal():
        return None
    return Problem(kind=ProbeGarbled.kind, what="nvidia-smi's answer was cut off", do="detect again")


def _smi_gpu(row: re.Match[str], ram: Memory | None) -> Gpu | None:
    shared = unified(row["name"], ram)
    total, free = _number(row["total"]), _number(row["free"])
    if not total and shared:
        total, free = shared.total, shared.free
    if not total:
        return None
    capability = row["capability"] or ""
    return Gpu(
        index=int(row["index"]),
        vendor="nvidia",
        name=row["name"],
        vram_mib=total,
        vram_free_mib=free if free is not None and free <= total else None,
        compute_capability=capability if capability[:1].isdecimal() else None,
        bus_id=bus_id(row["place"]),
        source="nvidia-smi",
        drives_display=row["display"] in {"Enabled", "Yes"},
        mig=row["mig"] == "Enabled",
        pcie_generation=_number(row["generation"]),
        pcie_width=_number(row["width"]),
    )


def unified(name: str, ram: Memory | None) -> Memory | None:
    """Give the machine's memory for a card that has none of its own, None for every other card."""
    return ram if _UNIFIED.search(name) else None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,8}", text) else None


def no_memory(name: str) -> Problem:
    """Give the problem of a card whose memory its driver does not tell."""
    return Problem(
        kind="gpu_unknown",
        what=f"the driver does not tell the memory of {name}",
        do='give it by hand: --gpu "NAME:MIB"',
    )


def parse_cuda(text: str) -> str | None:
    """Read the newest CUDA version that the driver serves."""
    said = re.search(r"CUDA (?:UMD )?Version\s*:\s*([0-9]{1,3}\.[0-9]{1,3})\b", text)
    return said[1] if said else None


def parse_topology(text: str) -> tuple[Link, ...]:
    """Read ``nvidia-smi topo -m`` and ``topo -p2p r``: the upper halves of their matrices, cards alone."""
    kinds: dict[tuple[int, int], str] = {}
    readable: dict[tuple[int, int], bool] = {}
    columns: dict[int, int] = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        row = re.fullmatch(r"GPU([0-9]{1,3})", cells[0])
        if not cells[0] and "GPU0" in cells:
            columns = {at: int(cell[3:]) for at, cell in enumerate(cells) if re.fullmatch(r"GPU[0-9]{1,3}", cell)}
        for at, other in columns.items() if row else ():
            pair, cell = (int(row[1]) if row else 0, other), cells[at] if at < len(cells) else ""
            if pair[0] < other and _PATH.fullmatch(cell):
                kinds[pair] = cell
            elif pair[0] < other and cell in _P2P:
                readable[pair] = cell == "OK"
    return tuple(Link(first=one, second=two, kind=kinds[one, two], p2p=readable.get((one, two))) for one, two in kinds)


def parse_parts(text: str) -> dict[int, tuple[str, ...]]:
    """Read ``nvidia-smi -L``: a card's index -> its parts as MIG names them, ``3g.40gb``."""
    found: dict[int, list[str]] = {}
    parts: list[str] = []
    for line in text.splitlines():
        card = re.match(r"GPU ([0-9]{1,3}): ", line)
        part = re.match(r"\s+MIG ([0-9][0-9a-z.+]{1,30})\s+Device\s+[0-9]+:", line)
        if card:
            parts = found.setdefault(int(card[1]), [])
        elif part:
            parts.append(part[1])
    return {index: tuple(names) for index, names in found.items() if names}


def parse_module(text: str) -> str | None:
    """Read the loaded module's version, None where none is loaded."""
    said = re.search(rf"NVRM version:.*?\s({_VERSION})\s", text)
    if text.strip() and not said:
        raise ProbeGarbled("the loaded NVIDIA module gives no version")
    return said[1] if said else None


@dataclass(frozen=True, slots=True)
class Installed:
    """What of the driver lies on the disk: versions, "" where there is none, None where nobody could look."""

    library: str | None = None
    module: str | None = None
    signed: bool = False


def parse_installed(text: str, packages: Mapping[str, str]) -> Installed:
    """Read the library's full name and the module's version; without them the packages tell of the library."""
    library = re.search(rf"^library libnvidia-ml\.so\.({_VERSION})$", text, re.MULTILINE)
    module = re.search(rf"^module (none|{_VERSION})$", text, re.MULTILINE)
    return Installed(
        library[1] if library else _packaged(packages),
        module[1].replace("none", "") if module else None,
        signed=bool(re.search(r"^signer \S", text, re.MULTILINE)),
    )


def _packaged(packages: Mapping[str, str]) -> str | None:
    """Give the version of the driver's own library among the installed packages, by Debian's and Ubuntu's names."""
    for name, version in packages.items():
        if name == "libnvidia-ml1" or re.fullmatch(r"libnvidia-compute-\d+(-server)?", name):
            return version.partition(":")[2].partition("-")[0] or version.partition("-")[0]
    return None


def divided(place: str, parts: tuple[str, ...]) -> Problem:
    """Give the problem of a card that MIG divides: a program gets one part at most."""
    into = f"divided into {', '.join(parts)}" if parts else "set to be divided, and has no part"
    return Problem(
        kind="gpu_divided",
        what=f"the card at {place} is {into} (MIG): a program gets one part at most",
        do="nvidia-smi -mig 0 gives it back whole",
    )
