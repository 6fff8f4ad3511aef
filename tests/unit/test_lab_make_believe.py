"""The make-believe NVML, built here and asked through nvidia-ml-py and its own nvidia-smi."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import UsageError
from orchestrator.lab import build_nvml
from orchestrator.lab.make_believe import cards_file
from orchestrator.snapshot import Gpu

if TYPE_CHECKING:
    from pathlib import Path

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")

CARDS = (
    Gpu(
        index=0,
        vendor="nvidia",
        name="NVIDIA GeForce RTX 3090",
        vram_mib=24576,
        vram_free_mib=24000,
        compute_capability="8.6",
        bus_id="00000000:01:00.0",
        source="profile",
        drives_display=True,
        pcie_generation=4,
        pcie_width=16,
    ),
    Gpu(
        index=1,
        vendor="nvidia",
        name="NVIDIA H100 80GB HBM3",
        vram_mib=81559,
        compute_capability="9.0",
        bus_id="00000001:c1:00.0",
        source="profile",
        mig=True,
    ),
)

ASK = """
import json, pynvml as n
n.nvmlInit()
def card(h):
    pci, memory = n.nvmlDeviceGetPciInfo(h), n.nvmlDeviceGetMemoryInfo(h)
    second = n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2)
    def asked(f, *a):
        try: return f(*a)
        except n.NVMLError as e: return [e.value, str(e)]
    return {"name": n.nvmlDeviceGetName(h), "bus": pci.busId, "domain": pci.domain, "total": memory.total >> 20,
      "free": memory.free >> 20, "second": [second.total >> 20, second.used >> 20],
      "capability": n.nvmlDeviceGetCudaComputeCapability(h), "display": n.nvmlDeviceGetDisplayActive(h),
      "pcie": [asked(n.nvmlDeviceGetMaxPcieLinkGeneration, h), asked(n.nvmlDeviceGetMaxPcieLinkWidth, h)],
      "mig": asked(n.nvmlDeviceGetMigMode, h), "running": n.nvmlDeviceGetComputeRunningProcesses(h),
      "nvlink": asked(n.nvmlDeviceGetNvLinkState, h, 0), "near": asked(n.nvmlDeviceGetTopologyCommonAncestor, h, h)}
found = {"driver": n.nvmlSystemGetDriverVersion(), "cuda": n.nvmlSystemGetCudaDriverVersion(),
  "says": n.nvmlSystemGetNVMLVersion(),
  "cards": [card(n.nvmlDeviceGetHandleByIndex(i)) for i in range(n.nvmlDeviceGetCount())]}
n.nvmlShutdown()
print(json.dumps(found))
"""

NOT_SUPPORTED = [3, "Not Supported"]


def in_its_sight(folder: Path) -> dict[str, str]:
    cards = str(folder / "agentrig-make-believe-gpus")
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "AGENTRIG_MAKE_BELIEVE_GPUS": cards}


@needs_compiler
def test_nvidia_ml_py_reads_the_cards_of_the_file(tmp_path: Path) -> None:
    library = build_nvml(CARDS, tmp_path, driver="570.1", cuda="12.8")
    assert library.parent == tmp_path
    argv = [sys.executable, "-c", ASK]
    found = json.loads(subprocess.run(argv, capture_output=True, env=in_its_sight(tmp_path), check=True).stdout)
    assert (found["driver"], found["cuda"]) == ("570.1", 12080)
    assert "make-believe" in found["says"]
    first, second = found["cards"]
    assert (first["name"], first["bus"]) == ("NVIDIA GeForce RTX 3090", "00000000:01:00.0")
    assert (first["total"], first["free"], first["second"]) == (24576, 24000, [24576, 576])
    assert (first["capability"], first["display"], first["pcie"], first["running"]) == ([8, 6], 1, [4, 16], [])
    assert [first[what] for what in ("mig", "nvlink", "near")] == [NOT_SUPPORTED] * 3
    assert (second["bus"], second["domain"], second["free"], second["mig"]) == ("00000001:C1:00.0", 1, 81559, [1, 1])
    assert second["pcie"] == [NOT_SUPPORTED] * 2


@needs_compiler
def test_the_tool_answers_the_questions_of_detection(tmp_path: Path) -> None:
    build_nvml(CARDS, tmp_path)

    def smi(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [str(tmp_path / "nvidia-smi"), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, env=in_its_sight(tmp_path), check=False)

    fields = "index,name,memory.total,memory.free,memory.used,compute_cap,pci.bus_id,driver_version,display_active"
    links = "pcie.link.gen.max,pcie.link.width.max,mig.mode.current"
    rows = smi(f"--query-gpu={fields},{links}", "--format=csv,noheader,nounits").stdout.splitlines()
    assert rows == [
        "0, NVIDIA GeForce RTX 3090, 24576, 24000, 576, 8.6, 00000000:01:00.0, 580.95.05, Enabled, 4, 16, [N/A]",
        "1, NVIDIA H100 80GB HBM3, 81559, 81559, 0, 9.0, 00000001:C1:00.0, 580.95.05, Disabled, [N/A], [N/A], Enabled",
    ]
    assert smi("--query-gpu=memory.total", "--format=csv").stdout.splitlines()[:2] == [
        "memory.total [MiB]",
        "24576 MiB",
    ]
    assert "CUDA Version: 13.0" in smi().stdout
    assert "make-believe" in smi().stdout
    assert "make-believe" in smi("--version").stdout
    assert [line.split(" (")[0] for line in smi("-L").stdout.splitlines()][1] == "GPU 1: NVIDIA H100 80GB HBM3"
    assert smi("topo", "-m").stdout.splitlines()[1].split()[:3] == ["GPU0", "X", "PHB"]
    assert smi("--query-gpu=wings", "--format=csv").returncode == 2
    assert smi("--reset").returncode == 2


@needs_compiler
def test_without_the_file_there_is_no_driver(tmp_path: Path) -> None:
    build_nvml(CARDS, tmp_path)
    (tmp_path / "agentrig-make-believe-gpus").unlink()
    argv = [str(tmp_path / "nvidia-smi")]
    failed = subprocess.run(argv, capture_output=True, text=True, env=in_its_sight(tmp_path), check=False)
    assert failed.returncode == 9
    assert "Driver Not Loaded" in failed.stdout


def test_a_card_that_nvml_would_not_know_is_refused() -> None:
    amd = CARDS[0].model_copy(update={"vendor": "amd"})
    with pytest.raises(UsageError):
        cards_file([amd], "1", "1")
