"""The systems that a host of the lab may have: a row each, and where this machine gets packages from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

#: Moves when the way of making a tree changes, so that older trees are made anew.
RECIPE = 1


@dataclass(frozen=True, slots=True)
class System:
    """One system: what debootstrap is told, and what is changed in the tree."""

    name: str
    #: ``ID`` in the os-release file of machines whose archive serves it.
    family: str
    suite: str
    components: tuple[str, ...]
    keyring: str
    #: The package that brings ``keyring`` to a machine.
    keyring_package: str
    packages: tuple[str, ...]
    #: Units that a lab host goes without: they ask an archive nobody can reach, or show the kernel's inside.
    masked: tuple[str, ...]
    #: debootstrap's script where it may not know the suite; None: the one of the suite's own name.
    script: str | None = None

    def recipe(self) -> dict[str, object]:
        """Give what a tree of it depends on, as plain values; what is left out does not count."""
        return {"recipe": RECIPE} | {name: value for name, value in asdict(self).items() if value is not None}

    def security_of(self, main: str) -> tuple[str, str]:
        """Give address and suite of the security archive beside a main one that debootstrap chose."""
        return (main if self.family == "ubuntu" else f"{main.rstrip('/')}-security", f"{self.suite}-security")


#: A minimal server: what its installer leaves, and what Ansible needs to work there.
_PACKAGES = (
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "iproute2",
    "sudo",
    "ca-certificates",
    "nftables",
    "procps",
    "kmod",
)

_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
)

_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        System(
            name="debian-12",
            family="debian",
            suite="bookworm",
            components=("main",),
            keyring=_DEBIAN_KEYRING,
            keyring_package="debian-archive-keyring",
            packages=_PACKAGES,
            masked=_MASKED,
        ),
        System(
            name="debian-13",
            family="debian",
            suite="trixie",
            components=("main",),
            keyring=_DEBIAN_KEYRING,
            keyring_package="debian-archive-keyring",
            packages=_PACKAGES,
            masked=_MASKED,
        ),
        System(
            name="ubuntu-24.04",
            family="ubuntu",
            suite="noble",
            components=("main", "universe"),
            keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
            keyring_package="ubuntu-keyring",
            packages=_PACKAGES,
            masked=(*_MASKED, "motd-news.timer"),
            script="gutsy",
        ),
    )
}


def system_named(name: str) -> System:
    """Give the row of a system; raises ``UsageError`` for one that the lab does not know."""
    if name not in SYSTEMS:
        raise UsageError(f"the lab has no system {name}", do=f"it has: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


@dataclass(frozen=True, slots=True)
class Archive:
    """One line of a machine's apt sources: where, and which suites."""

    uri: str
    suites: tuple[str, ...]


def parse_one_line_style(text: str) -> tuple[Archive, ...]:
    """Read a ``sources.list``: a line an archive, options in brackets."""
    found = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) < 3 or words[0] != "deb":  # noqa: PLR2004 - deb, address, suite
            continue
        if words[1].startswith("["):
            end = next((number for number, word in enumerate(words) if word.endswith("]")), 0)
            words = [words[0], *words[end + 1 :]]
        if len(words) >= 3:  # noqa: PLR2004 - as above
            found.append(Archive(words[1], (words[2],)))
    return tuple(found)


def parse_deb822(text: str) -> tuple[Archive, ...]:
    """Read a ``.sources`` file: a paragraph an archive, a field a line, folded lines begin with a blank."""
    found = []
    for paragraph in text.replace("\r", "").split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[last] = f"{fields.get(last, '')} {line.strip()}"
            elif ":" in line:
                last, value = line.split(":", 1)
                last = last.strip().lower()
                fields[last] = value.strip()
        if (
            fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
            and "deb" in fields.get("types", "").split()
        ):
            found += [Archive(uri, tuple(fields.get("suites", "").split())) for uri in fields.get("uris", "").split()]
    return tuple(found)


def sources_of(etc_apt: Path) -> tuple[Archive, ...]:
    """Read the sources that a machine's apt has, in either style."""
    files: Iterable[Path] = (etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*")))
    found: list[Archive] = []
    for file in files:
        if file.is_file() and file.suffix in {".list", ".sources"}:
            text = file.read_text(encoding="utf-8", errors="replace")
            found += parse_deb822(text) if file.suffix == ".sources" else parse_one_line_style(text)
    return tuple(archive for archive in found if archive.uri.split(":", 1)[0] in {"http", "https", "ftp", "file"})


def os_release(text: str) -> dict[str, str]:
    """Read an os-release file into its fields."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def archives_for(system: System, own: Mapping[str, str], sources: Iterable[Archive]) -> tuple[Archive, ...]:
    """Give the archives of a system as this machine reaches them: the main one first, then security.

    ``own`` is this machine's os-release. Empty where the machine is of another family: debootstrap's own choice is
    taken then.
    """
    codename = own.get("VERSION_CODENAME", "")
    if own.get("ID") != system.family or not codename:
        return ()
    listed = tuple(sources)
    main = next((archive.uri for archive in listed if codename in archive.suites), None)
    security = next((archive.uri for archive in listed if f"{codename}-security" in archive.suites), None)
    if main is None:
        return ()
    found = [Archive(main, (system.suite, f"{system.suite}-updates"))]
    return (*found, Archive(security, (f"{system.suite}-security",))) if security else tuple(found)


def archives_in(system: System, sources: Iterable[Archive]) -> tuple[Archive, ...]:
    """Give the archives of a system from what debootstrap wrote into its tree: its own choice, updates and security."""
    main = next((archive.uri for archive in sources if system.suite in archive.suites), None)
    if main is None:
        return ()
    address, suite = system.security_of(main)
    return (Archive(main, (system.suite, f"{system.suite}-updates")), Archive(address, (suite,)))


def sources_list(system: System, archives: Iterable[Archive]) -> str:
    """Write the ``sources.list`` of a tree."""
    parts = " ".join(system.components)
    return "".join(
        f"deb [signed-by={system.keyring}] {archive.uri} {suite} {parts}\n"
        for archive in archives
        for suite in archive.suites
    )
