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

#: What a container for agents has besides the essential packages: what agents and their tests call, and what a program
#: for Node.js is linked with.
_IMAGE_BASE = ("ca-certificates", "git", "libstdc++6", "procps", "python3")
#: Distribution and version -> package -> what that distribution has split off it and does not install with it.
_SPLIT_OFF = {("debian", "13"): {"docker.io": ("docker-cli",)}}
#: Package -> one from its maker's own archive that stands for it where a host has it already.
_INSTEAD = {"docker.io": "docker-ce"}

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
    #: Packages of the image that containers for agents are made from; empty where there are none.
    image: tuple[str, ...] = ()


def wanted(
    deployment: Deployment, packages: Iterable[str], catalog: Catalog, snapshot: HostSnapshot | None = None
) -> Wanted:
    """Give what a decision needs; ``snapshot`` says whose cards its are. Raises CatalogError for a row not there."""
    runtime = catalog.runtimes.get(deployment.runtime)
    if runtime is None:
        raise CatalogError(f"the runtime {deployment.runtime} is not in the catalog", where="catalog/runtimes.yml")
    agents = tuple(catalog.agents[name] for name in deployment.agents if name in catalog.agents)
    names = _of_the_host({*packages, *runtime.install.packages}, snapshot)
    image = _image(deployment, agents)
    if runtime.install.kind == "none":
        return Wanted(runtime, None, names, agents, image=image)
    llm = catalog.llms.get(deployment.llm)
    if llm is None:
        raise CatalogError(f"the llm {deployment.llm} is not in the catalog", where="catalog/llms")
    files = Weights(llm.name, deployment.quant, llm.quant(deployment.quant).files)
    return Wanted(runtime, files, names, agents, _device(deployment, snapshot), image)


def _image(deployment: Deployment, agents: Iterable[AgentRow]) -> tuple[str, ...]:
    """Give what the image of the containers is made of: the base, what the agents call, what the profile names."""
    if deployment.sandbox is None:
        return ()
    called = {name for row in agents for name in row.install.packages}
    return tuple(sorted({*_IMAGE_BASE, *called, *deployment.sandbox.packages}))


def _of_the_host(names: set[str], snapshot: HostSnapshot | None) -> tuple[str, ...]:
    """Give packages as a host's distribution has them; what it has from another archive instead is left out."""
    if snapshot is None:
        return tuple(sorted(names))
    there = {package.name for package in snapshot.packages}
    kept = {name for name in names if _INSTEAD.get(name) not in there}
    split = _SPLIT_OFF.get((snapshot.os.id, snapshot.os.version_id), {})
    return tuple(sorted(kept.union(*(split.get(name, ()) for name in kept))))


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
