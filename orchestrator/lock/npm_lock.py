"""What npm wrote into ``package-lock.json`` (version 3), read for one machine: which package goes where. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.catalog.rows import AgentRow, Native
    from orchestrator.lock.wanted import Target

#: Machine -> node's name of it (process.arch).
CPUS = {"x86_64": "x64", "aarch64": "arm64"}
SYSTEM, LIBC = "linux", "glibc"
#: npm's packages of node itself: the program alone, for one system and processor each, with no script.
NODE, NODE_PROGRAM = "node-linux-{cpu}", "bin/node"

_NAME = r"(?:@[a-z0-9._~-]+/)?[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_NAMED = re.compile(r"(?:@[a-z0-9~][a-z0-9._~-]*/)?[A-Za-z0-9_~][A-Za-z0-9._~-]*")
_PLACE = re.compile(rf"node_modules/{_NAME}(?:/node_modules/{_NAME})*")
_VERSION = re.compile(r"[0-9A-Za-z.+-]+")
_SHA512 = re.compile(r"sha512-([A-Za-z0-9+/]{86}==)")


@dataclass(frozen=True, slots=True)
class Machine:
    """What native packages must suit: the machine's name, and what its processor can."""

    arch: str
    cpu_flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Placed:
    """One package and where it goes. ``integrity`` is its tarball's sha512 as npm writes it."""

    place: str
    name: str
    version: str
    integrity: str

    @property
    def spec(self) -> str:
        """Give it as npm takes it."""
        return f"{self.name}@{self.version}"

    @property
    def filename(self) -> str:
        """Give the name that npm gives its tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def native_of(row: AgentRow, machine: Machine) -> Native | None:
    """Give the native package for a machine, None for an agent that has none; raises LockError where none suits."""
    natives = row.install.natives
    for one in natives:
        if one.arch == machine.arch and (one.cpu_flag is None or one.cpu_flag in machine.cpu_flags):
            return one
    if natives:
        raise LockError(f"{row.title} has no program for {machine.arch}", where=f"agent {row.name}")
    return None


def package_name(row: AgentRow, machine: Machine) -> str:
    """Give the package that is asked for on an agent's behalf, without its range of versions."""
    native = native_of(row, machine) if row.install.native_only else None
    return native.package if native else _parted(row)[0]


def node_package(row: AgentRow, machine: Machine) -> str | None:
    """Give npm's package of the node that comes with an agent, None for one that needs none."""
    return NODE.format(cpu=CPUS[machine.arch]) if row.install.node else None


def asked_of_npm(row: AgentRow, held: Mapping[str, str], machine: Machine) -> dict[str, Any]:
    """Give the ``package.json`` that asks for an agent; ``held`` names versions that must not move."""
    node = node_package(row, machine)
    wanted = {package_name(row, machine): _parted(row)[1], **({node: str(row.install.node)} if node else {})}
    return {
        "name": "agentrig-tree",
        "version": "0.0.0",
        "private": True,
        "dependencies": {name: held.get(name, version) for name, version in wanted.items()},
        "overrides": {other: version for other, version in sorted(held.items()) if other not in wanted},
    }


def _parted(row: AgentRow) -> tuple[str, str]:
    name, _, wanted = (row.install.package or "").rpartition("@")
    if not name:
        raise LockError(f"the catalog names no npm package for {row.title}", where="catalog/agents.yml")
    return name, wanted


def placed(document: Mapping[str, Any], row: AgentRow, machine: Machine) -> tuple[Placed, ...]:
    """Give what goes where on a machine, sorted by place.

    Optional packages for other machines are left out. Raises LockError for what cannot be placed: another version of
    the file, a name that is none, a place outside ``node_modules``, a link, a package without a sha512, a script that
    nobody spoke of. Where a tarball comes from is not looked at: what comes is held against its sha512.
    """
    packages = document.get("packages")
    if document.get("lockfileVersion") != 3 or not isinstance(packages, dict):  # noqa: PLR2004 - npm 7 and newer
        raise LockError("npm's lock is of a form that is not known", where="npm", do="use npm 7 or newer")
    native = native_of(row, machine)
    others = {
        f"node_modules/{one.package}" for one in row.install.natives if one.package != getattr(native, "package", "")
    }
    found = tuple(sorted(_suiting(packages, row, machine, others), key=lambda one: one.place))
    if native and f"node_modules/{native.package}" not in {one.place for one in found}:
        raise LockError(
            f"the registry gives no {native.package}, which {row.title} needs on this machine",
            where=f"agent {row.name}",
            do="see whether npm's registry has it, or take the agent out of the profile",
        )
    return found


