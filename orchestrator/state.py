"""What the control machine keeps: the store, and for each host its manifest, evidence and secrets.

Everything lies under one folder, ``$AGENTRIG_STATE`` or the XDG state folder. Secrets are files of mode 0600 and
stand nowhere else. One ``deploy`` at a time works on one state.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import BusyError, UsageError
from orchestrator.kept import SECRET_NAMES, HostState, give_to_caller, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.signing import Kind, Signers

__all__ = ["SECRET_NAMES", "HostState", "State", "file_name", "give_to_caller", "write"]

#: Bytes that a file's name may have here; file systems take 255 (NAME_MAX), and some names get a suffix.
_LONGEST = 180


def file_name(name: str) -> str:
    """Give the name of a file for any text: another for each, and none that leads elsewhere or is too long."""
    safe = "".join(
        letter
        if letter.isalnum() or letter in "._-"
        else "".join(f"%{byte:02x}" for byte in letter.encode("utf-8", "surrogatepass"))
        for letter in name
    ).replace("..", "%2e%2e")
    safe = f"%2e{safe[1:]}" if safe.startswith(".") else safe or "%"
    if len(safe.encode()) > _LONGEST:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        safe = f"{safe[: _LONGEST // 4]}%-{digest}"
    return safe


class State:
    """The control machine's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def here(cls) -> State:
        """Give the state that the environment names."""
        if named := os.environ.get("AGENTRIG_STATE"):
            return cls(_readable(Path(named).expanduser().absolute()))
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return cls(_readable(Path(base).expanduser().absolute() / "agentrig"))

    @property
    def store(self) -> Path:
        """Give the root of the content-addressed store."""
        return self.root / "store"

    @property
    def lab(self) -> Path:
        """Give the folder of the lab and of what is kept of its hosts."""
        return self.root / "lab"

    @property
    def keys(self) -> Path:
        """Give the folder of the keys that this control machine signs with."""
        return self.root / "keys"

    def signers(self, extra: Path | None = None) -> Signers:
        """Give whose signatures count on this control machine: all of them given beforehand."""
        from orchestrator.signing import Signers  # noqa: PLC0415 - signing stands on this module

        return Signers.here(self.root, extra)

    def sign(self, content: bytes, kind: Kind) -> str:
        """Give the owner's signature of ``content``; his key is made at first need. Raises SigningError."""
        from orchestrator.signing import owner_key, sign  # noqa: PLC0415 - signing stands on this module

        return sign(content, kind, owner_key(self.root))

    def host(self, name: str, *, lab: bool = False) -> HostState:
        """Give what is kept of one host; names are the inventory's, made safe for a file name."""
        return HostState((self.lab / "rigs" if lab else self.root / "hosts") / file_name(name))

    def lock_files(self) -> tuple[Path, ...]:
        """Give the locks that were read or written with this state, wherever they lie: their artefacts are in use."""
        try:
            kept = json.loads((self.root / "locks.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ()
        return tuple(Path(path) for path in kept)

    def remember_lock(self, path: Path) -> None:
        """Remember a lock that uses this state's store."""
        known = {str(one) for one in self.lock_files()}
        if str(path.absolute()) not in known and self.root.is_dir():
            write(self.root / "locks.json", json.dumps(sorted({*known, str(path.absolute())}), indent=2) + "\n")

    def lock_file(self, *, lab: bool = False, inventory: Path | None = None) -> Path:
        """Give where ``deploy.lock`` lies: beside the inventory, in the lab's folder, or in the current one."""
        if lab:
            return self.lab / "deploy.lock"
        if inventory is None:
            return Path.cwd() / "deploy.lock"
        return (inventory if inventory.is_dir() else inventory.parent) / "deploy.lock"

    @contextlib.contextmanager
    def alone(self, verb: str) -> Iterator[None]:
        """Work alone on this state; raises BusyError naming the process that is at work, and since when."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / "busy", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(
                f"the state folder cannot be written: {error.strerror}",
                where=str(self.root),
                do="set AGENTRIG_STATE to a folder of yours",
            ) from error
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"another deploy is at work here: {file.read().strip() or 'it has only just begun'}",
                    where=str(self.root),
                    do="wait until it has ended, or set AGENTRIG_STATE to work on another state",
                ) from None
            file.truncate(0)
            file.write(f"deploy {verb}, pid {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}\n")
            file.flush()
            try:
                yield
            finally:
                self._give_back()
                file.seek(0)
                file.truncate(0)

    def _give_back(self) -> None:
        """Give what was made under sudo to its caller, but for the lab's own folders, which stay root's."""
        if os.geteuid() != 0 or "SUDO_UID" not in os.environ:
            return
        ours = ("hosts", "store", "keys", "busy", "lab/rigs", "lab/deploy.lock", "lab/deploy.lock.sig")
        made = [self.root, *(self.root / name for name in ours)]
        made += [path for name in ours for path in (self.root / name).rglob("*")]
        for path in made:
            with contextlib.suppress(FileNotFoundError):
                give_to_caller(path)


def _readable(root: Path) -> Path:
    """Refuse a folder that others would read as another one; raises UsageError.

    ssh and Ansible take ``$NAME`` for a variable of the environment, and know no sign that keeps them from it.
    """
    if re.search(r"\$(\w|\{)", str(root)):
        said = "its path holds a variable of the environment, which ssh and Ansible would put in"
    elif str(root) != str(root).encode("utf-8", "replace").decode():
        said = "its path is not UTF-8"
    else:
        return root
    raise UsageError(f"the state folder cannot be used: {said}", where=str(root), do="set AGENTRIG_STATE to another")
