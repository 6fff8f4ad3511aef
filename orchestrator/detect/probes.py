"""The one table of probes, for this machine and for every other: a name, a command, what to do where it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import card_health
from orchestrator.detect import amd, apple, cards, endpoints, ours, packages, smi, sockets, system


@dataclass(frozen=True, slots=True)
class Probe:
    """One command, POSIX shell, run with ``LC_ALL=C``. An optional one may be missing without a word."""

    name: str
    command: str
    #: What the command is, as a person would call it.
    asks: str
    do: str = ""
    optional: bool = False
    #: Elsewhere than on Linux its answer means nothing.
    linux: bool = True


_APT = "use Debian or Ubuntu: packages are installed with apt"

PROBES = (
    Probe("os_release", system.OS_RELEASE, "/etc/os-release"),
    Probe("uname", system.UNAME, "uname", linux=False),
    Probe("clock", system.CLOCK, "date", optional=True, linux=False),
    Probe("cpus", system.CPUS, "nproc", do="install coreutils"),
    Probe("memory", system.MEMORY, "/proc/meminfo"),
    Probe("disk", system.DISK, "df", do="install coreutils", linux=False),
    Probe("python", system.PYTHON, "/usr/bin/python3", optional=True),
    Probe("systemd", system.SYSTEMD, "/run/systemd"),
    Probe("virtualisation", system.VIRTUALISATION, "systemd-detect-virt"),
    Probe("kvm", system.KVM, "/dev/kvm"),
    Probe("secure_boot", system.SECURE_BOOT, "the firmware's variables", optional=True),
    Probe("packages", packages.PACKAGES, "dpkg-query", do=_APT, linux=False),
    Probe("apt_sources", packages.APT_SOURCES, "/etc/apt"),
    Probe("sockets", sockets.SOCKETS, "/proc/net"),
    Probe("holders", sockets.HOLDERS, "/proc/*/fd", optional=True),
    Probe("endpoints", endpoints.ENDPOINTS, "a request on 127.0.0.1", optional=True),
    Probe("firewalls", endpoints.FIREWALLS, "nft", optional=True),
    Probe("pci", cards.PCI, "/sys/bus/pci"),
    Probe("rocm_smi", amd.ROCM, "rocm-smi", optional=True),
    Probe("nvidia_module", smi.MODULE, "/proc/driver/nvidia", optional=True),
    Probe("nvidia_installed", smi.INSTALLED, "modinfo", optional=True),
    Probe("nvidia_smi", smi.SMI, "nvidia-smi", optional=True),
    Probe("nvidia_cuda", smi.CUDA, "nvidia-smi", optional=True),
    Probe("nvidia_topology", smi.TOPOLOGY, "nvidia-smi topo", optional=True),
    Probe("nvidia_parts", smi.PARTS, "nvidia-smi -L", optional=True),
    Probe("nvidia_apps", ours.APPS, "nvidia-smi --query-compute-apps", optional=True),
    Probe("nvidia_health", card_health.HEALTH, "nvidia-smi -q -x", optional=True),
    Probe("nvidia_xids", card_health.XIDS, "the kernel's log", optional=True),
    Probe("ours", ours.OURS, "/proc/*/cgroup", optional=True),
    Probe("mac_system", apple.SYSTEM, "sysctl", optional=True, linux=False),
    Probe("mac_cards", apple.CARDS, "system_profiler", optional=True, linux=False),
)
#: Those that NVML answers on this machine.
OF_THE_DRIVER = frozenset(
    {"nvidia_smi", "nvidia_cuda", "nvidia_topology", "nvidia_parts", "nvidia_apps", "nvidia_health"}
)

COMMANDS = {probe.name: probe.command for probe in PROBES}
EVERYWHERE = {name: command for name, command in COMMANDS.items() if name not in OF_THE_DRIVER}
