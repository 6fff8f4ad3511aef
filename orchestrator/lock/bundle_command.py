"""The command itself for a bundle: its own wheel and the wheels that it runs with here, each by its sha256."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import platform
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from orchestrator.errors import LockError
from orchestrator.lock.bundle import COMMAND, REQUIREMENTS, BundleFile, Command
from orchestrator.lock.bundle_copy import sha256_of
from orchestrator.lock.children import ends_with_us
from orchestrator.lock.wanted import Target
from orchestrator.lock.wheels import canonical, complaint, fetch_wheels, resolve_wheels
from orchestrator.progress import Event

if TYPE_CHECKING:
    from orchestrator.lock.store import Store
    from orchestrator.lockfile import Artefact, Lock
    from orchestrator.progress import Progress

DISTRIBUTION = "agentrig"
#: What an installer adds to a wheel's files (PEP 610, PEP 627, and uv's own two).
_OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json", "uv_build.json"}
#: The first date that a zip archive can hold: the same files make the same wheel.
_DATE = (1980, 1, 1, 0, 0, 0)
_PINNED = re.compile(r"([A-Za-z0-9._-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Packed:
    """The command as it travels: its files as the index lists them, and where each lies now (by path)."""

    command: Command
    files: tuple[BundleFile, ...]
    sources: dict[str, Path]


def pack(root: Path, lock: Lock, store: Store, room: Path, progress: Progress) -> Packed:
    """Give the wheels of the command for an interpreter like this one; raises LockError where one is not to be had.

    ``root`` is the bundle's folder: wheels that it has already are not asked for again. ``room`` is a folder for what
    is made here.
    """
    progress(Event("bundle", "the command itself and the wheels it runs with"))
    versions = _closure(DISTRIBUTION)
    own = _own_wheel(room)
    target = _target(lock)
    there = _already(root, versions, target)
    missing = [f"{name}=={version}" for name, version in versions.items() if name not in there and name != DISTRIBUTION]
    wheels: tuple[Artefact, ...] = resolve_wheels(missing, target, store, alone=True) if missing else ()
    fetch_wheels(wheels, target, store)
    found = {name: (path, path.name) for name, path in there.items()}
    found |= {one.name: (store.path(str(one.digest)), one.filename) for one in wheels}
    found[DISTRIBUTION] = (own, own.name)
    files, sources = [], {}
    for name, (path, filename) in sorted(found.items()):
        file = _listed(path, f"{COMMAND}/{filename}", f"{name} {versions[name]}, for the control machine")
        files.append(file)
        sources[file.path] = path
    pinned = room / "requirements.txt"
    lines = [
        f"{name}=={versions[name]} --hash=sha256:{file.sha256}\n"
        for name, file in zip(sorted(found), files, strict=True)
    ]
    pinned.write_text("".join(lines), encoding="utf-8")
    files.append(_listed(pinned, REQUIREMENTS, REQUIREMENTS))
    sources[REQUIREMENTS] = pinned
    glibc = ".".join(str(part) for part in target.glibc)
    command = Command(version=versions[DISTRIBUTION], python=target.minor, arch=target.arch, glibc=glibc)
    return Packed(command, tuple(files), sources)


def _listed(path: Path, where: str, name: str) -> BundleFile:
    return BundleFile(path=where, sha256=sha256_of(path), bytes=path.stat().st_size, name=name)


def _target(lock: Lock) -> Target:
    """Give this interpreter on the oldest C library among this machine and the lock's hosts."""
    version = re.match(r"(\d+)\.(\d+)", platform.libc_ver()[1])
    if version is None:
        raise LockError("the C library of this machine is not glibc, and its wheels are others", where=sys.executable)
    libraries = [(int(version[1]), int(version[2]))]
    sources = [one.source for one in lock.artefacts if one.kind == "venv" and one.digest]
    libraries += [Target.read(source).glibc for source in sources]
    return Target(platform.python_version(), platform.machine(), min(libraries))


