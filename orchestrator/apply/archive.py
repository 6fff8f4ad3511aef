"""A signed apt archive of a host's packages: its lists are written here, its packages lie in the store."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from typing import TYPE_CHECKING, Any

from orchestrator.apply.openpgp import Signer
from orchestrator.errors import ApplyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Who signs; the key never leaves the control machine.
SIGNER = "agentrig local archive"
_WHERE = "the signed archive of packages"
#: The same date always: the lists say what they hold, not when. apt wants one, and none in the future.
DATE = "Thu, 01 Jan 2026 00:00:00 UTC"


def blob(store_root: Path, digest: str) -> Path:
    """Give where the store keeps a digest of 64 hex digits."""
    return store_root / "sha256" / digest[:2] / digest


def archive_lists(debs: Sequence[Mapping[str, Any]], store_root: Path, keys: Path) -> dict[str, str]:
    """Give the archive's ``Packages``, ``Release``, ``InRelease`` and its ``key`` in base64; {} for no packages.

    The key is made under ``keys`` at the first use; the same lists are signed with the same bytes. Raises ApplyError.
    """
    if not debs:
        return {}
    packages = "\n".join(_paragraph(deb, blob(store_root, deb["digest"])) for deb in debs)
    release = _release(packages)
    signer = Signer.kept_in(keys / "apt" / "ed25519", SIGNER)
    return {
        "Packages": packages,
        "Release": release,
        "InRelease": signer.clearsign(release),
        "key": base64.b64encode(signer.public()).decode(),
    }


def _paragraph(deb: Mapping[str, Any], path: Path) -> str:
    """Give a package's paragraph of ``Packages``: its own control fields and where it lies."""
    if not path.is_file():
        raise ApplyError(
            f"the store has lost {deb['name']} {deb['version']}", where=str(path), do="deploy lock fetches it again"
        )
    control = _run(["dpkg-deb", "--field", str(path)]).decode().rstrip("\n")
    return f"{control}\nFilename: ./{deb['file']}\nSize: {path.stat().st_size}\nSHA256: {deb['digest']}\n"


def _release(packages: str) -> str:
    body = packages.encode()
    return (
        f"Origin: agentrig\nLabel: agentrig\nSuite: local\nCodename: local\nDate: {DATE}\n"
        f"Description: the packages of a lock\nSHA256:\n {hashlib.sha256(body).hexdigest()} {len(body)} Packages\n"
    )


def _run(command: list[str]) -> bytes:
    """Run a command of this machine; raises ApplyError with its last words."""
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise ApplyError(
            f"{command[0]} is missing on this machine", where=_WHERE, do="install the package dpkg"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ApplyError(f"{command[0]}: {said[-1] if said else done.returncode}", where=_WHERE)
    return done.stdout
