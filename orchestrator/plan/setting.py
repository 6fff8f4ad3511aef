"""What a decision rests on, read once: the machine, its cards, what they leave, and the runtimes that suit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.plan.compute import Run, sglang_share_mib
from orchestrator.plan.constants import VISIBLE_SHARE
from orchestrator.plan.driver import Asking
from orchestrator.plan.hardware import capability, part_of_a_machine, row_of
from orchestrator.plan.memory import POOLED
from orchestrator.plan.once import once

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, SpeedRow
    from orchestrator.plan.wishes import Wishes
    from orchestrator.profile import Profile, RuntimeName
    from orchestrator.snapshot import Gpu, HostSnapshot

#: vLLM and SGLang leave this share of each card alone (vLLM's default of gpu_memory_utilization, 0.9).
LEFT_ALONE = 0.1
#: What a desktop on the card takes, and what is left alone on a card without one, in MiB.
DISPLAY_MIB, MARGIN_MIB = 800, 256
#: The driver's context of a GGML back end, in MiB.
CONTEXT_MIB = 400
#: Share of unified memory that macOS lets the GPU have.
UNIFIED_SHARE = 0.75
#: RAM that the system keeps for itself: at least so many MiB, and a share of the whole.
SYSTEM_MIB, SYSTEM_SHARE = 1024, 8
#: Bandwidth in GB/s of a card nobody has heard of, and of a workstation's RAM: for ranking alone.
UNHEARD_BANDWIDTH, RAM_BANDWIDTH = 300.0, 40.0


@dataclass(frozen=True)
class Setting:
    """What a decision rests on, read once."""

    snapshot: HostSnapshot
    profile: Profile
    catalog: Catalog
    wishes: Wishes

    @once
    def gpus(self) -> tuple[Gpu, ...]:
        """Give the cards to place on: those of the vendor with the most memory; none for a demonstration."""
        return () if self.profile.demonstration else of_one_vendor(self.snapshot.usable_gpus())

    @once
    def vendor(self) -> str:
        """Give who made the cards in use; ``cpu`` where none is, ``integrated`` where they are part of the machine."""
        if not self.gpus:
            return "cpu"
        vendor = self.gpus[0].vendor
        own = vendor != "apple" and all(part_of_a_machine(vendor, gpu.name) for gpu in self.gpus)
        return "integrated" if own else vendor

    @once
    def left_out(self) -> tuple[Gpu, ...]:
        """Give the cards of other vendors: one runtime drives the cards of one."""
        return tuple(gpu for gpu in self.snapshot.usable_gpus() if self.gpus and gpu not in self.gpus)

    @once
    def equal(self) -> bool:
        """Tell whether all cards are of one kind."""
        return len({(gpu.vendor, gpu.name, round(gpu.vram_mib / 1024)) for gpu in self.gpus}) == 1

    @once
    def capabilities(self) -> tuple[tuple[int, int] | None, ...]:
        """Give each card's compute capability, None where it has none or nobody knows."""
        return tuple(capability(gpu, self.catalog) for gpu in self.gpus)

    @once
    def asking(self) -> Asking | None:
        """Give what a driver is asked for; None without a card of NVIDIA's."""
        if not any(gpu.vendor == "nvidia" for gpu in self.gpus):
            return None
        return Asking(self.snapshot, self.gpus, self.capabilities, self.profile.driver, self.catalog)

    @once
    def bandwidth(self) -> float:
        """Give the slowest card's memory bandwidth in GB/s, or RAM's."""
        rates = [row.bandwidth_gb_s if (row := row_of(gpu, self.catalog)) else UNHEARD_BANDWIDTH for gpu in self.gpus]
        return min(rates, default=RAM_BANDWIDTH)

    @once
    def speeds(self) -> tuple[SpeedRow, ...]:
        """Give what was measured on such cards."""
        names = {row.name for gpu in self.gpus if (row := row_of(gpu, self.catalog))}
        return tuple(row for row in self.catalog.speeds.values() if names == {row.card})

    @once
    def rooms(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        """Give capacities and reserves that were worked out, by runtime."""
        return {}

    @once
    def barred(self) -> dict[tuple[str, str], str | None]:
        """Give why a quantisation cannot be run here by a runtime, None where it can, as far as it was worked out."""
        return {}

    def room(self, runtime: RuntimeName) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Give capacity and reserve of each card, or of RAM, in MiB, for one runtime."""
        if runtime not in self.rooms:
            self.rooms[runtime] = _room(runtime, self)
        return self.rooms[runtime]

    @once
    def suited(self) -> tuple[RuntimeName, ...]:
        """Give the runtimes that suit cards and use, the first choice first."""
        if self.wishes.runtime:
            return (self.wishes.runtime,)
        vendors = {gpu.vendor for gpu in self.gpus}
        found: tuple[RuntimeName, ...] = ("llama_cpp",)
        if not self.gpus:
            found = ("xllamacpp",) if self.profile.demonstration else ("llama_cpp",)
        elif self.profile.use == "max_speed" and vendors == {"nvidia"}:
            found = ("exllama", "tensorrt_llm", "llama_cpp")
        elif vendors == {"nvidia"} and self.equal and (len(self.gpus) > 1 or self.wishes.users > 1):
            found = ("vllm", "llama_cpp")
        elif self._ollama_runs():
            found = ("ollama", "llama_cpp")
        return found

    def _ollama_runs(self) -> bool:
        """Tell whether somebody's Ollama already answers here, so that it is what its owner knows."""
        return any(one.kind == "ollama" for one in self.snapshot.endpoints)


def of_one_vendor(found: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Give the cards of the vendor whose cards have the most memory together."""
    memory: dict[str, int] = {}
    for gpu in found:
        memory[gpu.vendor] = memory.get(gpu.vendor, 0) + gpu.vram_mib
    if len(memory) <= 1:
        return found
    most = max(memory, key=lambda vendor: memory[vendor])
    return tuple(gpu for gpu in found if gpu.vendor == most)


def _room(runtime: RuntimeName, setting: Setting) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give capacity and reserve of each card, or of RAM, in MiB. What our own units hold counts as free."""
    if not setting.gpus:
        ram = setting.snapshot.ram_mib
        return (float(ram),), (float(max(SYSTEM_MIB, ram // SYSTEM_SHARE)),)
    reserves = []
    for gpu in setting.gpus:
        taken = 0 if gpu.vram_free_mib is None else gpu.vram_mib - gpu.vram_free_mib - gpu.vram_ours_mib
        held = max(0, taken, DISPLAY_MIB if gpu.drives_display else 0)
        if runtime == "sglang":
            least = max(
                LEFT_ALONE * _visible(gpu),
                _visible(gpu) - sglang_share_mib(Run(0, 0, len(setting.gpus)), _visible(gpu)),
            )
        elif runtime in POOLED:
            least = LEFT_ALONE * _visible(gpu)
        elif gpu.vendor == "apple":
            least = (1 - UNIFIED_SHARE) * gpu.vram_mib
        else:
            least = CONTEXT_MIB + MARGIN_MIB
            held += CONTEXT_MIB
        reserves.append(float(max(held + MARGIN_MIB, least)))
    return tuple(_visible(gpu) for gpu in setting.gpus), tuple(reserves)


def _visible(gpu: Gpu) -> float:
    """Give the MiB that a program sees of a card; unified memory has its own share."""
    return gpu.vram_mib * (1.0 if gpu.vendor == "apple" else VISIBLE_SHARE.value)
