"""What a host has of the things that its manifest names: the commands, made from the manifest, and a pure parse."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.detect import sockets, trees
from orchestrator.detect.script import NOT_FOUND
from orchestrator.errors import ProbeGarbled
from orchestrator.manifest import (
    FileItem,
    GroupItem,
    ImageItem,
    LinkItem,
    PackageItem,
    Reading,
    TreeItem,
    UnitItem,
    UserItem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.detect.script import Output
    from orchestrator.manifest import Manifest

_EACH = r"""printf '%s\0' {names} | xargs -0r """
_FILES = _EACH + r"""sh -c 'find "$@" -maxdepth 0 -type f -printf "%m:%u:%g:%p\0"' sh"""
_DIGESTS = _EACH + "sha256sum -bz --"
_LINKS = _EACH + r"""sh -c 'find "$@" -maxdepth 0 -type l -printf "%p\0%l\0"' sh"""
_PACKAGES = _EACH + r"""dpkg-query -W -f '${{db:Status-Status}} ${{db:Status-Want}} ${{Version}} ${{Package}}\n'"""
_UNITS = _EACH + "systemctl show -p UnitFileState -p ActiveState --"
#: Name and key of each image that is there, a line each; the key is what its label says.
_IMAGES = """for name in {names}; do
key=$(docker image inspect --format '{{{{index .Config.Labels "agentrig.key"}}}}' "$name") &&
printf '%s %s\\n' "$name" "$key"
done
:"""
_NAMES = "getent {table} {names}"
#: Every group with its members: the supplementary groups of a user are not in his own entry.
_MEMBERS = "getent group"
#: Where a unit's own drop-ins lie; ``service.d``, which is for all services, is no business of ours. By systemd.unit(5)
#: also a folder for each of a unit's name's beginnings up to a dash.
_DROP_INS = """for name in {names}; do
for root in /etc/systemd/system.control /run/systemd/system.control /etc/systemd/system /run/systemd/system \\
/usr/local/lib/systemd/system /usr/lib/systemd/system; do
rest=${{name%.*}}
for folder in "$name.d" $(while case $rest in *-*) true;; *) false;; esac; do rest=${{rest%-*}}
echo "$rest-.${{name##*.}}.d"; done); do
for file in "$root/$folder"/*.conf; do test -f "$file" && printf '%s %s\\n' "$name" "$file"; done
done; done; done
:"""
#: Fields of passwd(5), and the number that an entry of group(5) has more of.
_PASSWD_FIELDS, _LEAST_FIELDS = 7, 3
_ENABLED = {"enabled", "enabled-runtime", "static"}


def commands(manifest: Manifest, *, thorough: bool = False) -> dict[str, str]:
    """Give the commands that read what the manifest names, by section.

    A tree of more than 1 GiB is believed when sizes and times of its files are those kept in its marker; with
    ``thorough`` it is read to the last byte. Smaller ones always are.
    """
    wanted = {
        "files": (_FILES, [item.path for item in manifest.files]),
        "digests": (_DIGESTS, [item.path for item in manifest.files]),
        "links": (_LINKS, [item.path for item in manifest.links]),
        "installed": (_PACKAGES, [item.name for item in manifest.packages]),
        "units": (_UNITS, [item.name for item in manifest.units]),
        "drop-ins": (_DROP_INS, [item.name for item in manifest.units]),
        "images": (_IMAGES, [item.name for item in manifest.images]),
        "users": (_NAMES.replace("{table}", "passwd"), manifest.users),
        "groups": (_NAMES.replace("{table}", "group"), manifest.groups),
    }
    found = {
        section: command.format(names=" ".join(map(shlex.quote, names)))
        for section, (command, names) in wanted.items()
        if names
    }
    if manifest.trees:
        word = "yes" if thorough else "no"
        found["trees"] = trees.FUNCTIONS + "\n".join(f"tree {shlex.quote(item.path)} {word}" for item in manifest.trees)
    if manifest.users or manifest.groups:
        found["members"] = _MEMBERS
    if manifest.tables:
        found["tables"] = "nft list tables"
    return found | {"sockets": sockets.SOCKETS, "holders": sockets.HOLDERS}


def parse_reading(manifest: Manifest, outputs: Mapping[str, Output]) -> Reading:
    """Read the sections; what is absent on the host is absent from the tuples. Raises ProbeGarbled."""
    for section in commands(manifest):
        if section not in outputs:
            raise ProbeGarbled(f"the reading of its {section} was cut off", do="try again")
    text = {section: output.text for section, output in outputs.items()}
    if outputs["sockets"].status == NOT_FOUND or not text["sockets"].strip():
        raise ProbeGarbled("it does not tell who listens there", do="see whether /proc/net is readable there")
    return Reading(
        files=tuple(_files(manifest, text.get("files", ""), text.get("digests", ""))),
        links=tuple(_links(text.get("links", ""))),
        trees=tuple(_trees(manifest, text.get("trees", ""))),
        packages=tuple(_packages(text.get("installed", ""))),
        units=tuple(_units(manifest, text.get("units", ""), text.get("drop-ins", ""))),
        users=_named(manifest.users, _entries(text.get("users", ""))),
        groups=_named(manifest.groups, _entries(text.get("groups", ""))),
        accounts=tuple(_accounts(text.get("users", ""), text.get("members", ""))),
        memberships=tuple(_memberships(manifest, text.get("members", ""))),
        tables=_named(manifest.tables, re.findall(r"^table (.+?)\s*$", text.get("tables", ""), re.MULTILINE)),
        listeners=sockets.parse_sockets(text["sockets"], text.get("holders", "")),
        images=tuple(_images(text.get("images", ""))),
    )


def _files(manifest: Manifest, listing: str, digests: str) -> Iterator[FileItem]:
    """Give each file that could be listed; one that may not be read has no digest."""
    secrets = {item.path: item.secrets for item in manifest.files}
    content = {path: digest for digest, path in re.findall(r"([0-9a-f]{64}) [ *]([^\0]+)\0", digests)}
    for mode, owner, group, path in re.findall(r"([0-7]+):([^:\0]+):([^:\0]+):([^\0]+)\0", listing):
        yield FileItem(
            path=path,
            mode=f"{int(mode, 8):04o}",
            owner=owner,
            group=group,
            sha256=content.get(path, ""),
            secrets=secrets.get(path, ()),
        )


def _links(text: str) -> Iterator[LinkItem]:
    parts = text.split("\0")
    for path, target in zip(parts[::2], parts[1::2], strict=False):
        yield LinkItem(path=path, target=target)


def _trees(manifest: Manifest, text: str) -> Iterator[TreeItem]:
    keys = {item.path: item.key for item in manifest.trees}
    for digest, path in re.findall(r"^([0-9a-f]{64}) (.+)$", text, re.MULTILINE):
        yield TreeItem(path=path, key=keys.get(path, PurePosixPath(path).name), digest=digest)


def _packages(text: str) -> Iterator[PackageItem]:
    for status, want, version, name in re.findall(r"^(\S+) (\S+) (\S+) (\S+)$", text, re.MULTILINE):
        if status == "installed":
            yield PackageItem(name=name, version=version, held=want == "hold")


def _entries(text: str) -> dict[str, list[str]]:
    """Read entries of passwd(5) or group(5): name -> fields."""
    return {fields[0]: fields for line in text.splitlines() if len(fields := line.split(":")) > _LEAST_FIELDS}


def _accounts(users: str, members: str) -> Iterator[UserItem]:
    groups = _entries(members)
    names = {fields[2]: name for name, fields in groups.items()}
    for name, fields in _entries(users).items():
        if len(fields) >= _PASSWD_FIELDS:
            more = sorted(group for group, about in groups.items() if name in about[3].split(","))
            own = names.get(fields[3], fields[3])
            yield UserItem(name=name, group=own, groups=tuple(more), home=fields[5], shell=fields[6])


def _memberships(manifest: Manifest, members: str) -> Iterator[GroupItem]:
    groups = _entries(members)
    for name in manifest.groups:
        if name in groups:
            yield GroupItem(name=name, members=tuple(sorted(filter(None, groups[name][3].split(",")))))


def _units(manifest: Manifest, text: str, beside: str) -> Iterator[UnitItem]:
    """Read systemd's blocks, one a unit in the order asked; a unit that it does not know has no file state."""
    for item, block in zip(manifest.units, re.split(r"\n\s*\n", text.strip()), strict=False):
        about = dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE))
        if about.get("UnitFileState"):
            enabled, active = about["UnitFileState"] in _ENABLED, about.get("ActiveState") == "active"
            drop_ins = tuple(re.findall(rf"^{re.escape(item.name)} (/.+)$", beside, re.MULTILINE))
            yield UnitItem(name=item.name, enabled=enabled, active=active, drop_ins=drop_ins)


def _images(text: str) -> Iterator[ImageItem]:
    for name, key in re.findall(r"^(\S+) (.*)$", text, re.MULTILINE):
        yield ImageItem(name=name, key=key)


def _named(wanted: Iterable[str], found: Iterable[str]) -> tuple[str, ...]:
    there = set(found)
    return tuple(name for name in wanted if name in there)