def _suiting(packages: Mapping[str, Any], row: AgentRow, machine: Machine, others: Iterable[str]) -> Iterator[Placed]:
    left_out = [*others]
    for place, entry in sorted(packages.items()):
        if place == "" or entry.get("inBundle") or any(place == one or place.startswith(f"{one}/") for one in left_out):
            continue
        if not _suits(entry, machine):
            if not entry.get("optional"):
                raise LockError(f"{_name(place, entry)} is not made for {machine.arch}", where=f"agent {row.name}")
            left_out.append(place)
            continue
        yield _one(place, entry, row)


def _one(place: str, entry: Mapping[str, Any], row: AgentRow) -> Placed:
    name, version = _name(place, entry), str(entry.get("version", ""))
    if entry.get("link") or not _PLACE.fullmatch(place) or not _VERSION.fullmatch(version):
        raise LockError(f"npm would place {name} where nothing of ours may go: {place}", where=f"agent {row.name}")
    if not _NAMED.fullmatch(name):
        raise LockError(f"npm names a package {name!r}, which is no name", where=f"agent {row.name}")
    match = _SHA512.search(str(entry.get("integrity", "")))
    if match is None:
        raise LockError(f"the registry gives no sha512 for {name} {version}", where=f"agent {row.name}")
    if entry.get("hasInstallScript") and name not in row.install.scripts:
        raise LockError(
            f"{name} {version} wants to run a script when it is installed, and none is run here",
            where=f"agent {row.name}",
            do="say in catalog/agents.yml, under install.scripts, why it works without",
        )
    return Placed(place, name, version, match[0])


def _name(place: str, entry: Mapping[str, Any]) -> str:
    return str(entry.get("name") or place.rpartition("node_modules/")[2])


def _suits(entry: Mapping[str, Any], machine: Machine) -> bool:
    wanted = {"os": SYSTEM, "cpu": CPUS[machine.arch], "libc": LIBC}
    return all(_allows(entry.get(field) or [], value) for field, value in wanted.items())


def _allows(listed: list[str] | str, value: str) -> bool:
    """Tell whether a list of npm's (``["linux"]``, ``["!win32"]``) takes a value."""
    names = [listed] if isinstance(listed, str) else listed
    positive = [name for name in names if not name.startswith("!")]
    return f"!{value}" not in names and (not positive or value in positive)


def links_of(document: Mapping[str, Any], row: AgentRow, machine: Machine) -> dict[str, str]:
    """Give the commands of the tree: path of each link in it -> where it points. Raises LockError."""
    native, node = native_of(row, machine), node_package(row, machine)
    if native:
        return {f"bin/{row.command}": f"../node_modules/{native.package}/{native.program}"}
    package = package_name(row, machine)
    named = document["packages"].get(f"node_modules/{package}", {}).get("bin", {})
    program = str(named.get(row.command, "")).removeprefix("./")
    if not program or program.startswith("/") or ".." in program.split("/"):
        raise LockError(f"{package} brings no command {row.command}", where=f"agent {row.name}")
    interpreter = {"bin/node": f"../node_modules/{node}/{NODE_PROGRAM}"} if node else {}
    return {f"bin/{row.command}": f"../node_modules/{package}/{program}", **interpreter}


def source_of(row: AgentRow, target: Target, machine: Machine) -> str:
    """Give what the lock calls the request for an agent: equal while catalog and host ask for the same."""
    native, node = native_of(row, machine), node_package(row, machine)
    with_native = f" with {native.package}{' alone' if row.install.native_only else ''}" if native else ""
    with_node = f" with {node}@{row.install.node}" if node else ""
    return f"npm:{row.install.package} for {SYSTEM} {target.arch} {LIBC}{with_native}{with_node}"
