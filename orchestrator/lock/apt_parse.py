"""What apt reads and says: sources, status, answers. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from orchestrator.snapshot import AptSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.snapshot import Package

_INST = re.compile(r"^Inst (?P<name>\S+?)(?::\S+)? (?:\[(?P<before>[^\]]+)\] )?\((?P<version>\S+) ", re.MULTILINE)
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<bytes>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
_INTERPRETER = re.compile(r"python3\.\d+-minimal")


class Planned(NamedTuple):
    """One package that apt would install; ``before`` is the host's version, or empty."""

    name: str
    version: str
    before: str


class Located(NamedTuple):
    """One .deb as the archive's signed index describes it."""

    name: str
    version: str
    filename: str
    bytes: int
    sha256: str


def planned(simulation: str) -> tuple[Planned, ...]:
    """Read ``apt-get --simulate install``, sorted by name.

    A package that would only be put over itself is left out: a snapshot does not tell all that apt compares.
    """
    found = (Planned(one["name"], one["version"], one["before"] or "") for one in _INST.finditer(simulation))
    return tuple(sorted(one for one in found if one.before != one.version))


def located(uris: str) -> tuple[Located, ...]:
    """Read ``apt-get --print-uris download``, sorted by name. The version in a file's name has its epoch quoted."""
    found = []
    for one in _URI.finditer(uris):
        name, version, _ = unquote(one["file"]).removesuffix(".deb").rsplit("_", 2)
        found.append(Located(name, version, one["file"], int(one["bytes"]), one["sha256"]))
    return tuple(sorted(found))


def status_of(packages: Iterable[Package]) -> str:
    """Write dpkg's status file for a host's installed packages."""
    return "".join(_stanza(package) + "\n" for package in packages)


def _stanza(package: Package) -> str:
    fields = {
        "Package": package.name,
        "Essential": "yes" if package.essential else "",
        "Status": f"{'hold' if package.held else 'install'} ok installed",
        "Architecture": package.architecture,
        "Multi-Arch": package.multi_arch,
        "Version": package.version,
        "Provides": package.provides,
        "Depends": package.depends,
        "Pre-Depends": package.pre_depends,
        "Conflicts": package.conflicts,
        "Breaks": package.breaks,
        "Replaces": package.replaces,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def without(packages: Iterable[Package], ours: Iterable[str]) -> tuple[Package, ...]:
    """Give a host's packages as they were before ours came, but for those that others have come to need."""
    all_of_them = tuple(packages)
    leaving = set(ours)
    while True:
        staying = [one for one in all_of_them if one.name not in leaving]
        needed = {name for one in staying for name in _names(one)} & leaving
        if not needed:
            return tuple(staying)
        leaving -= needed


def _names(package: Package) -> set[str]:
    return _dependencies(f"{package.depends},{package.pre_depends}")


def _dependencies(field: str) -> set[str]:
    """Give all package names of a field like ``Depends``, alternatives included."""
    return {part.strip().split(" ")[0].split(":")[0] for part in re.split(r"[,|]", field) if part.strip()}


def leans_on(shown: str, packages: Iterable[Package]) -> tuple[str, ...]:
    """Give the host's packages that some .debs depend on, from ``apt-cache show`` of those. Sorted."""
    fields = re.findall(r"^(?:Pre-)?Depends: (.+)$", shown, re.MULTILINE)
    wanted = {name for field in fields for name in _dependencies(field)}
    return tuple(sorted(one.name for one in packages if wanted & {one.name, *_dependencies(one.provides)}))


def preferences(held: Mapping[str, str]) -> str:
    """Write apt's preferences that keep packages at versions, whatever else an archive offers."""
    return "".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n" for name, version in sorted(held.items())
    )


def interpreter(installed: Mapping[str, str], present: str | None) -> str | None:
    """Give the full version (``3.11.2``) of ``/usr/bin/python3`` once packages (name -> version) are installed.

    ``present`` is the version that the host has now, if any: its series stays, its patch level may move.
    """
    series = ".".join(present.split(".")[:2]) if present else None
    found = [version for name, version in installed.items() if _INTERPRETER.fullmatch(name)]
    versions = [match[1] for version in found if (match := re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", version))]
    fitting = [one for one in versions if series is None or one.startswith(f"{series}.")]
    return fitting[0] if len(fitting) == 1 else present


def mirror_sources(mirror: str, codename: str, components: tuple[str, ...] = ("main",)) -> tuple[AptSource, ...]:
    """Give the sources of a mirror: addresses with blanks between; one in ``-security`` has that suite."""
    found: list[AptSource] = []
    for uri in mirror.split():
        security = uri.rstrip("/").endswith("-security")
        suites = (f"{codename}-security",) if security else (codename, f"{codename}-updates")
        found.extend(AptSource(uri=uri, suite=suite, components=components) for suite in suites)
    return tuple(found)


def with_components(source: AptSource, components: Iterable[str]) -> AptSource:
    """Give a source with further parts of its archive; one that has no parts (a flat one) stays as it is."""
    if not source.components:
        return source
    return source.model_copy(update={"components": tuple(dict.fromkeys((*source.components, *components)))})


def of_suite(sources: Iterable[AptSource], codename: str) -> tuple[AptSource, ...]:
    """Give the sources of one release of a distribution; others (a vendor's, a flat one) are left out."""
    return tuple(one for one in sources if one.suite == codename or one.suite.startswith(f"{codename}-"))


def source_lines(sources: Iterable[AptSource], architecture: str, keyrings: Mapping[str, str]) -> str:
    """Write apt's one-line sources. ``keyrings`` maps a host's path of a keyring to the one here."""
    lines = []
    for one in sources:
        options = [f"arch={architecture}"]
        options += [f"signed-by={keyrings[one.signed_by]}"] if one.signed_by in keyrings else []
        lines.append(f"deb [{' '.join(options)}] {one.uri} {one.suite} {' '.join(one.components)}\n")
    return "".join(dict.fromkeys(lines))


def read_sources(text: str) -> tuple[AptSource, ...]:
    """Read a sources file of either form: one line each, or deb822 stanzas."""
    if re.search(r"^Types:", text, re.MULTILINE):
        return tuple(source for stanza in re.split(r"\n\s*\n", text) for source in _deb822(stanza))
    return tuple(source for line in text.splitlines() if (source := _one_line(line)))


def _deb822(stanza: str) -> tuple[AptSource, ...]:
    kept = "\n".join(line for line in stanza.splitlines() if not line.startswith("#"))
    fields = {
        name.lower(): value.strip() for name, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", kept, re.MULTILINE)
    }
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return ()
    return tuple(
        AptSource(
            uri=uri,
            suite=suite,
            components=tuple(fields.get("components", "").split()),
            signed_by=fields.get("signed-by", ""),
        )
        for uri in fields.get("uris", "").split()
        for suite in fields.get("suites", "").split()
    )


def _one_line(line: str) -> AptSource | None:
    match = re.match(
        r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)", line
    )
    if match is None:
        return None
    signed = re.search(r"signed-by=(\S+)", match["options"] or "")
    return AptSource(
        uri=match["uri"],
        suite=match["suite"],
        components=tuple(match["components"].split()),
        signed_by=signed[1] if signed else "",
    )
