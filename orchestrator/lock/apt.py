"""Apt packages: one host's closure, resolved in a private apt root against the host's own installed packages.

Nothing of this machine's package state is read: the root has its own status, sources, keyrings, indexes and cache.
What is taken over from this machine is how archives are reached: its apt proxy, and keyrings for archives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from orchestrator.errors import LockError
from orchestrator.lock import apt_parse, apt_reach
from orchestrator.lock.arriving import watched
from orchestrator.lock.children import ends_with_us
from orchestrator.lock.wanted import DEB_ARCHITECTURES
from orchestrator.lockfile import Artefact, PackageChange
from orchestrator.nouns import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.lock.store import Store
    from orchestrator.snapshot import AptSource, HostSnapshot, Package

#: What no path in apt's configuration, or in a message to its helpers, may hold.
_ODD = re.compile(r'["\\\r\n]')
_CONFIGURATION = """\
Dir "{root}";
Dir::State "state";
Dir::State::status "{root}/state/status";
Dir::State::lists "{indexes}/lists";
Dir::Cache "cache";
Dir::Cache::srcpkgcache "{indexes}/srcpkgcache.bin";
Dir::Etc "etc";
Dir::Log "log";
Dir::Bin::methods "/usr/lib/apt/methods";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "2";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
"""


class AptRoot:
    """A private apt root for one host, good for as long as its folder stands."""

    def __init__(self, folder: Path, snapshot: HostSnapshot) -> None:
        self.folder = folder
        self.host = snapshot.name
        self.codename = snapshot.os.codename
        self.environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def get(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run apt-get in this root and give what it printed; raises LockError with its own words."""
        return self._run("apt-get", "--yes", *arguments, cwd=cwd)

    def _run(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [*ends_with_us(), command, "-q", *arguments],
            env=self.environment,
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LockError(
                _complaint(done.stderr, done.stdout) or f"{command} ended with {done.returncode}",
                where=f"apt packages of {self.host}",
                do="see whether this machine reaches the host's archives and has their keyrings",
            )
        return done.stdout

    def update(self) -> None:
        """Bring the indexes up to date; waits up to 20 s for an apt-get that a killed deploy has left at it."""
        for _ in range(40):
            try:
                self.get("update")
            except LockError as error:
                if "Could not get lock" not in error.what:
                    raise
                time.sleep(0.5)
            else:
                return
        self.get("update")

    def simulate(self, packages: Sequence[str], *, upgrade: bool) -> tuple[apt_parse.Planned, ...]:
        """Give what an installation would bring. Packages that the host has stay, but for ``upgrade``."""
        held_back = () if upgrade else ("--no-upgrade",)
        return apt_parse.planned(self.get("--simulate", "--no-remove", *held_back, "install", "--", *packages))

    def locate(self, packages: Mapping[str, str]) -> tuple[apt_parse.Located, ...]:
        """Give size and sha256 of .debs (name -> version) from the archive's signed index. Raises LockError."""
        if not packages:
            return ()
        return apt_parse.located(self.get("--print-uris", "download", *_pinned(packages)))

    def show(self, packages: Mapping[str, str]) -> str:
        """Give the index's entries of packages (name -> version)."""
        return self._run("apt-cache", "show", *_pinned(packages)) if packages else ""

    def download(self, packages: Mapping[str, str], into: Path) -> None:
        """Fetch .debs (name -> version) into a folder."""
        self.get("download", *_pinned(packages), cwd=into)


@contextlib.contextmanager
def private_root(
    snapshot: HostSnapshot,
    packages: Iterable[Package],
    held: Mapping[str, str],
    store: Store,
    components: Iterable[str] = (),
) -> Iterator[AptRoot]:
    """Make a root with fresh indexes for a host, ``packages`` installed and ``held`` kept at their versions.

    ``components`` are parts of the host's archives that it is not configured with. Raises LockError where this machine
    has no apt, the architecture is not known, or the archives are not reached.
    """
    if shutil.which("apt-get") is None:
        raise LockError(
            "this machine has no apt-get, and the host's packages are resolved with it",
            where=f"apt packages of {snapshot.name}",
            do="run deploy lock on a Debian or Ubuntu machine",
        )
    architecture = DEB_ARCHITECTURES.get(snapshot.arch)
    if architecture is None:
        raise LockError(f"apt packages for {snapshot.arch} are not resolved here", where=snapshot.name)
    sources, keyrings = apt_reach.archives(snapshot, components), apt_reach.keyrings(snapshot.os.id)
    known = {one.signed_by: path for one in sources if (path := apt_reach.keyring_of(one, keyrings))}
    usable = [one for one in sources if not one.signed_by or one.signed_by in known]
    with _workroom(store) as folder:
        indexes = _indexes(usable, architecture, folder)
        _lay_out(folder, [str(path) for path in keyrings])
        (folder / "state/status").write_text(apt_parse.status_of(packages), encoding="utf-8")
        (folder / "etc/preferences").write_text(apt_parse.preferences(held), encoding="utf-8")
        (folder / "etc/sources.list").write_text(apt_parse.source_lines(usable, architecture, known), encoding="utf-8")
        configuration = _CONFIGURATION.format(root=folder, indexes=indexes, architecture=architecture)
        (folder / "apt.conf").write_text(configuration + apt_reach.way_out(), encoding="utf-8")
        root = AptRoot(folder, snapshot)
        with (indexes / "busy").open("w") as busy:
            fcntl.flock(busy, fcntl.LOCK_EX)
            root.update()
            yield root


@contextlib.contextmanager
def _workroom(store: Store) -> Iterator[Path]:
    """Give a folder to work in whose path apt can tell its helpers: the store's, or one in /tmp where that is odd.

    apt.conf(5) knows no escape, and apt's helpers are told of a path in a line (apt's "method interface").
    """
    if _ODD.search(str(store.root)) is None:
        with store.workroom() as room:
            yield room
        return
    for stale in Path("/tmp").glob("agentrig-apt-*"):  # noqa: S108 - only this user's own are touched
        with contextlib.suppress(OSError, ValueError):
            if stale.stat().st_uid == os.geteuid() and not Path("/proc", str(int(stale.name.split("-")[2]))).exists():
                shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=f"agentrig-apt-{os.getpid()}-", dir="/tmp") as room:
        yield Path(room)


