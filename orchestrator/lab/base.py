"""Base trees: made by debootstrap once, kept packed in the user's cache, unpacked once for each lab."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.archive_keys import family_keyring
from orchestrator.lab import systems
from orchestrator.lab.commands import run
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.lab.systems import Archive, System
    from orchestrator.progress import Progress

#: So that a kill, of this process too, leaves neither process nor mount of debootstrap.
_WALLED = ("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")

#: Brings a new tree up to its security archive and makes it nobody's: no host keys, no identity, no leftovers.
_FINISH = r"""
set -eu
tree=$1; upgrade=$2; shift 2
printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d"; chmod 755 "$tree/usr/sbin/policy-rc.d"
mount -t proc proc "$tree/proc"
if [ "$upgrade" = yes ]; then
  cp /etc/resolv.conf "$tree/etc/resolv.conf"
  export DEBIAN_FRONTEND=noninteractive
  chroot "$tree" apt-get -qq update
  chroot "$tree" apt-get -qq -y -o Dpkg::Use-Pty=0 dist-upgrade
  chroot "$tree" apt-get clean
  rm -rf "$tree"/var/lib/apt/lists/*
fi
rm -f "$tree/etc/resolv.conf" "$tree/usr/sbin/policy-rc.d" "$tree"/etc/ssh/ssh_host_* "$tree/etc/hostname" \
  "$tree"/var/cache/apt/archives/*.deb "$tree"/var/log/*.log "$tree"/var/log/apt/*
: > "$tree/etc/machine-id"
for unit in "$@"; do ln -sf /dev/null "$tree/etc/systemd/system/$unit"; done
umount "$tree/proc"
"""


def cache() -> Path:
    """Give the folder where base trees are kept: below the XDG cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentrig" / "bases"


def unpack(system: System, folder: Path, progress: Progress) -> Path:
    """Unpack a system's base tree below ``folder``, making it first where the cache has none; gives the tree."""
    tree = folder / system.name
    if tree.is_dir():
        return tree
    packed = kept(system, progress)
    progress(Event("lab", f"unpacking the base tree of {system.name}"))
    folder.mkdir(parents=True, exist_ok=True)
    with _scratch(folder) as scratch:
        run(["tar", *_TAR, "--extract", f"--file={packed}", f"--directory={scratch}"], what="the tree was not unpacked")
        scratch.chmod(0o755)
        scratch.rename(tree)
    return tree


def kept(system: System, progress: Progress) -> Path:
    """Give the packed base tree of a system; makes it where there is none, or where its recipe has changed."""
    from orchestrator.nouns import digest_of  # noqa: PLC0415 - the supervisor does without pydantic

    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    packed = folder / f"{system.name}-{platform.machine()}.tar.zst"
    marker = folder / f"{system.name}-{platform.machine()}.json"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = digest_of(system.recipe())
        if not _is_whole(packed, marker, wanted):
            marker.unlink(missing_ok=True)
            with _scratch(folder) as scratch:
                _make(system, scratch / "tree", progress)
                beside = scratch / packed.name
                run(
                    ["tar", *_TAR, "--create", f"--file={beside}", f"--directory={scratch / 'tree'}", "."],
                    what="packing",
                )
                beside.replace(packed)
            marker.write_text(json.dumps({"recipe": wanted, "sha256": _sha256(packed)}) + "\n", encoding="utf-8")
    return packed


_TAR = ("--use-compress-program=zstd -T0", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")


def _make(system: System, tree: Path, progress: Progress) -> None:
    """Make a tree with debootstrap, from the archives that this machine itself uses, else its own choice."""
    keyring = Path(system.keyring)
    if not keyring.is_file():
        progress(Event("lab", f"fetching the keys of the archive of {system.name}"))
        keyring = family_keyring(system.family)
    own = systems.os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    archives = systems.archives_for(system, own, systems.sources_of(Path("/etc/apt")))
    progress(Event("lab", f"making the base tree of {system.name} with debootstrap, once: about two minutes"))
    run(_debootstrap(system, keyring, tree, archives), what=f"the base tree of {system.name} was not made")
    archives = archives or systems.archives_in(system, systems.sources_of(tree / "etc/apt"))
    if archives:
        (tree / "etc/apt/sources.list").write_text(systems.sources_list(system, archives), encoding="utf-8")
        progress(Event("lab", f"bringing the base tree of {system.name} up to date"))
    finish = ["sh", "-c", _FINISH, "sh", str(tree), "yes" if archives else "no", *system.masked]
    run([*_WALLED, *finish], what=f"the base tree of {system.name} was not finished")


def _debootstrap(system: System, keyring: Path, tree: Path, archives: tuple[Archive, ...]) -> list[str]:
    """Give the command that makes a tree; an empty address is debootstrap's own choice."""
    return [
        *_WALLED,
        "debootstrap",
        "--variant=minbase",
        f"--keyring={keyring}",
        "--force-check-gpg",
        f"--components={','.join(system.components)}",
        f"--include={','.join(system.packages)}",
        system.suite,
        str(tree),
        archives[0].uri if archives else "",
        *([system.script] if system.script else []),
    ]


def _is_whole(packed: Path, marker: Path, recipe: str) -> bool:
    """Say whether a kept tree is of this recipe and still the bytes that were written."""
    try:
        said = json.loads(marker.read_text(encoding="utf-8"))
        return bool(said["recipe"] == recipe and said["sha256"] == _sha256(packed))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give a folder to work in, on the same filesystem; what earlier work left half-made is thrown away."""
    for left in folder.glob(".making-*"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
