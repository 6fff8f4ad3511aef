"""What was put on a host, item by item; compared with a reading, it gives the drift. Pure."""

from __future__ import annotations

from typing import Literal

from orchestrator.lockfile import PackageChange
from orchestrator.nouns import Noun
from orchestrator.snapshot import Listener

DriftKind = Literal["file", "link", "tree", "package", "hold", "unit", "user", "group", "table", "listener"]


class FileItem(Noun):
    """A file: ``sha256`` of its content; of one with secrets, of the content with the placeholders put back."""

    path: str
    mode: str
    owner: str
    group: str
    sha256: str
    #: Names of the secrets in it: the reader gives the digest with the placeholders put back.
    secrets: tuple[str, ...] = ()


class LinkItem(Noun):
    """A symbolic link and where it points."""

    path: str
    target: str


class TreeItem(Noun):
    """A built tree or a stored file's folder: ``digest`` as decision 4 says; "" before it was built."""

    path: str
    key: str
    digest: str


class PackageItem(Noun):
    """An installed package of ours; ``held`` is apt's hold."""

    name: str
    version: str
    held: bool = True


class UnitItem(Noun):
    """A systemd unit: ``is-enabled`` and ``is-active`` as booleans."""

    name: str
    enabled: bool
    active: bool


class Before(Noun):
    """What was there before the first apply, so that ``down`` can leave it: never removed."""

    listeners: tuple[Listener, ...] = ()
    #: Packages of ours that the host already had, at the version it had.
    packages: dict[str, str] = {}
    upgrades: tuple[PackageChange, ...] = ()


class Manifest(Noun):
    """One host, as declared by its rendering, its lock and its roles."""

    host: str
    release: str
    deployment_id: str
    lock_digest: str
    files: tuple[FileItem, ...] = ()
    links: tuple[LinkItem, ...] = ()
    trees: tuple[TreeItem, ...] = ()
    packages: tuple[PackageItem, ...] = ()
    units: tuple[UnitItem, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    before: Before = Before()


class Reading(Noun):
    """What a host really has, of the items that a manifest names. Absent things are absent from the tuples."""

    files: tuple[FileItem, ...] = ()
    links: tuple[LinkItem, ...] = ()
    trees: tuple[TreeItem, ...] = ()
    packages: tuple[PackageItem, ...] = ()
    units: tuple[UnitItem, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()


class Drift(Noun):
    """One difference: what the manifest says and what was found, each in a few words."""

    kind: DriftKind
    name: str
    expected: str
    found: str
