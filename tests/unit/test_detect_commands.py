"""The commands themselves, run by a real shell over a stand-in of /sys and /proc that a test makes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from orchestrator.detect import ours
from orchestrator.detect.cards import PCI, by_pci, parse_pci

if TYPE_CHECKING:
    from pathlib import Path

RADEON = {
    "class": "0x030000",
    "vendor": "0x1002",
    "device": "0x744c",
    "revision": "0xcc",
    "boot_vga": "0",
    "mem_info_vram_total": "21458059264",
    "mem_info_vram_used": "27856896",
    "mem_info_gtt_total": "67529248768",
    "mem_info_gtt_used": "15003648",
    "max_link_speed": "16.0 GT/s PCIe",
    "max_link_width": "16",
    "drm/card1/card1-DP-1/status": "disconnected",
    "drm/card1/card1-DP-2/status": "connected",
}
ARC = {
    "class": "0x030000",
    "vendor": "0x8086",
    "device": "0xe223",
    "tile0/physical_vram_size_bytes": "12884901888",
    "tile1/physical_vram_size_bytes": "12884901888",
}
SOUND = {"class": "0x040300", "vendor": "0x10de", "device": "0x1aef"}
LIBDRM = "# List of AMDGPU IDs\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n"


def shell(command: str, root: Path, *places: str) -> str:
    """Run a command over a folder that stands in for the places named."""
    for place in places:
        command = command.replace(place, f"{root}{place}")
    script = f"export LC_ALL=C\n( {command}\n) </dev/null 2>/dev/null\n"
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content + "\n", encoding="utf-8")


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    devices = tmp_path / "sys/bus/pci/devices"
    for place, files in (("0000:03:00.0", RADEON), ("0000:04:00.0", ARC), ("0000:05:00.0", SOUND)):
        write(devices / place, files)
    (tmp_path / "sys/bus/pci/drivers/amdgpu").mkdir(parents=True)
    (devices / "0000:03:00.0/driver").symlink_to("../../drivers/amdgpu")
    return tmp_path


def test_the_bus_is_read_with_what_only_some_drivers_tell(bus: Path) -> None:
    write(bus / "usr/share/libdrm", {"amdgpu.ids": LIBDRM})
    text = shell(PCI, bus, "/sys/bus/pci", "/usr/share/libdrm")
    radeon, arc = parse_pci(text)
    assert (radeon.driver, radeon.name, radeon.drives_display) == ("amdgpu", "AMD Radeon RX 7900 XT", True)
    assert (radeon.vram_mib, radeon.vram_free_mib, radeon.generation, radeon.width) == (20464, 20437, 4, 16)
    assert (arc.driver, arc.vram_mib, arc.vram_free_mib, arc.drives_display) == ("-", 24576, None, False)
    assert [gpu.name for gpu in by_pci((radeon, arc), {}).gpus] == ["AMD Radeon RX 7900 XT", "Intel 8086:e223"]


#: As xe prints its tables of memory; the figures are those of an Arc A750 (flightlessmango/MangoHud, issue 1936).
VRAM_MM = "  size: 8522825728\n  usage: 32079872\nvisible_size: 8128MiB\n"


@pytest.mark.parametrize(("tables", "free"), [(("tile0/vram_mm",), 8097), (("tile0/vram_mm", "tile1/vram_mm"), 16194)])
def test_what_is_free_on_intels_cards_is_read_where_the_driver_shows_it(
    bus: Path, tables: tuple[str, ...], free: int
) -> None:
    write(bus / "sys/kernel/debug/dri/0000:04:00.0", dict.fromkeys(tables, VRAM_MM))
    arc = parse_pci(shell(PCI, bus, "/sys/bus/pci", "/sys/kernel/debug"))[1]
    assert (arc.vram_mib, arc.vram_free_mib) == (24576, free)
    (small,) = by_pci((arc,), {"8086:e223": ("Arc", 8000, None)}).gpus
    assert (small.vram_mib, small.vram_free_mib) == (8000, min(8000, free))


def test_a_table_of_intels_without_its_figures_tells_nothing(bus: Path) -> None:
    write(bus / "sys/kernel/debug/dri/0000:04:00.0", {"tile0/vram_mm": "  size: 8522825728"})
    assert parse_pci(shell(PCI, bus, "/sys/bus/pci", "/sys/kernel/debug"))[1].vram_free_mib is None


def test_a_bus_without_cards_and_names_is_read(bus: Path, tmp_path: Path) -> None:
    assert [card.name for card in parse_pci(shell(PCI, bus, "/sys/bus/pci", "/usr/share/libdrm"))] == ["", ""]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert parse_pci(shell(PCI, empty, "/sys/bus/pci")) == ()


def test_our_processes_are_told_from_others_and_each_client_counts_once(tmp_path: Path) -> None:
    held = "drm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t1048576 KiB"
    write(tmp_path / "proc/10", {"cgroup": "0::/lab/h1/system.slice/agentrig-runtime.service", "fdinfo/3": held})
    write(tmp_path / "proc/10", {"fdinfo/4": held, "fdinfo/0": "pos:\t0"})
    stranger = held.replace("client-id:\t7", "client-id:\t8")
    for process, group in (
        (11, "/user.slice/user-1000.slice/user@1000.service/app.slice/agentrig-x.service"),
        (12, "/user.slice/user-1000.slice/user@1000.service/system.slice/agentrig-x.service"),
        (13, "/system.slice/agentrig-runtime.service.d"),
        (14, "/system.slice/sshd.service"),
        (15, "/agentrig-runtime.service"),
    ):
        write(tmp_path / f"proc/{process}", {"cgroup": f"0::{group}", "fdinfo/3": stranger})
    write(tmp_path / "opt/agentrig", {"current": ""})
    text = shell(ours.OURS, tmp_path, "/proc/", "/opt/agentrig")
    text = text.replace(str(tmp_path), "")
    assert ours.own_processes(text) == {10}
    assert ours.held(text, {}) == {"00000000:03:00.0": 1024}


def test_without_a_release_of_ours_nobody_is_asked(tmp_path: Path) -> None:
    assert shell(ours.OURS, tmp_path, "/proc/", "/opt/agentrig") == ""
