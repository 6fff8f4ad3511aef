"""Macs with Apple's processors: one memory for processor and graphics. Commands and pure parses.

macOS has no /proc and no /sys: these probes answer there what others answer on Linux, and are missing elsewhere.
"""

from __future__ import annotations

import json
import re

from orchestrator.detect.cards import Cards
from orchestrator.detect.system import Cpus, Machine, Memory
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, OperatingSystem, Problem

DARWIN = "Darwin"
_NEED = f'test "$(uname -s)" = {DARWIN} || exit 127'
SYSTEM = f"{_NEED}\nsw_vers; sysctl hw.ncpu hw.memsize; sysctl hw.optional; vm_stat"
CARDS = f"{_NEED}\nsystem_profiler -json SPDisplaysDataType SPHardwareDataType"

#: It sits on no bus; the first place stands for it.
_PLACE = "00000000:00:00.0"
_MIB = 1 << 20
_GIB = 1 << 10
#: Pages that a program could still get (vm_stat(1)): free, read ahead, and not used for long.
_SPARE = "free|inactive|speculative"


def parse_system(text: str) -> Machine:
    """Read sw_vers, sysctl's ``name: value`` and vm_stat's pages; raises ProbeGarbled without processors or memory."""
    about = dict(re.findall(r"^(ProductName|ProductVersion|hw\.ncpu|hw\.memsize):\s+(\S.*?)\s*$", text, re.MULTILINE))
    cpus, memory = about.get("hw.ncpu", ""), about.get("hw.memsize", "")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", cpus) or not re.fullmatch(r"[1-9][0-9]{6,14}", memory):
        raise ProbeGarbled("sysctl gives no number of processors and no memory")
    version = about.get("ProductVersion", "")
    flags = re.findall(r"^hw\.optional\.(?:arm\.)?(\w+): 1$", text, re.MULTILINE)
    return Machine(
        OperatingSystem(id="macos", version_id=version, pretty=f"macOS {version}".strip()),
        Cpus(int(cpus), tuple(sorted({flag.lower() for flag in flags}))),
        Memory(int(memory) // _MIB, _spare(text, int(memory) // _MIB)),
    )


def _spare(text: str, total: int) -> int | None:
    size = re.search(r"page size of ([0-9]{4,6}) bytes", text)
    pages = re.findall(rf"^Pages (?:{_SPARE}):\s+([0-9]{{1,12}})\.$", text, re.MULTILINE)
    return min(total, sum(map(int, pages)) * int(size[1]) // _MIB) if size and pages else None


def parse_cards(text: str, memory: Memory) -> Cards:
    """Read system_profiler's JSON: Apple's graphics with the machine's memory; raises ProbeGarbled.

    A Mac with an Intel processor has other makers' cards: a problem, for nothing here runs on them.
    """
    try:
        told = json.loads(text)
        rows = [row for row in told["SPDisplaysDataType"] if isinstance(row, dict)]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ProbeGarbled("system_profiler does not list the graphics as JSON") from None
    gpus, problems = [], []
    for row in rows:
        name = str(row.get("sppci_model") or row.get("_name") or "")
        if row.get("spdisplays_vendor") == "sppci_vendor_Apple" and name.startswith("Apple "):
            gpus.append(_gpu(name, memory, display=bool(row.get("spdisplays_ndrvs"))))
        else:
            problems.append(_other(name))
    return Cards(gpus=tuple(gpus[:1]), problems=tuple(problems))


def _gpu(name: str, memory: Memory, *, display: bool) -> Gpu:
    return Gpu(
        index=0,
        vendor="apple",
        name=f"{name} {round(memory.total / _GIB)}GB",
        vram_mib=memory.total,
        vram_free_mib=memory.free,
        bus_id=_PLACE,
        source="system_profiler",
        drives_display=display,
    )


def _other(name: str) -> Problem:
    what = f"nothing here runs on {name or 'a card without a name'} under macOS"
    return Problem(kind="gpu_unknown", what=what, do="use a Mac with one of Apple's own processors, or Linux")