def _closure(name: str) -> dict[str, str]:
    """Give what is installed here and needed by a distribution, itself included: name -> version."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - only here

    found: dict[str, str] = {}
    open_names: list[tuple[str, str]] = [(name, "")]
    done: set[tuple[str, str]] = set()
    while open_names:
        one = open_names.pop()
        if one in done:
            continue
        done.add(one)
        try:
            distribution = metadata.distribution(one[0])
        except metadata.PackageNotFoundError:
            raise LockError(f"{one[0]} is not installed in this interpreter", where=sys.executable) from None
        found[canonical(one[0])] = distribution.version
        for text in distribution.requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": one[1]}):
                open_names += [(wanted.name, extra) for extra in ("", *sorted(wanted.extras))]
    return dict(sorted(found.items()))


def _already(root: Path, versions: dict[str, str], target: Target) -> dict[str, Path]:
    """Give the wheels of a bundle that are of these versions and as its list pins them, by name."""
    try:
        index = json.loads((root / "bundle.json").read_text(encoding="utf-8"))
        lines = (root / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
        for_this = (index["command"]["python"], index["command"]["arch"]) == (target.minor, target.arch)
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    glibc = ".".join(str(part) for part in target.glibc)
    if not for_this or index["command"].get("glibc") != glibc:
        return {}
    hashes = {
        match[1]: match[3]
        for line in lines
        if (match := _PINNED.fullmatch(line)) and versions.get(match[1]) == match[2]
    }
    found = {}
    for path in sorted((root / COMMAND).glob("*.whl")):
        name = canonical(path.name.split("-")[0])
        if name != DISTRIBUTION and name in hashes and sha256_of(path) == hashes[name]:
            found[name] = path
    return found


def _own_wheel(room: Path) -> Path:
    """Give the command's own wheel: built from the checkout that runs, or put together again from what is installed."""
    distribution = metadata.distribution(DISTRIBUTION)
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if "dir_info" in direct and direct["dir_info"].get("editable"):
        return _built(Path(unquote(urlsplit(direct["url"]).path)), room)
    return repacked(distribution, room)


def _built(checkout: Path, room: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-input", "--disable-pip-version-check"]
    done = subprocess.run(
        [*ends_with_us(), *command, "--wheel-dir", str(room), str(checkout)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    built = sorted(room.glob("*.whl"))
    if done.returncode or len(built) != 1:
        said = complaint(done.stderr) or f"pip ended with {done.returncode}"
        raise LockError(
            f"the wheel of this checkout was not built: {said}",
            where=str(checkout),
            do="see whether pip reaches its registry",
        )
    return built[0]


def repacked(distribution: metadata.Distribution, room: Path) -> Path:
    """Give the wheel that a distribution was installed from, put together from its files; raises LockError.

    Every file must have the sha256 that the installer recorded: what was changed since is not carried about.
    """
    name, version = distribution.metadata["Name"], distribution.version
    members: dict[str, bytes] = {}
    for path, digest in _recorded(distribution):
        content = Path(str(distribution.locate_file(path))).read_bytes()
        if _as_recorded(content) != digest:
            raise LockError(f"{path} was changed after it was installed", where=name, do="install it again")
        members[path] = content
    info = next((path.split("/")[0] for path in members if path.endswith(".dist-info/WHEEL")), None)
    tags = re.findall(r"^Tag: (\S+)", members[f"{info}/WHEEL"].decode(), re.MULTILINE) if info else []
    if len(tags) != 1:
        raise LockError("what is installed here says not which wheel it was", where=name, do="install it again")
    rows = [f"{path},sha256={_as_recorded(content)},{len(content)}" for path, content in sorted(members.items())]
    members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    wheel = room / f"{canonical(name).replace('-', '_')}-{version}-{tags[0]}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(path, _DATE), content, zipfile.ZIP_DEFLATED)
    return wheel


def _recorded(distribution: metadata.Distribution) -> list[tuple[str, str]]:
    """Give the files of a distribution's RECORD that came in its wheel, each with its hash."""
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    return [
        (row[0], row[1].removeprefix("sha256="))
        for row in rows
        if len(row) > 1
        and row[1].startswith("sha256=")
        and not row[0].startswith(("../", "/"))
        and not (".dist-info/" in row[0] and row[0].rsplit("/", 1)[-1] in _OF_THE_INSTALLER)
    ]


def _as_recorded(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
