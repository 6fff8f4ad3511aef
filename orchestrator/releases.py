"""Releases beside each other: what can come back, what is left of one that went, what two hosts differ in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.manifest import ABSENT, PRESENT, Before, Drift, FileItem, Manifest, Reading, compare
from orchestrator.nouns import Noun
from orchestrator.rendered import CURRENT, RELEASES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.manifest import DriftKind


class DiskUse(Noun):
    """What our folder takes of a host's disk in bytes: each release, each artefact by key, who uses which."""

    total: int
    releases: dict[str, int] = {}
    artefacts: dict[str, int] = {}
    uses: dict[str, tuple[str, ...]] = {}

    def shares(self, present: str | None) -> tuple[int, int, dict[str, int]]:
        """Give the bytes of the present release, of all former ones, and what each former one alone takes.

        An artefact counts for the present release where that uses it; one that two former ones use, for neither alone.
        """
        of_present = set(self.uses.get(present or "", ()))
        former = [release for release in self.releases if release != present]
        own = {release: self.releases[release] + self._size(self._alone(release)) for release in former}
        shared = {key for release in former for key in self.uses.get(release, ())} - of_present
        here = self.releases.get(present or "", 0) + self._size(of_present)
        return here, sum(self.releases[release] for release in former) + self._size(shared), own

    def _alone(self, release: str) -> set[str]:
        others = {key for name, keys in self.uses.items() if name != release for key in keys}
        return set(self.uses.get(release, ())) - others

    def _size(self, keys: Iterable[str]) -> int:
        return sum(self.artefacts.get(key, 0) for key in keys)


def fold(known: Manifest | None, swept: Manifest) -> Manifest:
    """Add what lies outside a release that went away to what earlier ones left: the host may still have it."""
    parts = [one for one in (known, swept) if one]
    return Manifest(
        host=swept.host,
        release="",
        deployment_id="",
        lock_digest="",
        links=tuple({one.path: one for part in parts for one in part.links if not _of_releases(one.path)}.values()),
        packages=tuple({one.name: one for part in parts for one in part.packages}.values()),
        users=tuple(sorted({user for part in parts for user in part.users})),
        groups=tuple(sorted({group for part in parts for group in part.groups})),
        before=swept.before,
    )


def brought_back(former: Manifest, present: Manifest) -> Manifest:
    """Give the manifest of a former release on a host that has had another since.

    Packages that were added, the host's archive of them and what is remembered of it before stay as they are.
    """
    ours = {item.path: item for item in former.files if not _of_packages(item.path)}
    ours |= {item.path: item for item in present.files if _of_packages(item.path)}
    packages = {item.name: item for item in (*former.packages, *present.packages)}
    return former.model_copy(
        update={
            "files": tuple(ours[path] for path in sorted(ours)),
            "packages": tuple(packages[name] for name in sorted(packages)),
            "before": present.before,
        }
    )


def differences(one: Manifest, found: Reading, other: Manifest, expected: Reading) -> tuple[Drift, ...]:
    """Give what two hosts differ in, as drift of the first: what both declare, and what both really have.

    Not compared is what no two hosts can share: the host's name, the lock's digest, digests of what was made with a
    host's secrets, of what was there before, and of a signature, which is made anew; nor which sockets others opened.
    """
    declared = compare(_plain(other), _as_read(_plain(one)))
    known = {(row.kind, row.name) for row in declared}
    had = compare(_plain(_declared(other, expected)), _plain_reading(found))
    return (
        *declared,
        *_only_here(_plain(one), _plain(other)),
        *(row for row in had if (row.kind, row.name) not in known),
    )


def _plain(manifest: Manifest) -> Manifest:
    listeners = tuple(one.model_copy(update={"program": ""}) for one in manifest.listeners)
    return manifest.model_copy(
        update={"files": tuple(map(_unsecret, manifest.files)), "listeners": listeners, "before": Before()}
    )


def _plain_reading(reading: Reading) -> Reading:
    return reading.model_copy(update={"files": tuple(map(_unsecret, reading.files)), "listeners": ()})


def _unsecret(item: FileItem) -> FileItem:
    """Give a file without the digest that no two hosts share."""
    own = item.path.startswith(f"{ROOT}/started/") or item.path in {f"{ROOT}/before.json", f"{ROOT}/apt/InRelease"}
    return item.model_copy(update={"sha256": ""}) if own else item


def _as_read(manifest: Manifest) -> Reading:
    """Give a manifest as a reading of a host on which all of it is there."""
    return Reading(**{name: getattr(manifest, name) for name in Reading.model_fields})


def _declared(manifest: Manifest, reading: Reading) -> Manifest:
    """Give what a host really has as a manifest to hold another against; sockets left out."""
    return manifest.model_copy(
        update={name: getattr(reading, name) for name in Reading.model_fields} | {"listeners": ()}
    )


def _only_here(one: Manifest, other: Manifest) -> Iterator[Drift]:
    """Name what the first declares and the second does not: a comparison sees only what is expected."""
    kinds: tuple[tuple[DriftKind, str, str], ...] = (
        ("file", "files", "path"),
        ("link", "links", "path"),
        ("tree", "trees", "path"),
        ("package", "packages", "name"),
        ("unit", "units", "name"),
    )
    for kind, field, key in kinds:
        there = {getattr(item, key) for item in getattr(other, field)}
        for item in getattr(one, field):
            if getattr(item, key) not in there:
                yield Drift(kind=kind, name=getattr(item, key), expected=ABSENT, found=PRESENT)
    for kind, ours, theirs in (("user", one.users, other.users), ("table", one.tables, other.tables)):
        for name in ours:
            if name not in theirs:
                yield Drift(kind=kind, name=name, expected=ABSENT, found=PRESENT)
    if one.release != other.release:
        yield Drift(kind="link", name=CURRENT, expected=f"release {other.release}", found=f"release {one.release}")


def lacking_of(manifest: Manifest, reading: Reading) -> tuple[str, ...]:
    """Say in words what keeps a host from going back to a release: what is gone of it, and what never goes back.

    Units, links outside the release and what listens come with the release; they keep nothing back.
    """
    said = []
    for one in compare(manifest, reading):
        if one.kind == "package":
            said.append(f"package {one.name} was {one.expected} and is {one.found}: packages never go back")
        elif one.kind in {"tree", "user", "group"} or one.name.startswith(f"{RELEASES}/"):
            said.append(f"{one.kind} {one.name}: expected {one.expected}, found {one.found}")
    return tuple(said)


def _of_releases(path: str) -> bool:
    return path.startswith((f"{RELEASES}/", CURRENT))


def _of_packages(path: str) -> bool:
    """Tell whether a file belongs to the packages of a host, which all its releases share."""
    return path.startswith(f"{ROOT}/apt/") or path == f"{ROOT}/before.json"
