"""Cards through NVML. ``StandIn`` is no driver: it answers as the library's own documentation says a driver does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.detect.nvidia import nvml_cards
from orchestrator.lab import build_nvml
from orchestrator.lab.make_believe import CARDS
from orchestrator.snapshot import Gpu, HostSnapshot, Link

if TYPE_CHECKING:
    from pathlib import Path

#: nvml.h, nvmlGpuP2PCapsIndex_t.
NVLINK = 2
PLACES = ("00000000:01:00.0", "00000000:02:00.0", "00000000:41:00.0")


class NVMLError(Exception):
    """As pynvml's: its text is the driver's sentence."""


@dataclass
class StandIn:
    """An NVML of three cards. ``far`` are the ends of each card's links, ``lost`` a card that does not answer."""

    lost: int | None = None
    memory: tuple[int, int] | None = (24576 << 20, 20000 << 20)
    name: bytes | str = b"NVIDIA GeForce RTX 3090"
    far: dict[int, list[str]] = field(default_factory=dict)
    switched: bool = False
    readable: bool = True
    mig: bool = False
    apps: list[Any] = field(default_factory=list)

    NVMLError = NVMLError

    def __getattr__(self, name: str) -> Any:
        """Any other function is one that this driver does not have."""

        def absent(*_: Any) -> Any:
            message = f"Function Not Found: {name}"
            raise NVMLError(message)

        return absent

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's own names
        return len(PLACES)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == self.lost:
            message = "GPU is lost"
            raise NVMLError(message)
        return index

    def nvmlDeviceGetName(self, handle: Any) -> bytes | str:  # noqa: N802
        return handle[1] if isinstance(handle, tuple) else self.name

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:  # noqa: N802
        if self.memory is None:
            message = "Not Supported"
            raise NVMLError(message)
        return SimpleNamespace(total=self.memory[0], free=self.memory[1])

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=PLACES[handle].encode())

    def nvmlDeviceGetMigMode(self, _: int) -> list[int]:  # noqa: N802
        return [int(self.mig), int(self.mig)]

    def nvmlDeviceGetMaxMigDeviceCount(self, _: int) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, part: int) -> Any:  # noqa: N802
        if part > 1:
            message = "Not Found"
            raise NVMLError(message)
        return handle, f"NVIDIA H100 80GB HBM3 MIG {part + 1}g.{part + 1}0gb"

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return 13000

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.178.01"

    def nvmlDeviceGetTopologyCommonAncestor(self, first: int, second: int) -> int:  # noqa: N802
        return 30 if {first, second} == {0, 1} else 50

    def nvmlDeviceGetNvLinkState(self, handle: int, lane: int) -> int:  # noqa: N802
        if lane >= len(self.far.get(handle, ())):
            message = "Not Supported"
            raise NVMLError(message)
        return 1

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, lane: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=self.far[handle][lane].encode())

    def nvmlDeviceGetP2PStatus(self, _first: int, _second: int, index: int) -> int:  # noqa: N802
        works = self.switched if index == NVLINK else self.readable
        return 0 if works else 1

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:  # noqa: N802
        return self.apps if handle == 0 else []


def test_cards_and_their_paths() -> None:
    found = nvml_cards(StandIn(far={0: [PLACES[1]] * 4, 1: [PLACES[0]] * 4}, readable=False))
    assert [(gpu.bus_id, gpu.vram_mib, gpu.vram_free_mib) for gpu in found.gpus] == [
        (place, 24576, 20000) for place in PLACES
    ]
    assert (found.driver, found.cuda, found.problems) == ("580.178.01", "13.0", ())
    assert found.links == (
        Link(first=0, second=1, kind="NV4", p2p=False),
        Link(first=0, second=2, kind="SYS", p2p=False),
        Link(first=1, second=2, kind="SYS", p2p=False),
    )


def test_links_through_a_switch_count_as_nvlink() -> None:
    switch = ["00000000:C1:00.0"] * 18
    found = nvml_cards(StandIn(far=dict.fromkeys(range(3), switch), switched=True))
    assert {(link.kind, link.p2p) for link in found.links} == {("NV18", True)}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_card_does_not_hide_the_others(lost: int) -> None:
    found = nvml_cards(StandIn(lost=lost))
    assert [gpu.index for gpu in found.gpus] == [index for index in range(3) if index != lost]
    assert [problem.kind for problem in found.problems] == ["gpu_lost"]
    assert len(found.links) == 1


def test_what_programs_hold_is_told_by_process() -> None:
    apps = [SimpleNamespace(pid=7, usedGpuMemory=1 << 30), SimpleNamespace(pid=8, usedGpuMemory=None)]
    assert nvml_cards(StandIn(apps=apps)).apps == {(PLACES[0], 7): 1024}


def test_parts_of_a_divided_card_are_named() -> None:
    found = nvml_cards(StandIn(mig=True))
    assert all(gpu.mig for gpu in found.gpus)
    assert [problem.kind for problem in found.problems] == ["gpu_divided"] * 3
    assert "1g.10gb, 2g.20gb" in found.problems[0].what


def test_a_card_without_memory_of_its_own_has_the_machines_and_no_other_card_does() -> None:
    spark = nvml_cards(StandIn(memory=None, name="NVIDIA GB10"))
    assert {gpu.vram_mib for gpu in spark.gpus} != {24576}
    assert all(gpu.vram_mib > 256 for gpu in spark.gpus)
    assert {problem.kind for problem in nvml_cards(StandIn(memory=None)).problems} == {"gpu_unknown"}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the make-believe NVML is built with gcc")
def test_a_make_believe_library_is_asked_through_the_real_binding(tmp_path: Path) -> None:
    cards = [
        Gpu(
            index=index,
            vendor="nvidia",
            name="NVIDIA GeForce RTX 3090",
            vram_mib=24576,
            vram_free_mib=24000,
            compute_capability="8.6",
            bus_id=PLACES[index],
            source="nvml",
            pcie_generation=4,
            pcie_width=16,
        )
        for index in range(2)
    ]
    library = build_nvml(cards, tmp_path)
    about = {"LD_LIBRARY_PATH": str(tmp_path), "AGENTRIG_MAKE_BELIEVE_GPUS": str(library.with_name(CARDS))}
    ask = "from orchestrator.detect import read_local; print(read_local().to_json())"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | about, capture_output=True, text=True, check=True
    )
    found = HostSnapshot.from_json(done.stdout)
    assert list(found.gpus) == cards
    assert (found.driver, found.cuda) == ("580.95.05", "13.0")
