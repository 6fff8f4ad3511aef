"""From the outputs of the probes to the snapshot. Pure: what is missing or garbled becomes a problem, never a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.detect import packages, smi, sockets, system
from orchestrator.detect.cards import VIRTUAL, Cards, PciCard, by_pci, parse_pci
from orchestrator.detect.probes import COMMANDS, EVERYWHERE, PROBES
from orchestrator.detect.script import NOT_FOUND
from orchestrator.errors import ProbeGarbled, ProbeMissing
from orchestrator.snapshot import Gpu, HostSnapshot, Link, OperatingSystem, Package, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.detect.script import Output

T = TypeVar("T")
_NONE: tuple[Any, ...] = ()
_BY_NAME = {probe.name: probe for probe in PROBES}


class Findings:
    """The outputs of one host's probes, and the problems met while they are read.

    Probes of which no answer came, because the host's answer was cut short, are one problem together.
    """

    def __init__(self, outputs: Mapping[str, Output], asked: Iterable[str]) -> None:
        self.outputs = outputs
        self.problems: list[Problem] = []
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
        if name not in self.outputs:
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

    def peek(self, name: str) -> str:
        """Give what an optional probe printed, nothing where it is not there."""
        output = self.outputs.get(name)
        return output.text if output and output.status != NOT_FOUND else ""


def snapshot_of(
    name: str,
    outputs: Mapping[str, Output],
    pci_names: Mapping[str, tuple[str, int, str | None]],
    nvml: Cards | None = None,
) -> HostSnapshot:
    """Give the snapshot of a host. With ``nvml`` the driver was asked directly and nvidia-smi was not.

    What no probe tells is the least it can be (one processor, 1 MiB of RAM), and a problem says so.
    """
    findings = Findings(outputs, COMMANDS if nvml is None else EVERYWHERE)
    arch, kernel = findings.read("uname", system.parse_uname, ("unknown", ""))
    cpus = findings.read("cpus", system.parse_cpus, system.Cpus(1, ()))
    memory = findings.read("memory", system.parse_memory, system.Memory(1, None))
    inside = findings.read("virtualisation", system.parse_virtualisation, system.Virtualisation(None, None))
    installed: tuple[Package, ...] = findings.read("packages", packages.parse_packages, _NONE)
    holders = findings.peek("holders")
    found = _cards(findings, {one.name: one.version for one in installed}, pci_names, nvml)
    _half_installed(findings)
    return HostSnapshot(
        name=name,
        os=findings.read("os_release", system.parse_os_release, OperatingSystem(id="unknown")),
        arch=arch,
        kernel=kernel,
        cpus=cpus.count,
        cpu_flags=cpus.flags,
        ram_mib=memory.total,
        ram_free_mib=memory.free,
        disk_free_mib=_maybe(findings, "disk", system.parse_disk),
        gpus=found.gpus,
        driver=found.driver,
        cuda=found.cuda,
        links=found.links,
        python=_maybe(findings, "python", system.parse_python),
        systemd=findings.read("systemd", system.parse_yes, otherwise=False),
        container=inside.container,
        virtualisation=inside.machine,
        kvm=findings.read("kvm", system.parse_yes, otherwise=False),
        wsl="microsoft" in kernel.lower(),
        secure_boot=_maybe(findings, "secure_boot", system.parse_secure_boot),
        listeners=findings.read("sockets", lambda text: sockets.parse_sockets(text, holders), _NONE),
        packages=installed,
        apt_sources=findings.read("apt_sources", packages.parse_apt_sources, _NONE),
        problems=(*findings.problems, *found.problems),
    )


def _maybe(findings: Findings, name: str, parse: Callable[[str], T]) -> T | None:
    def read(text: str) -> T | None:
        return parse(text)

    return findings.read(name, read, None)


def _half_installed(findings: Findings) -> None:
    broken = packages.parse_half_installed(findings.peek("packages"))
    if broken:
        shown = ", ".join(broken[:3]) + (" and others" if len(broken) > 3 else "")  # noqa: PLR2004 - three are enough
        what = f"dpkg left packages half installed: {shown}"
        findings.problems.append(Problem(kind="packages_broken", what=what, do="run dpkg --configure -a there"))


def _cards(
    findings: Findings,
    installed: Mapping[str, str],
    pci_names: Mapping[str, tuple[str, int, str | None]],
    nvml: Cards | None,
) -> Cards:
    """Give all cards in the order of the bus: NVIDIA's from their driver where it answers, the rest from the bus."""
    on_bus: tuple[PciCard, ...] = findings.read("pci", parse_pci, _NONE)
    driven = nvml or _by_smi(findings)
    module = _maybe(findings, "nvidia_module", smi.parse_module)
    told = _driver_problems(on_bus, driven, module, smi.installed_driver(installed))
    known = {problem.kind for problem in told}
    problems = [*(problem for problem in driven.problems if problem.kind not in known), *told]
    asked = {gpu.bus_id for gpu in driven.gpus}
    unasked = [card for card in on_bus if card.bus_id not in asked]
    lost = {card for card in unasked if asked and card.vendor == "nvidia" and card.driver != VIRTUAL}
    rest = by_pci([card for card in unasked if card not in lost], pci_names)
    ours = smi.parse_ours(findings.peek("nvidia_ours"))
    gpus = sorted((*driven.gpus, *rest.gpus), key=lambda gpu: gpu.bus_id)
    places = {gpu.index: gpu.bus_id for gpu in driven.gpus}
    order = {gpu.bus_id: index for index, gpu in enumerate(gpus)}
    return Cards(
        gpus=tuple(_numbered(gpu, order, ours) for gpu in gpus),
        driver=driven.driver or module,
        cuda=driven.cuda,
        links=_numbered_links(driven.links, {index: order[place] for index, place in places.items()}),
        problems=(*problems, *rest.problems),
    )


