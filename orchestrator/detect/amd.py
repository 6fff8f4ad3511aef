"""AMD's cards as rocm-smi tells of them, where it is there. A command and a pure parse; sysfs needs no such tool."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from orchestrator.detect.cards import bus_id, is_integrated
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import Gpu, Link

#: Every question in one start: the tool is a Python program and takes its time.
ROCM = """
command -v rocm-smi >/dev/null || exit 127
rocm-smi --showproductname --showbus --showmeminfo vram --showtopotype --json"""

_MIB = 1 << 20
_CARD = re.compile(r"card([0-9]{1,3})")
_PATH = re.compile(r"\(topology\) link type between drm devices ([0-9]{1,3}) and ([0-9]{1,3})")
_KINDS = {"XGMI", "PCIE"}


@dataclass(frozen=True, slots=True)
class Rocm:
    """What the tool tells: cards by its own index, and how they are joined."""

    gpus: tuple[Gpu, ...] = ()
    links: tuple[Link, ...] = ()


def parse_rocm(text: str) -> Rocm:
    """Read its JSON, whose keys changed their capitals over the years; raises ProbeGarbled.

    It may print warnings around the JSON. A card without a place or memory is left to what sysfs tells of it.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 and "WARNING" in text:
        return Rocm()
    try:
        told = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        told = None
    if start < 0 or not isinstance(told, dict):
        raise ProbeGarbled("rocm-smi does not give its cards as JSON")
    gpus: dict[str, Gpu] = {}
    for key, about in told.items():
        numbered = _CARD.fullmatch(key)
        card = _gpu(int(numbered[1]), _lowered(about)) if numbered and isinstance(about, dict) else None
        if card:
            gpus.setdefault(card.bus_id, card)
    return Rocm(tuple(gpus.values()), _links(_lowered(told.get("system"))))


def _lowered(about: Any) -> dict[str, str]:
    return {str(key).lower(): str(value) for key, value in about.items()} if isinstance(about, dict) else {}


def _gpu(index: int, about: dict[str, str]) -> Gpu | None:
    total, used = about.get("vram total memory (b)", ""), about.get("vram total used memory (b)", "")
    if not re.fullmatch(r"[0-9]{1,15}", total) or int(total) < _MIB:
        return None
    try:
        place = bus_id(about.get("pci bus", ""))
    except ValueError:
        return None
    model = about.get("card model", "").lower().removeprefix("0x")
    return Gpu(
        index=index,
        vendor="amd",
        name=_name(about.get("card series", "")) or f"AMD 1002:{model}",
        vram_mib=int(total) // _MIB,
        vram_free_mib=max(0, int(total) - int(used)) // _MIB if re.fullmatch(r"[0-9]{1,15}", used) else None,
        bus_id=place,
        source="rocm-smi",
        integrated=is_integrated(f"1002:{model}"),
    )


def _name(series: str) -> str:
    """Give a card's name; older tools give a chip and all the cards that bear it, which is none."""
    return "" if "[" in series or series.upper() == "N/A" or series.startswith("0x") else series.strip()


def _links(system: dict[str, str]) -> tuple[Link, ...]:
    found = []
    for key, kind in system.items():
        path = _PATH.fullmatch(key)
        if path and kind in _KINDS and path[1] != path[2]:
            first, second = sorted((int(path[1]), int(path[2])))
            found.append(Link(first=first, second=second, kind=kind))
    return tuple(dict.fromkeys(found))