class Closure(NamedTuple):
    """The .debs for a host, which of its own packages they upgrade, and the names of those they lean on."""

    debs: tuple[Artefact, ...] = ()
    upgrades: tuple[PackageChange, ...] = ()
    leans_on: tuple[str, ...] = ()


def resolve_debs(  # noqa: PLR0913 - each a value of one closure
    snapshot: HostSnapshot,
    packages: Sequence[str],
    store: Store,
    *,
    held: Mapping[str, str] | None = None,
    ours: Iterable[str] = (),
    upgrade: bool = False,
    components: Iterable[str] = (),
) -> Closure:
    """Give the .debs that bring some packages onto a host; fetches nothing.

    ``held`` are packages (name -> version) that an earlier lock has for the host: they keep their versions. ``ours``
    are names that it put there: the host counts as it was without them. ``components`` are parts of its archives that
    it is not configured with. Raises LockError.
    """
    if not packages:
        return Closure()
    held = held or {}
    present = apt_parse.without(snapshot.packages, ours)
    with private_root(snapshot, present, held, store, components) as root:
        plan = root.simulate(packages, upgrade=upgrade)
        _nothing_moves(plan, held)
        found = root.locate({one.name: one.version for one in plan})
        shown = root.show({one.name: one.version for one in plan})
    if [(one.name, one.version) for one in plan] != [(one.name, one.version) for one in found]:
        raise LockError("apt names other files than it would install", where=f"apt packages of {snapshot.name}")
    changes = (PackageChange(name=one.name, before=one.before, after=one.version) for one in plan if one.before)
    return Closure(tuple(_deb(one, snapshot) for one in found), tuple(changes), apt_parse.leans_on(shown, present))


