"""The graphics memory that our own units hold now: it counts as free. Commands and pure parses.

A process is ours when its control group is that of one of our units. NVIDIA's driver tells what each process holds; of
the others the kernel does, for each open file of a card (Documentation/gpu/drm-usage-stats.rst).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.detect.cards import bus_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Our processes' control groups, and what their open files of cards tell.
OURS = r"""
test -e /opt/agentrig/current || exit 0
grep -H '/agentrig-' /proc/[0-9]*/cgroup
for group in $(grep -l '/agentrig-' /proc/[0-9]*/cgroup); do
grep -HE '^drm-(pdev|client-id|memory-|resident-)' "${group%/cgroup}"/fdinfo/*
done
:"""
APPS = """
command -v nvidia-smi >/dev/null || exit 127
test -e /opt/agentrig/current || exit 0
nvidia-smi --query-compute-apps=gpu_bus_id,pid,used_memory --format=csv,noheader,nounits"""

_GROUP = re.compile(r"^/proc/([0-9]{1,10})/cgroup:[0-9]+:[^:]*:(\S+)$", re.MULTILINE)
#: A unit of the system's own manager, whatever the machine itself runs in; a user's unit of that name is not ours.
_OWN = re.compile(r"(?:^|/)system\.slice/(?:[^/]+\.slice/)*agentrig-[^/]+\.service(?:/|$)")
_USERS = re.compile(r"(?:^|/)user\.slice/")
_APP = re.compile(r"^([0-9A-Fa-f]{4,8}:[0-9A-Fa-f:.]{7}), ([0-9]{1,10}), ([0-9]{1,9})$", re.MULTILINE)
_OPEN = re.compile(
    r"^/proc/([0-9]{1,10})/fdinfo/([0-9]+):drm-([a-z0-9-]+):[ \t]*(\S+)(?: (KiB|MiB))?[ \t]*$", re.MULTILINE
)
_PER_MIB = {"KiB": 1 << 10, "MiB": 1, "": 1 << 20}


def parse_apps(text: str) -> dict[tuple[str, int], int]:
    """Give (bus id, process) -> MiB, from nvidia-smi's rows; a process whose memory it does not tell is left out."""
    held: dict[tuple[str, int], int] = {}
    for place, process, memory in _APP.findall(text):
        try:
            key = (bus_id(place), int(process))
        except ValueError:
            continue
        held[key] = held.get(key, 0) + int(memory)
    return held


def own_processes(text: str) -> frozenset[int]:
    """Give the processes of our own units."""
    return frozenset(int(pid) for pid, group in _GROUP.findall(text) if _OWN.search(group) and not _USERS.search(group))


def held(text: str, apps: Mapping[tuple[str, int], int], unified: Collection[str] = ()) -> dict[str, int]:
    """Give bus id -> MiB that our own units hold there. ``unified`` are cards that use the system's memory."""
    own = own_processes(text)
    found: dict[str, int] = {}
    for (place, process), memory in apps.items():
        if process in own:
            found[place] = found.get(place, 0) + memory
    told = {place for place, _ in apps}
    return found | {place: memory for place, memory in _by_files(text, own, unified).items() if place not in told}


def _by_files(text: str, own: Collection[int], unified: Collection[str]) -> dict[str, int]:
    """Add up the kernel's figures, each client of a driver once: its file may be open many times."""
    files: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for process, number, key, value, unit in _OPEN.findall(text):
        if int(process) in own:
            files.setdefault((process, number), {})[key] = (value, unit)
    clients: dict[tuple[str, str], int] = {}
    for (process, number), about in files.items():
        try:
            place = bus_id(about["pdev"][0])
        except (KeyError, ValueError):
            continue
        client = about["client-id"][0] if "client-id" in about else f"{process}/{number}"
        clients[place, client] = _in_memory(about, shared=place in unified)
    found: dict[str, int] = {}
    for (place, _), memory in clients.items():
        found[place] = found.get(place, 0) + memory
    return found


def _in_memory(about: Mapping[str, tuple[str, str]], *, shared: bool) -> int:
    """Give what one client holds on the card in MiB: amdgpu's ``vram``, xe's ``vram0``, i915's ``local0``."""
    regions = r"(?:vram|local)[0-9]*" + ("|gtt" if shared else "")
    for kind in ("resident", "memory"):
        told = [
            int(value) // _PER_MIB[unit]
            for key, (value, unit) in about.items()
            if re.fullmatch(rf"{kind}-(?:{regions})", key) and re.fullmatch(r"[0-9]{1,15}", value)
        ]
        if told:
            return sum(told)
    return 0
