"""The manifest of a host, declared from its rendering, its lock and what the roles told. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from orchestrator.manifest import (
    Before,
    FileItem,
    GroupItem,
    ImageItem,
    LinkItem,
    Manifest,
    PackageItem,
    TreeItem,
    UnitItem,
    UserItem,
)
from orchestrator.rendered import CURRENT, RELEASES, ROOT, STORE, RenderedLink
from orchestrator.snapshot import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.lockfile import Lock
    from orchestrator.rendered import Rendered, RenderedFile, RenderedUnit

UNITS = "/etc/systemd/system"
STARTED = f"{ROOT}/started"
#: What the role ``host_base`` gives to a user of ours.
NO_HOME, NO_SHELL = "/nonexistent", "/usr/sbin/nologin"
#: Units that a package would start by itself, kept from it where the package was not there before.
MASKED = {"nginx.service": "nginx"}
#: Units that a package would start when it is installed -> the package: the role that sets them up starts them.
WAITING = {"containerd.service": "containerd", "docker.service": "docker.io", "docker.socket": "docker.io"}
#: Files that a package makes when it is installed and leaves when it is purged.
LITTER = {"/var/www/html/index.nginx-debian.html": "nginx"}
_NAMED = re.compile(re.escape(CURRENT) + r"/([\w.@%+/-]+)")


@dataclass(frozen=True, slots=True)
class Told:
    """What the roles told of a host: digests that are known only there, and what it had before."""

    #: Key -> tree digest.
    trees: Mapping[str, str] = field(default_factory=dict)
    #: Path of each file of the host's apt archive -> its sha256.
    archive: Mapping[str, str] = field(default_factory=dict)
    #: Units that are masked.
    masked: tuple[str, ...] = ()
    #: ``listeners`` and ``packages`` (name -> version, or None where it was not there) before the first apply.
    before: Mapping[str, Any] = field(default_factory=dict)
    #: Of the container engine its ``files`` (with mode, owner, group and sha256), ``units`` and ``images``.
    engine: Mapping[str, Any] = field(default_factory=dict)


def artefact_keys(rendered: Rendered, lock: Lock, name: str) -> dict[str, str]:
    """Give link name -> key for the artefacts that the host uses; raises ValueError for one that is unresolved."""
    known, links = lock.by_id(), lock.hosts[name].links
    return {link: known[links[link]].key for link in rendered.artefacts}


def unit_links(unit: RenderedUnit) -> tuple[RenderedLink, ...]:
    """Give the links that make a unit known to systemd, and start it with the machine."""
    known = RenderedLink(path=f"{UNITS}/{unit.name}", target=f"{CURRENT}/units/{unit.name}")
    wanted = RenderedLink(path=f"{UNITS}/multi-user.target.wants/{unit.name}", target=known.path)
    return (known, wanted) if unit.enabled else (known,)


def other_links(rendered: Rendered) -> tuple[RenderedLink, ...]:
    """Give the links outside the release that belong to no unit."""
    of_units = {link.path for unit in rendered.units for link in unit_links(unit)}
    return tuple(link for link in rendered.links if link.path not in of_units)


def fingerprint(unit: RenderedUnit, rendered: Rendered, keys: Mapping[str, str], secrets: dict[str, str]) -> str:
    """Give the digest of all that a unit is started with: its file, what that names through current, and so on."""
    used, names = _used(unit, rendered)
    about: dict[str, Any] = {"links": [link.document() for link in unit_links(unit)]}
    about |= {
        file.path: [file.mode, file.owner, file.group, hashlib.sha256(file.filled(secrets).encode()).hexdigest()]
        for file in used
    }
    about |= {f"artefacts/{name}": keys[name] for name in sorted(names & set(keys))}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _used(unit: RenderedUnit, rendered: Rendered) -> tuple[list[RenderedFile], set[str]]:
    """Give the files that a unit's file names, directly or through others, and the artefacts that these name."""
    rest = {file.path: file for file in rendered.files}
    wanted = [file for path, file in rest.items() if path == f"units/{unit.name}"]
    used: list[RenderedFile] = []
    names: set[str] = set()
    while wanted:
        file = wanted.pop()
        if rest.pop(file.path, None) is None:
            continue
        used.append(file)
        named = [PurePosixPath(path) for path in _NAMED.findall(file.content)]
        names |= {path.parts[1] for path in named if path.parts[0] == "artefacts" and len(path.parts) > 1}
        wanted += [other for other in rest.values() if _names(file, named, other)]
    return sorted(used, key=lambda file: file.path), names


