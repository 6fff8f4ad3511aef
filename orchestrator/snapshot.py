"""What a host is: one frozen reading, made by ``detect``, given to ``plan``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.card_health import CardHealth
from orchestrator.nouns import Noun, digest_of

GpuSource = Literal["nvml", "nvidia-smi", "pci", "sysfs", "rocm-smi", "system_profiler", "profile", "given"]


class Gpu(Noun):
    """One card. Memory in MiB; ``bus_id`` as ``00000000:01:00.0``, lower case."""

    index: int = Field(ge=0)
    vendor: Literal["nvidia", "amd", "intel", "apple"]
    name: str
    vram_mib: int = Field(gt=0)
    vram_free_mib: int | None = None
    #: Memory that our own units hold now: counts as free (decision 5).
    vram_ours_mib: int = 0
    compute_capability: str | None = None
    bus_id: str
    source: GpuSource
    drives_display: bool = False
    integrated: bool = False
    mig: bool = False
    pcie_generation: int | None = None
    pcie_width: int | None = None
    #: How the card is now; None where no driver was asked.
    health: CardHealth | None = None


class Link(Noun):
    """How two cards are joined: indices, the kind of the path, and whether one may read the other's memory."""

    first: int
    second: int
    kind: str
    p2p: bool | None = None


class OperatingSystem(Noun):
    """From ``/etc/os-release``: ``id`` debian, ``version_id`` 12, ``codename`` bookworm."""

    id: str
    version_id: str = ""
    codename: str = ""
    pretty: str = ""


class Python(Noun):
    """The distribution's own interpreter, ``/usr/bin/python3``; version as ``3.11.2``."""

    path: str = "/usr/bin/python3"
    version: str


class Package(Noun):
    """One installed package as dpkg knows it: enough for apt to resolve against it elsewhere."""

    name: str
    version: str
    architecture: str
    multi_arch: str = ""
    depends: str = ""
    pre_depends: str = ""
    provides: str = ""
    conflicts: str = ""
    breaks: str = ""
    replaces: str = ""
    essential: bool = False
    held: bool = False


class AptSource(Noun):
    """One archive the host is configured with. ``signed_by`` is a path on the host, or empty."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


class Listener(Noun):
    """One listening socket: ``tcp`` or ``udp``, address as the kernel prints it, port, program."""

    protocol: Literal["tcp", "udp"]
    address: str
    port: int
    program: str = ""


class RunningEndpoint(Noun):
    """An endpoint of somebody else's that answers on the host: what serves it, and the names of its llms.

    ``context_tokens`` is the window that it was started with, where it tells.
    """

    url: str
    kind: Literal["ollama", "vllm", "sglang", "llama_cpp", "openai"]
    version: str | None = None
    program: str = ""
    llms: tuple[str, ...] = ()
    context_tokens: int | None = Field(default=None, gt=0)


class Problem(Noun):
    """Something that detection saw and its owner should know."""

    kind: str
    what: str
    do: str = ""


class HostSnapshot(Noun):
    """What one host is. Memory and disk in MiB."""

    name: str
    os: OperatingSystem
    arch: str
    kernel: str = ""
    cpus: int = Field(ge=1)
    cpu_flags: tuple[str, ...] = ()
    ram_mib: int = Field(gt=0)
    ram_free_mib: int | None = None
    disk_free_mib: int | None = None
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    links: tuple[Link, ...] = ()
    python: Python | None = None
    systemd: bool = False
    container: str | None = None
    virtualisation: str | None = None
    kvm: bool = False
    wsl: bool = False
    secure_boot: bool | None = None
    listeners: tuple[Listener, ...] = ()
    endpoints: tuple[RunningEndpoint, ...] = ()
    #: What filters packets there: ``ufw``, ``firewalld``, and tables of nft as ``nft inet filter``.
    firewalls: tuple[str, ...] = ()
    packages: tuple[Package, ...] = ()
    apt_sources: tuple[AptSource, ...] = ()
    problems: tuple[Problem, ...] = ()

    def usable_gpus(self) -> tuple[Gpu, ...]:
        """Give the cards that an llm may be placed on: integrated and divided ones left out, in PCI order."""
        whole = (gpu for gpu in self.gpus if not gpu.integrated and not gpu.mig)
        return tuple(sorted(whole, key=lambda gpu: gpu.bus_id))

    def hardware_digest(self) -> str:
        """Give the digest of what a decision rests on; free memory, load and packages are not in it."""
        return digest_of(
            {
                "os": [self.os.id, self.os.version_id],
                "arch": self.arch,
                "python": self.python.version.rsplit(".", 1)[0] if self.python else None,
                "ram_gib": round(self.ram_mib / 1024),
                "gpus": [[gpu.vendor, gpu.name, gpu.vram_mib, gpu.bus_id] for gpu in self.usable_gpus()],
            },
        )
