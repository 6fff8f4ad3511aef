"""Wheels: pip resolves a host's closure and fetches it, with pip's own configuration, for the host's interpreter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from orchestrator.errors import LockError
from orchestrator.lock.arriving import follow_pip
from orchestrator.lock.children import ends_with_us
from orchestrator.lockfile import Artefact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.lock.store import Store
    from orchestrator.lock.wanted import Target

#: Oldest manylinux of a machine, as (major, minor) of its glibc. From PEP 600.
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
#: Names that manylinux had before PEP 600, by machine. From PEP 513, 571 and 599.
_FORMER_NAMES = {
    "x86_64": ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
    "aarch64": ("manylinux2014_aarch64",),
}
_QUIET = ("--no-input", "--disable-pip-version-check", "--progress-bar", "raw")
_ADDRESS = re.compile(r"\S*://\S+")


def platforms(target: Target) -> tuple[str, ...]:
    """Give the platform tags that a host takes, the newest glibc first. Pure."""
    major, minor = target.glibc
    oldest = _OLDEST_GLIBC[target.arch]
    numbered = tuple(f"manylinux_{major}_{step}_{target.arch}" for step in range(minor, oldest - 1, -1))
    return (*numbered, *_FORMER_NAMES[target.arch], f"linux_{target.arch}")


def selectors(target: Target) -> tuple[str, ...]:
    """Give pip's arguments that choose wheels for a target. Pure."""
    short = "cp" + target.minor.replace(".", "")
    chosen = ["--only-binary=:all:", "--python-version", target.python, "--implementation", "cp"]
    for abi in (short, "abi3", "none"):
        chosen += ["--abi", abi]
    for platform in platforms(target):
        chosen += ["--platform", platform]
    return tuple(chosen)


def markers(target: Target) -> dict[str, str]:
    """Give what the markers of dependencies are answered with on a target. Pure."""
    return {
        "implementation_name": "cpython",
        "implementation_version": target.python,
        "os_name": "posix",
        "platform_machine": target.arch,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": target.python,
        "python_version": target.minor,
        "sys_platform": "linux",
    }


def read_report(document: Mapping[str, object]) -> tuple[Artefact, ...]:
    """Give the wheels of pip's installation report (version 1), sorted by name. Pure; raises LockError."""
    items = document.get("install")
    if document.get("version") != "1" or not isinstance(items, list):
        raise LockError("pip's report is of a form that is not known", where="pip", do="use pip 24 or newer")
    return tuple(sorted((_wheel(item) for item in items), key=lambda wheel: wheel.name))


def _wheel(item: Mapping[str, dict[str, object]]) -> Artefact:
    name, version = canonical(str(item["metadata"]["name"])), str(item["metadata"]["version"])
    info = item["download_info"]
    archive = info.get("archive_info")
    hashes = archive.get("hashes", {}) if isinstance(archive, dict) else {}
    if "sha256" not in hashes:
        raise LockError(f"the registry gives no sha256 for {name} {version}", where="pip")
    return Artefact(
        kind="wheel",
        name=name,
        version=version,
        digest=f"sha256:{hashes['sha256']}",
        source=f"pypi:{name}=={version}",
        filename=unquote(Path(urlsplit(str(info["url"])).path).name),
    )