def _numbered_links(links: Iterable[Link], order: Mapping[int, int]) -> tuple[Link, ...]:
    """Give links by the order of the bus instead of the driver's."""
    ends = [
        (*sorted((order[link.first], order[link.second])), link.kind)
        for link in links
        if {link.first, link.second} <= order.keys()
    ]
    return tuple(Link(first=first, second=second, kind=kind) for first, second, kind in sorted(ends))


def _numbered(gpu: Gpu, order: Mapping[str, int], ours: Mapping[str, int]) -> Gpu:
    changes: dict[str, Any] = {"index": order[gpu.bus_id], "vram_ours_mib": ours.get(gpu.bus_id, 0)}
    return gpu.model_copy(update=changes)


def _by_smi(findings: Findings) -> Cards:
    found = findings.read("nvidia_smi", smi.parse_smi, Cards())
    if not found.gpus:
        return found
    return Cards(
        gpus=found.gpus,
        driver=found.driver,
        cuda=smi.parse_cuda(findings.peek("nvidia_cuda")),
        links=smi.parse_topology(findings.peek("nvidia_topology")),
        problems=found.problems,
    )


def _driver_problems(
    on_bus: tuple[PciCard, ...], driven: Cards, module: str | None, library: str | None
) -> list[Problem]:
    """Say what is wrong between the cards, the loaded module and the installed driver."""
    cards = [card for card in on_bus if card.vendor == "nvidia" and card.driver != VIRTUAL]
    said = {problem.kind for problem in driven.problems}
    found = []
    if module and library and module != library:
        what = f"the loaded NVIDIA module is {module}, the installed driver {library}"
        found.append(Problem(kind="driver_mismatch", what=what, do="reboot, and hold the driver's packages"))
    if cards and not driven.gpus and not said and not module:
        by = f", and {cards[0].driver} has it" if cards[0].driver == "nouveau" else ""
        what = f"no NVIDIA driver is installed for the card at {cards[0].bus_id}{by}"
        found.append(Problem(kind="driver_missing", what=what, do="install the distribution's NVIDIA driver"))
    seen = {gpu.bus_id for gpu in driven.gpus}
    if driven.gpus and "gpu_lost" not in said:
        lost = [card.bus_id for card in cards if card.bus_id not in seen]
        found += [
            Problem(kind="gpu_lost", what=f"the driver does not answer for the card at {place}", do="see dmesg for Xid")
            for place in lost
        ]
    return found