def _names(file: RenderedFile, named: list[PurePosixPath], other: RenderedFile) -> bool:
    """Tell whether a file names another, or a folder of it, through current or relative to its own folder."""
    path, folder = PurePosixPath(other.path), PurePosixPath(file.path).parent
    if any(path == each or each in path.parents for each in named):
        return True
    if folder.parts and path.is_relative_to(folder) and folder != PurePosixPath("units"):
        return re.search(rf"(?<![\w./-]){re.escape(str(path.relative_to(folder)))}(?![\w-])", file.content) is not None
    return False


def declare(  # noqa: PLR0913 - a manifest is made of all of these
    rendered: Rendered,
    lock: Lock,
    name: str,
    release: str,
    told: Told,
    *,
    secrets: dict[str, str],
    former: Manifest | None = None,
) -> Manifest:
    """Give the manifest of a host. A tree's digest is the roles', else the former manifest's, else empty."""
    keys = artefact_keys(rendered, lock, name)
    known = {tree.key: tree.digest for tree in former.trees} if former else {}
    known |= told.trees
    before = _before(told, lock, name)
    debs = [lock.by_id()[deb] for deb in lock.hosts[name].debs]
    return Manifest(
        host=name,
        release=release,
        deployment_id=release,
        lock_digest=lock.lock_digest,
        files=tuple(sorted(_files(rendered, release, keys, told, secrets), key=lambda item: item.path)),
        links=tuple(sorted(_links(rendered, release, keys, told), key=lambda item: item.path)),
        trees=tuple(
            TreeItem(path=f"{STORE}/{key}", key=key, digest=known.get(key, "")) for key in sorted(set(keys.values()))
        ),
        packages=tuple(
            PackageItem(name=deb.name, version=deb.version)
            for deb in sorted(debs, key=lambda deb: deb.name)
            if deb.name not in before.packages
        ),
        units=(
            *(UnitItem(name=unit.name, enabled=unit.enabled, active=unit.active) for unit in rendered.units),
            *(UnitItem.model_validate(unit) for unit in told.engine.get("units", ())),
        ),
        images=tuple(ImageItem.model_validate(image) for image in told.engine.get("images", ())),
        users=tuple(sorted(user.name for user in rendered.users)),
        groups=tuple(sorted(user.name for user in rendered.users)),
        accounts=tuple(
            UserItem(name=user.name, group=user.name, groups=tuple(sorted(user.groups)), home=NO_HOME, shell=NO_SHELL)
            for user in sorted(rendered.users, key=lambda user: user.name)
        ),
        memberships=tuple(GroupItem(name=name) for name in sorted(user.name for user in rendered.users)),
        listeners=rendered.listeners,
        tables=rendered.tables,
        before=before,
    )


def before_text(before: Mapping[str, Any]) -> str:
    """Give the content of ``before.json`` on the host."""
    return json.dumps(before, indent=2, sort_keys=True) + "\n"


def _before(told: Told, lock: Lock, name: str) -> Before:
    packages = {package: version for package, version in told.before.get("packages", {}).items() if version}
    return Before(
        listeners=tuple(Listener.model_validate(each) for each in told.before.get("listeners", ())),
        packages=packages,
        upgrades=tuple(change for change in lock.hosts[name].upgrades if change.name in packages),
    )


def _files(
    rendered: Rendered, release: str, keys: Mapping[str, str], told: Told, secrets: dict[str, str]
) -> list[FileItem]:
    rendered_files = [
        FileItem(
            path=f"{RELEASES}/{release}/{file.path}",
            mode=file.mode,
            owner=file.owner,
            group=file.group,
            sha256=file.sha256,
            secrets=file.secrets,
        )
        for file in rendered.files
    ]
    ours = dict(told.archive)
    ours |= {file["path"]: _sha256(file["content"]) for file in rendered.variables.get("gpu_driver_files", ())}
    if told.before:
        ours[f"{ROOT}/before.json"] = _sha256(before_text(told.before))
    for unit in rendered.units:
        if unit.active:
            ours[f"{STARTED}/{unit.name}"] = _sha256(fingerprint(unit, rendered, keys, secrets) + "\n")
    rendered_files += [FileItem.model_validate(file) for file in told.engine.get("files", ())]
    return rendered_files + [
        FileItem(path=path, mode="0644", owner="root", group="root", sha256=sha256) for path, sha256 in ours.items()
    ]


def _links(rendered: Rendered, release: str, keys: Mapping[str, str], told: Told) -> list[LinkItem]:
    targets = {CURRENT: f"releases/{release}"}
    targets |= {f"{RELEASES}/{release}/artefacts/{name}": f"{STORE}/{key}" for name, key in keys.items()}
    targets |= {f"{UNITS}/{unit}": "/dev/null" for unit in told.masked}
    targets |= {link.path: link.target for link in other_links(rendered)}
    targets |= {link.path: link.target for unit in rendered.units for link in unit_links(unit)}
    return [LinkItem(path=path, target=target) for path, target in targets.items()]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
