"""From the outputs of the probes to the snapshot. Pure: what is missing or garbled becomes a problem, never a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.detect import apple, endpoints, packages, sockets, system
from orchestrator.detect.merge import all_cards
from orchestrator.detect.probes import COMMANDS, EVERYWHERE, PROBES
from orchestrator.detect.script import NOT_FOUND
from orchestrator.errors import ProbeGarbled, ProbeMissing
from orchestrator.snapshot import HostSnapshot, OperatingSystem, Package, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.detect.cards import Cards
    from orchestrator.detect.script import Output

T = TypeVar("T")
_NONE: tuple[Any, ...] = ()
#: A clock that is further off than this is worth a word: five minutes, as Kerberos allows (RFC 4120, 1.6).
CLOCK_SECONDS = 300
_UNITS = {"years": 365.25 * 86400, "days": 86400, "hours": 3600, "minutes": 60}
_BY_NAME = {probe.name: probe for probe in PROBES}


class Findings:
    """The outputs of one host's probes, and the problems met while they are read.

    Probes of which no answer came, because the host's answer was cut short, are one problem together.
    """

    def __init__(self, outputs: Mapping[str, Output], asked: Iterable[str]) -> None:
        self.outputs = outputs
        self.problems: list[Problem] = []
        #: Elsewhere than on Linux, what only Linux can answer is neither read nor missed.
        self.linux = True
        self.arch, self.kernel, system_name = self.read("uname", system.parse_uname, ("unknown", "", "Linux"))
        self.linux = system_name == "Linux"
        self.mac = system_name == apple.DARWIN
        asked = [name for name in asked if self.linux or not _BY_NAME[name].linux]
        missing = [_BY_NAME[name].asks for name in asked if name not in outputs and not _BY_NAME[name].optional]
        if missing:
            what = f"the answer was cut off: nothing came of {', '.join(missing)}"
            self.problems.append(Problem(kind=ProbeGarbled.kind, what=what, do="detect again"))

    def text(self, name: str) -> str:
        """Give what a probe printed; raises ProbeMissing."""
        probe = _BY_NAME[name]
        if self.outputs[name].status == NOT_FOUND:
            raise ProbeMissing(f"{probe.asks} is not there", do=probe.do or f"see why {probe.asks} is missing there")
        return self.outputs[name].text

    def read(self, name: str, parse: Callable[[str], T], otherwise: T) -> T:
        """Give what a probe's parse makes of its output; where it can't, note a problem and give ``otherwise``."""
        if name not in self.outputs or (_BY_NAME[name].linux and not self.linux):
            return otherwise
        try:
            return parse(self.text(name))
        except ProbeMissing as error:
            if not _BY_NAME[name].optional:
                self.problems.append(Problem(kind=error.kind, what=error.what, do=error.do))
        except (ProbeGarbled, ValueError) as error:
            asks = _BY_NAME[name].asks
            what = error.what if isinstance(error, ProbeGarbled) else f"{asks} is not understood"
            self.problems.append(Problem(kind=ProbeGarbled.kind, what=what, do=f"see what {asks} says there"))
        return otherwise

    def maybe(self, name: str, parse: Callable[[str], T]) -> T | None:
        """Give what a probe's parse makes of its output, None where it can't."""

        def read(text: str) -> T | None:
            return parse(text)

        return self.read(name, read, None)

    def there(self, name: str) -> bool:
        """Tell whether a probe's command is there."""
        output = self.outputs.get(name)
        return output is not None and output.status != NOT_FOUND

    def peek(self, name: str) -> str:
        """Give what an optional probe printed, nothing where it is not there."""
        return self.outputs[name].text if self.there(name) else ""


def snapshot_of(
    name: str,
    outputs: Mapping[str, Output],
    pci_names: Mapping[str, tuple[str, int, str | None]],
    nvml: Cards | None = None,
    now: float | None = None,
) -> HostSnapshot:
    """Give the snapshot of a host. With ``nvml`` the driver was asked directly and nvidia-smi was not.

    ``now`` is what this machine's clock shows, in seconds since 1970, where the host's is held against it.

    What no probe tells is the least it can be (one processor, 1 MiB of RAM), and a problem says so.
    """
    findings = Findings(outputs, COMMANDS if nvml is None else EVERYWHERE)
    about = _mac(findings) if findings.mac else _linux(findings)
    inside = findings.read("virtualisation", system.parse_virtualisation, system.Virtualisation(None, None))
    installed: tuple[Package, ...] = findings.read("packages", packages.parse_packages, _NONE)
    holders = findings.peek("holders")
    found = all_cards(findings, about.memory, {one.name: one.version for one in installed}, pci_names, nvml)
    _half_installed(findings)
    _clock(findings, now)
    return HostSnapshot(
        name=name,
        os=about.os,
        arch=findings.arch,
        kernel=findings.kernel,
        cpus=about.cpus.count,
        cpu_flags=about.cpus.flags,
        ram_mib=about.memory.total,
        ram_free_mib=about.memory.free,
        disk_free_mib=findings.maybe("disk", system.parse_disk),
        gpus=found.gpus,
        driver=found.driver,
        cuda=found.cuda,
        links=found.links,
        python=findings.maybe("python", system.parse_python),
        systemd=findings.read("systemd", system.parse_yes, otherwise=False),
        container=inside.container,
        virtualisation=inside.machine,
        kvm=findings.read("kvm", system.parse_yes, otherwise=False),
        wsl="microsoft" in findings.kernel.lower(),
        secure_boot=findings.maybe("secure_boot", system.parse_secure_boot),
        listeners=(listening := findings.read("sockets", lambda text: sockets.parse_sockets(text, holders), _NONE)),
        endpoints=findings.read("endpoints", lambda text: endpoints.parse_endpoints(text, listening), _NONE),
        firewalls=findings.read("firewalls", endpoints.parse_firewalls, _NONE),
        packages=installed,
        apt_sources=findings.read("apt_sources", packages.parse_apt_sources, _NONE),
        problems=(*findings.problems, *found.problems),
    )


def _linux(findings: Findings) -> system.Machine:
    return system.Machine(
        findings.read("os_release", system.parse_os_release, OperatingSystem(id="unknown")),
        findings.read("cpus", system.parse_cpus, system.Cpus(1, ())),
        findings.read("memory", system.parse_memory, system.Memory(1, None)),
    )


def _mac(findings: Findings) -> system.Machine:
    least = system.Machine(OperatingSystem(id="macos"), system.Cpus(1, ()), system.Memory(1, None))
    return findings.read("mac_system", apple.parse_system, least)


def _clock(findings: Findings, now: float | None) -> None:
    """Note how far the host's clock is off; an answer may have been on its way for some minutes."""
    shown = findings.maybe("clock", system.parse_clock)
    if now is None or shown is None or abs(off := shown - now) <= CLOCK_SECONDS:
        return
    far = next(f"{abs(off) / size:.1f} {unit}" for unit, size in _UNITS.items() if abs(off) >= size)
    what = f"its clock is {far} {'ahead of' if off > 0 else 'behind'} this machine's"
    do = "see which of the two is wrong, and set it: timedatectl set-ntp true"
    findings.problems.append(Problem(kind="clock", what=what, do=do))


def _half_installed(findings: Findings) -> None:
    broken = packages.parse_half_installed(findings.peek("packages"))
    if broken:
        shown = ", ".join(broken[:3]) + (" and others" if len(broken) > 3 else "")  # noqa: PLR2004 - three are enough
        what = f"dpkg left packages half installed: {shown}"
        findings.problems.append(Problem(kind="packages_broken", what=what, do="run dpkg --configure -a there"))