def canonical(name: str) -> str:
    """Give a distribution's name in the form that registries compare (PEP 503). Pure."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    """Give the distribution that a requirement (``vllm[audio]==0.32``) names. Pure."""
    return canonical(re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0])


def resolve_wheels(
    requirements: Sequence[str],
    target: Target,
    store: Store,
    held: Mapping[str, str] | None = None,
    *,
    alone: bool = False,
) -> tuple[Artefact, ...]:
    """Give the whole closure of some requirements for a target (``alone``: only themselves); nothing is fetched.

    ``held`` names versions that must not move, for those that occur. Raises LockError.
    """
    with store.workroom() as room:
        report, constraints = room / "report.json", room / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted((held or {}).items())))
        command = ["install", "--dry-run", "--ignore-installed", "--report", str(report)]
        command += ["--constraint", str(constraints), *(["--no-deps"] if alone else [])]
        _pip([*command, *selectors(target), "--", *requirements], target, " ".join(requirements))
        return read_report(json.loads(report.read_text(encoding="utf-8")))


def fetch_wheels(wheels: Iterable[Artefact], target: Target, store: Store) -> None:
    """Put wheels into the store by their locked versions and digests. Raises LockError that names the wheel."""
    missing = [wheel for wheel in wheels if wheel.digest and not store.has(wheel.digest)]
    if not missing:
        return
    with store.workroom() as room:
        pinned = room / "requirements.txt"
        pinned.write_text("".join(f"{one.name}=={one.version} --hash={one.digest}\n" for one in missing))
        command = ["download", "--no-deps", "--require-hashes", "--dest", str(room), "--requirement", str(pinned)]
        _pip([*command, *selectors(target)], target, ", ".join(f"{one.name} {one.version}" for one in missing))
        for wheel in missing:
            _take(wheel, room, store)


def download_alone(requirement: str, target: Target, folder: Path) -> Path:
    """Fetch one wheel, without what it depends on, into a folder. Raises LockError."""
    _pip(["download", "--no-deps", "--dest", str(folder), *selectors(target), "--", requirement], target, requirement)
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise LockError(f"pip fetched {len(found)} wheels", where=requirement)
    return found[0]


def still_there(wheels: Sequence[Artefact], target: Target, store: Store) -> None:
    """Ask the registry whether it still has these bytes, fetching nothing. Raises LockError."""
    with store.workroom() as room:
        pinned = room / "requirements.txt"
        pinned.write_text("".join(f"{one.name}=={one.version} --hash={one.digest}\n" for one in wheels))
        command = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--require-hashes"]
        command += ["--report", str(room / "report.json"), "--requirement", str(pinned), *selectors(target)]
        _pip(command, target, ", ".join(f"{one.name} {one.version}" for one in wheels))


def sized(wheels: Iterable[Artefact], store: Store) -> tuple[Artefact, ...]:
    """Give wheels with their sizes, read from the store where they lie in it."""
    return tuple(
        one.model_copy(update={"bytes": store.path(one.digest).stat().st_size})
        if one.digest and one.bytes is None and store.has(one.digest)
        else one
        for one in wheels
    )


def _take(wheel: Artefact, room: Path, store: Store) -> None:
    fetched = room / wheel.filename
    if not fetched.is_file():
        raise LockError(
            f"pip fetched another file than {wheel.filename}",
            where=f"{wheel.name} {wheel.version}",
            do=f"run deploy lock --upgrade {wheel.name}",
        )
    store.add_file(fetched, wheel.digest, name=wheel.filename, move=True)


def _pip(arguments: Sequence[str], target: Target, what: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("pip_as.py")), json.dumps(markers(target))]
    verb, *rest = arguments
    # A person's own `user = true` or `require-virtualenv = true` is about installing; nothing is installed here.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        try:
            child = subprocess.Popen(
                [*ends_with_us(), *command, verb, *_QUIET, *rest],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise LockError(f"this interpreter cannot be started again for pip: {error}", where=what) from error
        with child:
            follow_pip(child.stdout or ())
        complaints.seek(0)
        said = complaints.read()
    if child.returncode:
        raise LockError(
            complaint(said) or f"pip ended with {child.returncode}",
            where=what if len(what) < 120 else what[:117] + "…",  # noqa: PLR2004 - one line of a terminal
            do="see whether pip reaches its registry: its own configuration (index, proxy, certificates) is used",
        )


def complaint(said: str) -> str:
    """Give what pip says went wrong, in one line, without addresses. Pure."""
    if "Retrying (" in said:
        return "pip does not reach its registry"
    errors = [line.removeprefix("ERROR:").strip() for line in said.splitlines() if line.startswith("ERROR:")]
    return _ADDRESS.sub("the registry", errors[-1]) if errors else ""
