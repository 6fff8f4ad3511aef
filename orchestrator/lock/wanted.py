"""What must be resolved for a host: read from the decision and the catalog. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.deployment import Deployment, StandIn
from orchestrator.errors import CatalogError, LockError
from orchestrator.nouns import Noun
from orchestrator.snapshot import HostSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.catalog.rows import AgentRow, Catalog, Device, RuntimeRow, WeightFile

#: Distribution and version -> glibc, for a snapshot that lists no packages. From each one's libc6 package.
_GLIBC = {
    ("debian", "11"): (2, 31),
    ("debian", "12"): (2, 36),
    ("debian", "13"): (2, 41),
    ("ubuntu", "22.04"): (2, 35),
    ("ubuntu", "24.04"): (2, 39),
}

#: Machine -> Debian's name of the architecture.
DEB_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Request(Noun):
    """What one host's part of the lock is made for. ``packages`` are the apt names that its rendering needs."""

    snapshot: HostSnapshot
    profile_digest: str
    deployment: Deployment
    rehearsal: Deployment | None = None
    stand_ins: tuple[StandIn, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def applied(self) -> Deployment:
        """Give the deployment that is really put on the host."""
        return self.rehearsal or self.deployment

    @property
    def components(self) -> tuple[str, ...]:
        """Give the parts of the host's archives that its driver comes from."""
        return self.applied.driver.components if self.applied.driver else ()


class Target(NamedTuple):
    """What wheels must suit: the interpreter's full version, the machine, and its glibc."""

    python: str
    arch: str
    glibc: tuple[int, int]

    @property
    def minor(self) -> str:
        """Give the interpreter's version as ``3.11``."""
        return ".".join(self.python.split(".")[:2])

    def __str__(self) -> str:
        """Give it as the lock writes it."""
        return f"python {self.python} {self.arch} glibc {self.glibc[0]}.{self.glibc[1]}"

    @classmethod
    def read(cls, text: str) -> Target:
        """Read what ``str`` wrote, at the end of a text. Raises LockError."""
        match = re.search(r"python (\S+) (\S+) glibc (\d+)\.(\d+)$", text)
        if match is None:
            raise LockError("the lock does not say what its wheels are for", where=text)
        return cls(match[1], match[2], (int(match[3]), int(match[4])))


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of one llm in one quantisation."""

    llm: str
    quant: str
    files: tuple[WeightFile, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One decision's artefacts by name: the runtime's row, the llm's files, apt packages, the agents' rows."""

    runtime: RuntimeRow
    weights: Weights | None
    packages: tuple[str, ...]
    agents: tuple[AgentRow, ...] = ()
    #: What the runtime computes on.
    device: Device = "cpu"


def wanted(
    deployment: Deployment, packages: Iterable[str], catalog: Catalog, snapshot: HostSnapshot | None = None
) -> Wanted:
    """Give what a decision needs; ``snapshot`` says whose cards its are. Raises CatalogError for a row not there."""
    runtime = catalog.runtimes.get(deployment.runtime)
    if runtime is None:
        raise CatalogError(f"the runtime {deployment.runtime} is not in the catalog", where="catalog/runtimes.yml")
    agents = tuple(catalog.agents[name] for name in deployment.agents if name in catalog.agents)
    names = tuple(sorted({*packages, *runtime.install.packages}))
    if runtime.install.kind == "none":
        return Wanted(runtime, None, names, agents)
    llm = catalog.llms.get(deployment.llm)
    if llm is None:
        raise CatalogError(f"the llm {deployment.llm} is not in the catalog", where="catalog/llms")
    files = Weights(llm.name, deployment.quant, llm.quant(deployment.quant).files)
    return Wanted(runtime, files, names, agents, _device(deployment, snapshot))


def _device(deployment: Deployment, snapshot: HostSnapshot | None) -> Device:
    """Give what a deployment computes on: its cards' vendor, or the processor."""
    cards = snapshot.gpus if snapshot and deployment.gpus else ()
    return next((card.vendor for card in cards if card.bus_id in deployment.gpus), "cpu")


def target_of(snapshot: HostSnapshot, python: str) -> Target:
    """Give what wheels for a host must suit; ``python`` is the full version of its interpreter. Raises LockError."""
    if snapshot.arch not in DEB_ARCHITECTURES:
        raise LockError(f"wheels for {snapshot.arch} are not resolved here", where=snapshot.name)
    return Target(python, snapshot.arch, _glibc(snapshot))


def _glibc(snapshot: HostSnapshot) -> tuple[int, int]:
    libc = next((package.version for package in snapshot.packages if package.name == "libc6"), "")
    if match := re.match(r"(\d+)\.(\d+)", libc):
        return int(match[1]), int(match[2])
    try:
        return _GLIBC[snapshot.os.id, snapshot.os.version_id]
    except KeyError:
        raise LockError(
            f"the glibc of {snapshot.os.pretty or snapshot.os.id} is not known",
            where=snapshot.name,
            do="use a host with Debian 12, Debian 13 or Ubuntu 24.04",
        ) from None
