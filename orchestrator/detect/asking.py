"""Ask hosts what they are and whether their manifests still hold: one connection and one command a host."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.detect import faults, journals
from orchestrator.detect.disk import DISK, parse_disk
from orchestrator.detect.nvidia import read_nvml
from orchestrator.detect.probes import COMMANDS, EVERYWHERE
from orchestrator.detect.readings import commands, parse_reading
from orchestrator.detect.script import compose, decode
from orchestrator.detect.snapshots import snapshot_of
from orchestrator.errors import AgentrigError, DetectError
from orchestrator.signing import HOST_SIGNERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.doctor import UnitLog
    from orchestrator.inventory import Host
    from orchestrator.machine_doctor import MachineLogs
    from orchestrator.manifest import Manifest, Reading
    from orchestrator.releases import DiskUse
    from orchestrator.snapshot import HostSnapshot

    PciNames = Mapping[str, tuple[str, int, str | None]]

#: How long a host may work on its answer, in seconds: probes take one or two, a tree of 1 GiB some ten.
ANSWER_SECONDS = 180
#: With every weight file read to the last byte: 200 GiB from a slow disk.
THOROUGH_SECONDS = 1800
#: What the child needs beyond the slowest host's answer: its own start, and connections that are refused late.
_GRACE_SECONDS = 60
_NO_NAMES: PciNames = MappingProxyType({})
_MANIFEST = "manifest:"
#: Sections of the answer that no probe has; the colon keeps them apart from the probes' own names.
_DISK = "folder:disk"
_JOURNAL = "journal:"
_MACHINE = "machine:"
#: Whose locks a host takes, as its owner wrote it down there; fails where he did not.
_SIGNERS, _SAY_SIGNERS = "folder:signers", f"cat {HOST_SIGNERS}"


@dataclass(frozen=True, slots=True)
class Question:
    """What one host is asked. ``thorough`` reads trees of more than 1 GiB to the last byte (see ``readings``)."""

    host: Host
    snapshot: bool = True
    manifest: Manifest | None = None
    thorough: bool = False
    #: Whether it is asked what our folder takes of its disk.
    disk: bool = False
    #: Whether it is asked how our units stand and what they wrote; of one that ended, in so many seconds.
    journal: bool = False
    journal_seconds: int | None = None
    #: Whether it is asked what kernel, driver and container engine say.
    machine: bool = False

    @property
    def script(self) -> str:
        """Give the shell script that answers it."""
        wanted = dict(COMMANDS) if self.snapshot else {}
        if self.manifest:
            wanted |= {_MANIFEST + name: text for name, text in commands(self.manifest, thorough=self.thorough).items()}
        if self.disk:
            wanted[_DISK] = DISK
        if self.journal:
            wanted |= {_JOURNAL + name: text for name, text in journals.commands(self.journal_seconds).items()}
        if self.machine:
            wanted |= {_MACHINE + name: text for name, text in faults.COMMANDS.items()}
        return compose(wanted | {_SIGNERS: _SAY_SIGNERS}, become=self.host.become)

    @property
    def seconds(self) -> int:
        """Give how long the host may work on it."""
        return THOROUGH_SECONDS if self.thorough else ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host answered, or an error with ``kind``, ``what``, ``where`` and ``do``.

    ``signers`` is the file of those whose locks it takes; None where its owner put none there.
    """

    snapshot: HostSnapshot | None = None
    reading: Reading | None = None
    error: dict[str, str] | None = None
    signers: str | None = None
    disk: DiskUse | None = None
    units: tuple[UnitLog, ...] = ()
    machine: MachineLogs | None = None


def read_local(name: str = "localhost", pci_names: PciNames = _NO_NAMES) -> HostSnapshot:
    """Read this machine without any connection; raises DetectError where it has no gzip or does not answer."""
    nvml = read_nvml()
    outputs = decode(_run_here(compose(COMMANDS if nvml is None else EVERYWHERE), ANSWER_SECONDS, name), name)
    return snapshot_of(name, outputs, pci_names, nvml)


def ask(questions: Sequence[Question], pci_names: PciNames = _NO_NAMES) -> dict[str, Answer]:
    """Ask many hosts at once, each in one connection; a host that cannot be asked is an answer with an error."""
    away = [one for one in questions if one.host.connection == "ssh"]
    here = [one for one in questions if one.host.connection == "local"]
    child = _start() if away else None
    try:
        answers = {one.host.name: _answer_here(one, pci_names) for one in here}
        if child:
            lines = _collect(child, away)
            answers |= {one.host.name: _answer_away(one, lines, pci_names) for one in away}
    finally:
        if child and child.poll() is None:
            child.kill()
            child.wait()
    return {one.host.name: answers[one.host.name] for one in questions}


def _start() -> subprocess.Popen[str]:
    """Start the child that will hold the connections; it gets ready while this process goes on."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator.detect.remote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _collect(child: subprocess.Popen[str], away: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """Give the child its questions, and its lines by host; a host of which it says nothing gets its last words."""
    asked = [{"host": one.host.document(), "script": one.script, "seconds": one.seconds} for one in away]
    try:
        said, complaint = child.communicate(json.dumps(asked), max(one.seconds for one in away) + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        said, complaint = child.communicate()
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{") and line.endswith("}")]
    last = complaint.strip().splitlines()[-1:] or ["it ended without a word"]
    return {line["name"]: line for line in lines} | {"": {"complaint": last[0]}}


def _answer_away(one: Question, lines: Mapping[str, dict[str, Any]], pci_names: PciNames) -> Answer:
    name = one.host.name
    line = lines.get(name)
    if line is None:
        what = f"the process that reads hosts failed: {lines['']['complaint']}"
        return Answer(error=DetectError(what, where=name, do="try again").document())
    if "error" in line:
        return Answer(error=line["error"])
    return _answer(one, line["output"], pci_names)


def _answer_here(one: Question, pci_names: PciNames) -> Answer:
    try:
        output = _run_here(one.script, one.seconds, one.host.name)
    except AgentrigError as error:
        return Answer(error=error.document())
    return _answer(one, output, pci_names)


def _answer(one: Question, output: str, pci_names: PciNames) -> Answer:
    name = one.host.name
    try:
        sections = decode(output, name)
        signers, disk = sections.pop(_SIGNERS, None), sections.pop(_DISK, None)
        logs = {name: sections.pop(name) for name in list(sections) if name.startswith(_JOURNAL)}
        said = {name: sections.pop(name) for name in list(sections) if name.startswith(_MACHINE)}
        own = {section: text for section, text in sections.items() if not section.startswith(_MANIFEST)}
        rest = {section.removeprefix(_MANIFEST): text for section, text in sections.items() if section not in own}
        return Answer(
            snapshot=snapshot_of(name, own, pci_names, now=time.time()) if one.snapshot else None,
            reading=parse_reading(one.manifest, rest) if one.manifest else None,
            signers=signers.text if signers and signers.status == 0 else None,
            disk=parse_disk(disk.text) if disk else None,
            units=journals.parse({name.removeprefix(_JOURNAL): output for name, output in logs.items()}),
            machine=faults.parse({name.removeprefix(_MACHINE): output for name, output in said.items()})
            if one.machine
            else None,
        )
    except AgentrigError as error:
        return Answer(error={**error.document(), "where": name})


def _run_here(script: str, seconds: int, name: str) -> str:
    """Run the script on this machine; give what it printed."""
    try:
        done = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise DetectError(f"it did not answer within {seconds} s", where=name, do="see what it is busy with") from None
    return done.stdout
