"""What was put on a host, item by item; compared with a reading, it gives the drift. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from orchestrator.lockfile import PackageChange
from orchestrator.nouns import Noun
from orchestrator.snapshot import Listener

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: What a difference says of a thing that is there, or is not.
PRESENT, ABSENT, NOT_INSTALLED = "present", "absent", "not installed"

DriftKind = Literal["file", "link", "tree", "package", "hold", "unit", "user", "group", "table", "listener", "image"]


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
    #: Files beside the unit that change it (systemd.unit(5), "drop-in"); none is ever ours.
    drop_ins: tuple[str, ...] = ()


class UserItem(Noun):
    """What an account of ours is: its own group, all other groups it is in, its home and its shell."""

    name: str
    group: str
    groups: tuple[str, ...] = ()
    home: str
    shell: str


class GroupItem(Noun):
    """A group of ours, and who was put into it; those whose own group it is are not named."""

    name: str
    members: tuple[str, ...] = ()


class ImageItem(Noun):
    """An image of a container engine's: the name that containers are made from it by, and the key that it bears."""

    name: str
    key: str


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
    #: Of the users and groups above what they are, where it is known.
    accounts: tuple[UserItem, ...] = ()
    memberships: tuple[GroupItem, ...] = ()
    tables: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    images: tuple[ImageItem, ...] = ()
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
    #: Of the users and groups above what they are, where it is known.
    accounts: tuple[UserItem, ...] = ()
    memberships: tuple[GroupItem, ...] = ()
    tables: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    images: tuple[ImageItem, ...] = ()


class Drift(Noun):
    """One difference: what the manifest says and what was found, each in a few words."""

    kind: DriftKind
    name: str
    expected: str
    found: str


def restore(reading: Reading, filled: Mapping[str, str]) -> Reading:
    """Give a reading with placeholders put back: ``filled`` is digest of filled content -> digest with placeholders."""
    files = tuple(item.model_copy(update={"sha256": filled.get(item.sha256, item.sha256)}) for item in reading.files)
    return reading.model_copy(update={"files": files})


def compare(manifest: Manifest, reading: Reading) -> tuple[Drift, ...]:
    """Give every difference between what was put on a host and what it has, in the manifest's order.

    Of the listening sockets those of the manifest must be there, those of ``before`` may be, and no other may. Files
    with secrets are compared as they stand: put the placeholders back with ``restore`` beforehand.
    """
    return (
        *_files(manifest, reading),
        *_links(manifest, reading),
        *_trees(manifest, reading),
        *_packages(manifest, reading),
        *_units(manifest, reading),
        *_names("user", manifest.users, reading.users),
        *_accounts(manifest, reading),
        *_names("group", manifest.groups, reading.groups),
        *_memberships(manifest, reading),
        *_names("table", manifest.tables, reading.tables),
        *_listeners(manifest, reading),
        *_images(manifest, reading),
    )


def _files(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.path: item for item in reading.files}
    for item in manifest.files:
        other = found.get(item.path)
        if other is None:
            yield Drift(kind="file", name=item.path, expected="a file", found=ABSENT)
            continue
        mode, other_mode = int(item.mode, 8), int(other.mode, 8)
        if mode != other_mode:
            yield Drift(kind="file", name=item.path, expected=f"mode {mode:04o}", found=f"mode {other_mode:04o}")
        ours, theirs = f"{item.owner}:{item.group}", f"{other.owner}:{other.group}"
        if ours != theirs:
            yield Drift(kind="file", name=item.path, expected=f"owner {ours}", found=f"owner {theirs}")
        if item.sha256 != other.sha256:
            yield Drift(kind="file", name=item.path, expected=_content(item.sha256), found=_content(other.sha256))


def _links(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.path: item.target for item in reading.links}
    for item in manifest.links:
        target = found.get(item.path)
        if target != item.target:
            yield Drift(
                kind="link",
                name=item.path,
                expected=f"-> {item.target}",
                found=ABSENT if target is None else f"-> {target}",
            )


