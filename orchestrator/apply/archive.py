"""A signed apt archive of a host's packages: its lists are written here, its packages lie in the store."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ApplyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Who signs, as gpg names him; the key never leaves the control machine.
SIGNER = "agentrig local archive"
_WHERE = "the signed archive of packages"
#: The same date always: the lists say what they hold, not when. apt wants one, and none in the future.
DATE = "Thu, 01 Jan 2026 00:00:00 UTC"


def blob(store_root: Path, digest: str) -> Path:
    """Give where the store keeps a digest of 64 hex digits."""
    return store_root / "sha256" / digest[:2] / digest


def archive_lists(debs: Sequence[Mapping[str, Any]], store_root: Path, keys: Path, kept: Path) -> dict[str, str]:
    """Give the archive's ``Packages``, ``Release``, ``InRelease`` and its ``key`` in base64; {} for no packages.

    A signature is made once for the same lists and kept under ``kept``. Raises ApplyError.
    """
    if not debs:
        return {}
    packages = "\n".join(_paragraph(deb, blob(store_root, deb["digest"])) for deb in debs)
    release = _release(packages)
    signed = kept / f"{hashlib.sha256(release.encode()).hexdigest()[:16]}.InRelease"
    with _signer(keys) as (gpg, key):
        kept_as = signed.with_suffix(f".{hashlib.sha256(key).hexdigest()[:8]}")
        if not kept_as.exists():
            kept.mkdir(parents=True, exist_ok=True)
            beside = kept_as.with_name(f".{kept_as.name}.{os.getpid()}")
            beside.write_bytes(_run([*gpg, "--clearsign", "--local-user", SIGNER], feed=release.encode()))
            beside.replace(kept_as)
    return {
        "Packages": packages,
        "Release": release,
        "InRelease": kept_as.read_text(encoding="utf-8"),
        "key": base64.b64encode(key).decode(),
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


@contextlib.contextmanager
def _signer(keys: Path) -> Iterator[tuple[list[str], bytes]]:
    """Give gpg's command and the public key, made at the first use; the agent is ended afterwards.

    gpg's agent listens in its home, whose name must be short: it is reached through a link in a temporary folder.
    """
    if shutil.which("gpg") is None:
        raise ApplyError("gpg is missing on this machine", where=_WHERE, do="install gnupg")
    home = keys / "apt"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "busy").open("w") as busy, tempfile.TemporaryDirectory(prefix="agentrig-", dir="/tmp") as short:
        fcntl.flock(busy, fcntl.LOCK_EX)
        link = Path(short, "g")
        link.symlink_to(home.absolute())
        gpg = ["gpg", "--homedir", str(link), "--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback"]
        try:
            if not (home / "public.gpg").exists():
                _run([*gpg, "--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never"])
                public = _run([*gpg, "--export", SIGNER])
                (home / ".public.gpg").write_bytes(public)
                (home / ".public.gpg").replace(home / "public.gpg")
            yield [*gpg, "--passphrase", ""], (home / "public.gpg").read_bytes()
        finally:
            subprocess.run(
                ["gpgconf", "--homedir", str(link), "--kill", "all"], capture_output=True, check=False, timeout=20
            )


def _run(command: list[str], feed: bytes | None = None) -> bytes:
    """Run a command of this machine; raises ApplyError with its last words."""
    try:
        done = subprocess.run(command, input=feed, capture_output=True, check=False)
    except FileNotFoundError:
        raise ApplyError(
            f"{command[0]} is missing on this machine",
            where="the signed archive of packages",
            do=f"install {command[0]}",
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ApplyError(
            f"{command[0]}: {said[-1] if said else done.returncode}", where="the signed archive of packages"
        )
    return done.stdout
