"""The machine itself: distribution, kernel, processor, memory, disk, what it runs in. Commands and pure parses.

Sizes come from the kernel in KiB and are given in MiB. Every parse raises ProbeGarbled for what it does not understand.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import OperatingSystem, Python

OS_RELEASE = "cat /etc/os-release || cat /usr/lib/os-release"
UNAME = "uname -m && uname -r && uname -s"
#: Seconds since 1970, in UTC (date(1); BSD's knows it too).
CLOCK = "date -u +%s"
CPUS = "nproc && grep -m1 -E '^(flags|Features)' /proc/cpuinfo || :"
MEMORY = "cat /proc/meminfo"
#: The first of these that is there is the file system that takes our files.
DISK = "df -Pk /opt/agentrig /opt /"
#: Elsewhere than on Linux asking may open a window that offers to install it.
PYTHON = 'test "$(uname -s)" = Linux || exit 127; /usr/bin/python3 -V'
SYSTEMD = "test -d /run/systemd/system && echo yes || echo no"
KVM = "test -c /dev/kvm && echo yes || echo no"
#: The variable's file: four bytes of attributes, then 1 where Secure Boot is on (UEFI specification, 8.2 and 3.3).
SECURE_BOOT = "od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c || echo unknown"
VIRTUALISATION = """
if command -v systemd-detect-virt >/dev/null; then
echo "container $(systemd-detect-virt --container)"
echo "machine $(systemd-detect-virt --vm)"
else
test -e /.dockerenv && echo 'container docker'
test -e /run/.containerenv && echo 'container podman'
tr '\\0' '\\n' </proc/1/environ | sed -n 's/^container=/container /p'
echo 'machine none'
fi"""

_KIB = 1024
_EFI_BYTES = 5


@dataclass(frozen=True, slots=True)
class Cpus:
    """How many processors may be used, and what they can do."""

    count: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """RAM in MiB. ``free`` is what programs could still get, caches given back."""

    total: int
    free: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """What every kind of host is asked first."""

    os: OperatingSystem
    cpus: Cpus
    memory: Memory


@dataclass(frozen=True, slots=True)
class Virtualisation:
    """What the host runs in: the container's kind, the virtual machine's kind, None where it is none."""

    container: str | None
    machine: str | None


def parse_os_release(text: str) -> OperatingSystem:
    """Read os-release(5): shell assignments, quoted or not."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            fields[name] = _unquoted(value)
    if not fields.get("ID"):
        raise ProbeGarbled("os-release names no distribution")
    return OperatingSystem(
        id=fields["ID"].lower(),
        version_id=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        pretty=fields.get("PRETTY_NAME", ""),
    )


def _unquoted(value: str) -> str:
    try:
        return "".join(shlex.split(value)[:1])
    except ValueError:
        return value.strip("\"'")


def parse_uname(text: str) -> tuple[str, str, str]:
    """Give the machine's architecture, its kernel's release and its kernel's name."""
    lines = text.split()
    if len(lines) != 3 or not re.fullmatch(r"[a-z][a-z0-9_]*", lines[0]):  # noqa: PLR2004 - three were asked for
        raise ProbeGarbled("uname gives no architecture, release and name")
    return lines[0], lines[1], lines[2]


def parse_cpus(text: str) -> Cpus:
    """Read nproc's number, then the flags of the first processor."""
    number, _, rest = text.strip().partition("\n")
    if not number.isdecimal() or int(number) < 1:
        raise ProbeGarbled("nproc gives no number of processors")
    return Cpus(int(number), tuple(sorted(rest.partition(":")[2].split())))


def parse_memory(text: str) -> Memory:
    """Read /proc/meminfo."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", text, re.MULTILINE))
    if int(found.get("MemTotal", 0)) < _KIB:
        raise ProbeGarbled("meminfo gives no total")
    free = found.get("MemAvailable")
    return Memory(int(found["MemTotal"]) // _KIB, int(free) // _KIB if free else None)


def parse_clock(text: str) -> int:
    """Read the seconds since 1970 that the host's clock shows."""
    if not re.fullmatch(r"-?\d{1,12}", text.strip()):
        raise ProbeGarbled("date gives no seconds")
    return int(text)


def parse_disk(text: str) -> int:
    """Read df's POSIX form, whose header is in the host's language; give what is free, in MiB."""
    for line in text.splitlines():
        if row := re.search(r"\s\d+\s+-?\d+\s+(\d+)\s+(?:\d+%|-)\s+/", line):
            return int(row[1]) // _KIB
    raise ProbeGarbled("df gives no free space")


def parse_python(text: str) -> Python:
    """Read what ``python3 -V`` says."""
    said = re.match(r"Python (\d+\.\d+\.\d+)", text)
    if not said:
        raise ProbeGarbled("/usr/bin/python3 gives no version")
    return Python(version=said[1])


def parse_yes(text: str) -> bool:
    """Read a yes or a no."""
    word = text.strip()
    if word not in {"yes", "no"}:
        raise ProbeGarbled("neither yes nor no")
    return word == "yes"


def parse_secure_boot(text: str) -> bool | None:
    """Read the firmware's variable; None where there is no such firmware, or it may not be read."""
    numbers = text.split()
    if numbers == ["unknown"]:
        return None
    if len(numbers) != _EFI_BYTES or not all(number.isdecimal() for number in numbers):
        raise ProbeGarbled("the firmware's variable SecureBoot is not five bytes")
    return numbers[-1] == "1"


def parse_virtualisation(text: str) -> Virtualisation:
    """Read one word for a container, one for a virtual machine."""
    found = dict(re.findall(r"^(container|machine) (\S+)$", text, re.MULTILINE))
    if "machine" not in found:
        raise ProbeGarbled("nothing says whether this is a virtual machine")
    container, machine = found.get("container", "none"), found["machine"]
    return Virtualisation(None if container == "none" else container, None if machine == "none" else machine)