def _trees(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.path: item.digest for item in reading.trees}
    for item in manifest.trees:
        digest = found.get(item.path)
        if digest is None:
            yield Drift(kind="tree", name=item.path, expected="a complete tree", found="absent, or without its marker")
        elif digest != item.digest:
            yield Drift(kind="tree", name=item.path, expected=_content(item.digest), found=_content(digest))


def _packages(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.name: item for item in reading.packages}
    for item in manifest.packages:
        other = found.get(item.name)
        if other is None or other.version != item.version:
            yield Drift(
                kind="package", name=item.name, expected=item.version, found=other.version if other else NOT_INSTALLED
            )
        if other is not None and other.held != item.held:
            words = {True: "held", False: "not held"}
            yield Drift(kind="hold", name=item.name, expected=words[item.held], found=words[other.held])


def _units(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.name: item for item in reading.units}
    for item in manifest.units:
        other = found.get(item.name)
        if other is None or (other.enabled, other.active) != (item.enabled, item.active):
            yield Drift(
                kind="unit", name=item.name, expected=_unit_state(item), found=_unit_state(other) if other else ABSENT
            )
        for path in other.drop_ins if other else ():
            if path not in item.drop_ins:
                yield Drift(kind="unit", name=item.name, expected="nothing that changes it", found=path)


def _unit_state(item: UnitItem) -> str:
    return f"{'enabled' if item.enabled else 'disabled'}, {'active' if item.active else 'inactive'}"


def _accounts(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.name: item for item in reading.accounts}
    for item in manifest.accounts:
        other = found.get(item.name)
        if other is None:
            continue  # it is named as absent
        for what, ours, theirs in (
            ("group", item.group, other.group),
            ("groups", ", ".join(sorted(item.groups)) or "none", ", ".join(sorted(other.groups)) or "none"),
            ("home", item.home, other.home),
            ("shell", item.shell, other.shell),
        ):
            if ours != theirs:
                yield Drift(kind="user", name=item.name, expected=f"{what} {ours}", found=f"{what} {theirs}")


def _memberships(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    """Name everybody who was put into a group of ours: its files are his to read."""
    found = {item.name: item for item in reading.memberships}
    ours = {item.name for item in manifest.accounts}
    for item in manifest.memberships:
        other = found.get(item.name)
        for member in sorted(set(other.members) - set(item.members) - ours) if other else ():
            yield Drift(kind="group", name=item.name, expected="only its own user", found=f"{member} is in it too")


def _names(kind: DriftKind, wanted: Iterable[str], found: Iterable[str]) -> Iterator[Drift]:
    there = set(found)
    for name in wanted:
        if name not in there:
            yield Drift(kind=kind, name=name, expected=PRESENT, found=ABSENT)


def _listeners(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {_socket(one): one for one in reading.listeners}
    declared = {_socket(one) for one in manifest.listeners}
    allowed = declared | {_socket(one) for one in manifest.before.listeners}
    for name in sorted(declared - set(found)):
        yield Drift(kind="listener", name=name, expected="listening", found="not listening")
    for name in sorted(set(found) - allowed):
        program = found[name].program
        yield Drift(
            kind="listener",
            name=name,
            expected="not listening",
            found=f"listening ({program})" if program else "listening",
        )


def _images(manifest: Manifest, reading: Reading) -> Iterator[Drift]:
    found = {item.name: item.key for item in reading.images}
    for item in manifest.images:
        key = found.get(item.name)
        if key != item.key:
            named = ABSENT if key is None else f"key {key[:12] or 'not ours'}"
            yield Drift(kind="image", name=item.name, expected=f"key {item.key[:12]}", found=named)


def _socket(one: Listener) -> str:
    address = f"[{one.address}]" if ":" in one.address else one.address
    return f"{one.protocol} {address}:{one.port}"


def _content(digest: str) -> str:
    return f"content {digest[:12]}" if digest else "content not known"