def fetch_debs(debs: Iterable[Artefact], snapshot: HostSnapshot, store: Store, components: Iterable[str] = ()) -> None:
    """Put .debs into the store by their locked versions and digests. Raises LockError that names the package."""
    missing = [deb for deb in debs if deb.digest and not store.has(deb.digest)]
    if not missing:
        return
    with private_root(snapshot, (), {}, store, components) as root, _workroom(store) as room:
        with watched(room, sum(deb.bytes or 0 for deb in missing) or None):
            root.download({deb.name: deb.version for deb in missing}, room)
        for deb in missing:
            if not (room / deb.filename).is_file():
                raise LockError(f"apt fetched another file than {deb.filename}", where=f"{deb.name} {deb.version}")
            store.add_file(room / deb.filename, deb.digest, name=deb.filename, move=True)


def debs_still_there(
    debs: Sequence[Artefact], snapshot: HostSnapshot, store: Store, components: Iterable[str] = ()
) -> tuple[str, ...]:
    """Give a sentence for each .deb that the archives no longer have with these bytes. Raises LockError."""
    with private_root(snapshot, (), {}, store, components) as root:
        lost = []
        for deb in debs:
            try:
                found = root.locate({deb.name: deb.version})
            except LockError as error:
                lost.append(f"{deb.name} {deb.version}: {error.what}")
                continue
            if [f"sha256:{one.sha256}" for one in found] != [deb.digest]:
                lost.append(f"{deb.name} {deb.version}: the archive has other bytes under this version")
    return tuple(lost)


def _nothing_moves(plan: Iterable[apt_parse.Planned], held: Mapping[str, str]) -> None:
    moved = [one for one in plan if held.get(one.name, one.version) != one.version]
    if moved:
        names = ", ".join(f"{one.name} {held[one.name]}" for one in moved)
        raise LockError(
            f"the archives no longer have what is locked: {names}",
            where="deploy.lock",
            do="run deploy lock --upgrade " + " ".join(one.name for one in moved),
        )


def _deb(one: apt_parse.Located, snapshot: HostSnapshot) -> Artefact:
    return Artefact(
        kind="deb",
        name=one.name,
        version=one.version,
        digest=f"sha256:{one.sha256}",
        bytes=one.bytes,
        source=f"apt:{snapshot.os.codename} {one.name}={one.version}",
        filename=one.filename,
    )


def _pinned(packages: Mapping[str, str]) -> list[str]:
    return [f"{name}={version}" for name, version in packages.items()]


def _indexes(sources: Sequence[AptSource], architecture: str, otherwise: Path) -> Path:
    """Give the folder of downloaded indexes for some sources: kept, so that a second resolution asks only for news.

    Where apt cannot be told of the cache's path they lie in ``otherwise``.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = digest_of([architecture, *sorted([one.uri, one.suite, *one.components] for one in sources)])[:16]
    folder = (otherwise if _ODD.search(str(cache)) else cache) / "agentrig/apt" / name
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    return folder


def _lay_out(folder: Path, keyrings: Iterable[str]) -> None:
    for name in ("state", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "log"):
        (folder / name).mkdir(parents=True)
    for path in keyrings:
        (folder / "etc/trusted.gpg.d" / Path(path).name).symlink_to(path)


def _complaint(error: str, output: str) -> str:
    """Give apt's own errors in one line, files named without addresses; of unmet dependencies the first one too."""
    lines = [line.removeprefix("E:").strip() for line in error.splitlines() if line.startswith("E:")]
    unmet = re.search(r"^ (\S+ : .+(?:\n {3,}.+)*)", output, re.MULTILINE)
    told = [*lines[:3], " ".join(unmet[1].split())] if unmet else lines[:3]
    return re.sub(r"\S*://\S*?([^\s/]*)(?=\s|$)", _named, "; ".join(told))


def _named(address: re.Match[str]) -> str:
    """Give a file by its name alone: the archive's own file, or the archive."""
    return f"{unquote(address[1])} of the archive" if "." in address[1] else "the archive"
