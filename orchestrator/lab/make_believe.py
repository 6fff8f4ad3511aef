"""Make-believe cards: a small NVML and nvidia-smi, built here, that tell of the cards in a text file.

Everything they print says that they are make-believe; no GPU is asked and none is needed.
"""

from __future__ import annotations

import io
import platform
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import LabError, UsageError
from orchestrator.lab.commands import FOR_CARDS, environment, need, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.snapshot import Gpu

LIBRARY = "libnvidia-ml.so.1"
TOOL = "nvidia-smi"
CARDS = "agentrig-make-believe-gpus"

#: C99 without extensions: a newer glibc would otherwise bind functions that an older host lacks.
_COMPILE = ("gcc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall", "-Wextra")


def cards_file(gpus: Sequence[Gpu], driver: str, cuda: str) -> str:
    """Write the text that the make-believe NVML reads; raises ``UsageError`` for a card that NVML would not know."""
    lines = ["# make-believe cards: no GPU is here", f"driver {driver}", f"cuda {cuda}"]
    for gpu in sorted(gpus, key=lambda card: card.bus_id):
        if gpu.vendor != "nvidia" or gpu.compute_capability is None:
            raise UsageError(
                f"{gpu.name} cannot be make-believe",
                do="take an NVIDIA card with its compute capability: NVML knows no other",
            )
        free = gpu.vram_mib if gpu.vram_free_mib is None else gpu.vram_free_mib
        flags = [int(gpu.drives_display), int(gpu.mig), gpu.pcie_generation or 0, gpu.pcie_width or 0]
        fields = ["gpu", gpu.name, gpu.vram_mib, free, gpu.compute_capability, gpu.bus_id, *flags]
        lines.append("\t".join(str(field) for field in fields))
    return "\n".join(lines) + "\n"


def build_nvml(gpus: Sequence[Gpu], folder: Path, driver: str = "580.95.05", cuda: str = "13.0") -> Path:
    """Build the make-believe NVML, its nvidia-smi and the file of the cards in ``folder``; gives the library.

    For use on this machine: ``LD_LIBRARY_PATH`` is the library's folder, ``AGENTRIG_MAKE_BELIEVE_GPUS`` the file
    ``agentrig-make-believe-gpus`` beside it. Raises ``UsageError`` without a C compiler.
    """
    need(FOR_CARDS)
    text = cards_file(gpus, driver, cuda)
    folder.mkdir(parents=True, exist_ok=True)
    sources = Path(__file__).resolve().parent / "nvml"
    library = folder / LIBRARY
    shared = [*_COMPILE, "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", "-o", str(library), str(sources / "nvml.c")]
    run(shared, what="the make-believe NVML was not built")
    tool = [*_COMPILE, "-o", str(folder / TOOL), str(sources / "nvidia-smi.c"), str(library)]
    run(tool, what="the make-believe nvidia-smi was not built")
    (folder / CARDS).write_text(text, encoding="utf-8")
    return library


def install_gpus(ssh: Sequence[str], gpus: Sequence[Gpu], driver: str, cuda: str) -> None:
    """Put the make-believe NVML and its cards into a host that ``ssh`` reaches as root."""
    with tempfile.TemporaryDirectory(prefix="agentrig-nvml-") as scratch:
        folder = Path(scratch)
        build_nvml(gpus, folder, driver, cuda)
        packed = _packed(folder)
    sent = subprocess.run(
        [*ssh, "tar --extract --no-same-owner --unlink-first --directory=/ && ldconfig"],
        input=packed,
        capture_output=True,
        env=environment(),
        check=False,
    )
    if sent.returncode != 0:
        said = sent.stderr.decode(errors="replace").strip().splitlines()
        raise LabError(
            f"the make-believe cards were not put in: {said[-1] if said else sent.returncode}", where=ssh[-1]
        )


def _packed(folder: Path) -> bytes:
    """Give what goes into the host, as a tar archive: the places are those of NVIDIA's own packages."""
    libraries = f"usr/lib/{platform.machine()}-linux-gnu"
    places = {
        LIBRARY: (f"{libraries}/{LIBRARY}", 0o644),
        TOOL: (f"usr/bin/{TOOL}", 0o755),
        CARDS: (f"etc/{CARDS}", 0o644),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for source, (place, mode) in places.items():
            content = (folder / source).read_bytes()
            entry = tarfile.TarInfo(place)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
