"""What dpkg has installed and where apt gets more. Commands and pure parses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import AptSource, Package

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FIELDS = (
    "db:Status-Status",
    "db:Status-Want",
    "Package",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Depends",
    "Pre-Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Replaces",
    "Essential",
)
PACKAGES = "dpkg-query -W -f '" + "\\t".join(f"${{{field}}}" for field in _FIELDS) + "\\n'"
#: Each file after a line with the record separator and its name.
APT_SOURCES = """
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
test -f "$file" && { printf '\\036%s\\n' "$file"; cat "$file"; echo; }
done
:"""

#: Name and password in an address stay on the host.
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")
_ONE_LINE = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)")
_NO = {"no", "false", "without", "off", "disable"}
#: A package whose triggers wait is there (dpkg(1), "Package states").
_INSTALLED = {"installed", "triggers-awaited", "triggers-pending"}
_BROKEN = {"half-installed", "half-configured", "unpacked"}
#: Archives on a disc that nobody may have put in.
_DISC = "cdrom:"


def parse_packages(text: str) -> tuple[Package, ...]:
    """Read dpkg's listing: what is installed, sorted by name and architecture."""
    rows = [line.split("\t") for line in text.splitlines() if line]
    if not rows or any(len(row) != len(_FIELDS) for row in rows):
        raise ProbeGarbled("dpkg-query does not list one package a line")
    found = [_package(row) for row in rows if row[0] in _INSTALLED]
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def _package(row: list[str]) -> Package:
    _, want, name, version, architecture, multi_arch, *relations, essential = row
    depends, pre_depends, provides, conflicts, breaks, replaces = relations
    return Package(
        name=name,
        version=version,
        architecture=architecture,
        multi_arch=multi_arch,
        depends=depends,
        pre_depends=pre_depends,
        provides=provides,
        conflicts=conflicts,
        breaks=breaks,
        replaces=replaces,
        essential=essential == "yes",
        held=want == "hold",
    )


def parse_half_installed(text: str) -> tuple[str, ...]:
    """Give the packages that dpkg left half done, from the same listing."""
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(sorted(row[2] for row in rows if len(row) == len(_FIELDS) and row[0] in _BROKEN))


def parse_apt_sources(text: str) -> tuple[AptSource, ...]:
    """Read apt's one-line and deb822 files (sources.list(5)); disabled ones and discs are left out."""
    found: dict[AptSource, None] = {}
    for file in text.split("\x1e")[1:]:
        name, _, content = file.partition("\n")
        for source in _deb822(content) if name.endswith(".sources") else _one_line(content):
            if not source.uri.startswith(_DISC):
                found[source] = None
    return tuple(found)


def _one_line(content: str) -> Iterator[AptSource]:
    for line in content.splitlines():
        entry = _ONE_LINE.match(line)
        if entry:
            options = dict(option.partition("=")[::2] for option in (entry["options"] or "").split())
            yield AptSource(
                uri=_USER_INFO.sub("", entry["uri"]),
                suite=entry["suite"],
                components=tuple(entry["components"].split()),
                signed_by=_path(options.get("signed-by", "").split(",")),
            )


def _deb822(content: str) -> Iterator[AptSource]:
    lines = "\n".join(line for line in content.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", lines):
        fields = _stanza(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").strip().lower() in _NO:
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield AptSource(
                    uri=_USER_INFO.sub("", uri),
                    suite=suite,
                    components=tuple(fields.get("components", "").split()),
                    signed_by=_path(fields.get("signed-by", "").split()),
                )


def _stanza(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line[:1].isspace():
            if name:
                fields[name] += "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            fields[name] = value.strip()
    return fields


def _path(words: Iterable[str]) -> str:
    """Give the keyring's path; a key that stands in the file itself, or a bare fingerprint, has none."""
    return next((word for word in words if word.startswith("/")), "")
