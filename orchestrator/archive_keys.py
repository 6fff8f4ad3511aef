"""Keyrings of distributions' archives: this machine's own, and others that its apt fetches and vouches for.

A Debian machine may have to read Ubuntu's archive, and an Ubuntu machine Debian's. The keys for that come in a package
of this machine's own distribution: apt checks the index by the keys that it has, and the package by the index. It is
unpacked into the user's cache, never installed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_INSTALLED = Path("/usr/share/keyrings")


@dataclass(frozen=True, slots=True)
class Family:
    """One distribution: the keyring of its archive, the package that brings it, and where it packs others' keys."""

    keyring: str
    package: str
    #: Its releases that pack the other's keyring: Debian's since 13, Ubuntu's in universe.
    suites: tuple[str, ...]
    components: str


#: By ``ID`` of os-release. From the packages ``debian-archive-keyring`` and ``ubuntu-keyring`` themselves.
FAMILIES: Mapping[str, Family] = {
    "debian": Family("debian-archive-keyring", "debian-archive-keyring", ("trixie",), "main"),
    "ubuntu": Family("ubuntu-archive-keyring", "ubuntu-keyring", ("noble",), "main universe"),
}

#: Endings of one and the same keyring: Debian 13 calls it ``.pgp`` and keeps the older name as a link.
_ENDINGS = (".gpg", ".pgp")


def family_keyring(family: str) -> Path:
    """Give the keyring of a distribution's archive on this machine, fetched first where only its apt can bring it.

    Raises UsageError where that does not go.
    """
    row = FAMILIES[family]
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentrig/keyrings"
    for path in (*(_INSTALLED / f"{row.keyring}{ending}" for ending in _ENDINGS), kept / f"{row.keyring}.gpg"):
        if path.is_file():
            return path
    return _fetched(row, kept)


def components_of(distribution: str) -> tuple[str, ...]:
    """Give the parts of a distribution's archive that its packages come from. Pure."""
    return tuple(FAMILIES[distribution].components.split()) if distribution in FAMILIES else ("main",)


def same_keyring(asked: str) -> tuple[str, ...]:
    """Give the names that a keyring may have on another machine, its own first. Pure."""
    name = Path(asked).name
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return (name, *(stem + other for other in _ENDINGS if ending in _ENDINGS and other != ending))


def own_archive(targets: str, codename: str) -> str | None:
    """Give the address of this machine's main archive from apt's index targets (``address release`` a line). Pure."""
    pairs = (line.split() for line in targets.splitlines())
    return next((pair[0] for pair in pairs if len(pair) > 1 and pair[1] == codename), None)


def _fetched(row: Family, kept: Path) -> Path:
    """Fetch a keyring's package with apt and take the keyring out of it."""
    here: dict[str, str] = {}
    with contextlib.suppress(OSError):
        here = platform.freedesktop_os_release()
    own = FAMILIES.get(here.get("ID", ""))
    codename = here.get("VERSION_CODENAME", "")
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    try:
        address = own_archive(_said(asked), codename) if own and shutil.which("apt-get") else None
    except (OSError, subprocess.CalledProcessError) as error:
        raise _refused(row, _complaint(error)) from error
    signer = next(
        (path for ending in _ENDINGS if own and (path := _INSTALLED / f"{own.keyring}{ending}").is_file()), ""
    )
    if not (own and address and signer):
        raise _refused(row, "this machine's apt has no archive of Debian or Ubuntu that packs it")
    complaint = ""
    for suite in dict.fromkeys((codename, *own.suites)):
        with _apt_root(f"deb [signed-by={signer}] {address} {suite} {own.components}\n") as (root, options):
            try:
                _said(["apt-get", *options, "-q", "update"], root)
                _said(["apt-get", *options, "-q", "download", row.package], root)
                packed = next(root.glob(f"{row.package}_*.deb"))
                _said(["dpkg-deb", "--extract", str(packed), str(root / "unpacked")], root)
                return _keep(root / "unpacked" / _INSTALLED.relative_to("/"), row.keyring, kept)
            except (OSError, StopIteration, subprocess.CalledProcessError) as error:
                complaint = _complaint(error)
    raise _refused(row, complaint)


def _complaint(error: Exception) -> str:
    """Give the last thing that a command said, or what kept it from running. Pure."""
    said = str(getattr(error, "stderr", None) or error).strip().splitlines()
    return said[-1].removeprefix("E: ") if said else "nothing was fetched"


def _keep(unpacked: Path, name: str, kept: Path) -> Path:
    """Put an unpacked keyring into the cache in one step."""
    found = next(path for ending in _ENDINGS if (path := unpacked / f"{name}{ending}").is_file())
    kept.mkdir(parents=True, exist_ok=True)
    content = found.read_bytes()
    with tempfile.NamedTemporaryFile(dir=kept, prefix=".new-", delete=False) as file:
        beside = Path(file.name)
        try:
            file.write(content)
            file.flush()
            beside.chmod(0o644)
            return beside.rename(kept / f"{name}.gpg")
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _apt_root(source: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Give a folder with a private apt state that knows one archive, and the options that lead apt there."""
    with tempfile.TemporaryDirectory(prefix="agentrig-keys-") as made:
        root = Path(made)
        for name in ("state/lists/partial", "cache/archives/partial", "unpacked"):
            (root / name).mkdir(parents=True)
        (root / "state/status").touch()
        (root / "sources.list").write_text(source, encoding="utf-8")
        settings = {
            "Dir::State": root / "state",
            "Dir::State::status": root / "state/status",
            "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Sandbox::User": "",
            "APT::Update::Error-Mode": "any",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::Languages": "none",
        }
        yield root, tuple(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))


def _said(argv: Iterable[str], cwd: Path | None = None) -> str:
    """Run a command and give what it said; raises CalledProcessError."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        list(argv), cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout


def _refused(row: Family, why: str) -> UsageError:
    return UsageError(
        f"the keys of an archive are not on this machine, and could not be fetched: {why}",
        where=f"{_INSTALLED / row.keyring}.gpg",
        do=f"install the package {row.package}, or put that file there",
    )
