"""How archives are reached from this machine: which they are, the keyrings that sign them, the proxy on the way."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import archive_keys
from orchestrator.errors import LockError
from orchestrator.lock import apt_parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.snapshot import AptSource, HostSnapshot

#: Replaces the sources of every host: addresses of archives with blanks between.
MIRROR = "AGENTRIG_APT_MIRROR"

#: Settings of this machine's apt that say how archives are reached.
_REACH = re.compile(r'^Acquire::(?:https?|ftp|Check-Valid-Until|Check-Date|ForceIPv[46])\b.*";$', re.MULTILINE)


def archives(snapshot: HostSnapshot, components: Iterable[str] = ()) -> tuple[AptSource, ...]:
    """Give the archives that a host's packages come from, with these parts of them beside its own.

    The mirror that ``AGENTRIG_APT_MIRROR`` names, else the host's own sources of its release, else this machine's
    where it runs the same release. Raises LockError where there are none.
    """
    return tuple(apt_parse.with_components(one, components) for one in _archives(snapshot))


def _archives(snapshot: HostSnapshot) -> tuple[AptSource, ...]:
    codename = snapshot.os.codename
    if mirror := os.environ.get(MIRROR):
        return apt_parse.mirror_sources(mirror, codename, archive_keys.components_of(snapshot.os.id))
    if own := apt_parse.of_suite(snapshot.apt_sources, codename):
        return own
    with contextlib.suppress(OSError):
        here = platform.freedesktop_os_release()
        if (here.get("ID"), here.get("VERSION_CODENAME")) == (snapshot.os.id, codename):
            return apt_parse.of_suite(_sources_here(), codename)
    raise LockError(
        f"no archive is known for {snapshot.os.pretty or codename or snapshot.os.id}",
        where=f"apt packages of {snapshot.name}",
        do=f"set {MIRROR} to the address of a mirror of it",
    )


def way_out() -> str:
    """Give the settings by which this machine's own apt reaches archives (a proxy, say)."""
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    return "".join(f"{line}\n" for line in _REACH.findall(dumped))


def keyrings(distribution: str = "") -> tuple[Path, ...]:
    """Give the keyrings of distributions' archives on this machine; keys that were withdrawn are left out.

    Of ``distribution`` (``ID`` of os-release) the keyring is fetched where this machine lacks it; raises UsageError
    where that does not go.
    """
    places = (Path("/usr/share/keyrings").glob("*archive*"), Path("/etc/apt/trusted.gpg.d").glob("*"))
    found = {path.name: path for place in places for path in place if path.suffix in {".gpg", ".asc"}}
    if distribution in archive_keys.FAMILIES:
        own = archive_keys.family_keyring(distribution)
        found.setdefault(own.name, own)
    return tuple(path for name, path in sorted(found.items()) if "removed" not in name)


def keyring_of(source: AptSource, known: Iterable[Path]) -> str | None:
    """Give this machine's keyring for a source that names one: of the same name, never another."""
    if not source.signed_by.startswith("/"):
        return None
    names = archive_keys.same_keyring(source.signed_by)
    places = [*known, *(Path("/usr/share/keyrings", name) for name in names), Path(source.signed_by)]
    return next((str(path) for name in names for path in places if path.name == name and path.is_file()), None)


def _sources_here() -> tuple[AptSource, ...]:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    readable = (path for path in files if path.is_file() and path.suffix in {".list", ".sources"})
    return tuple(one for path in readable for one in apt_parse.read_sources(path.read_text(encoding="utf-8")))
