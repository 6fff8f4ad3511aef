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
import secrets as random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from orchestrator.errors import AgentrigError, BusyError, UsageError
from orchestrator.evidence import Evidence
from orchestrator.manifest import Manifest
from orchestrator.rendered import Rendered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.nouns import Noun

_Kept = TypeVar("_Kept", bound="Noun")

#: Bytes that a file's name may have here; file systems take 255 (NAME_MAX), and some names get a suffix.
_LONGEST = 180
#: Names of the secrets a host has; each is 43 characters of URL-safe base64 (256 random bits).
SECRET_NAMES = ("gateway_token", "runtime_key")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all: beside it first, then renamed. Under sudo it is given to the caller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(mode)
    beside.rename(path)
    give_to_caller(path)


def give_to_caller(path: Path) -> None:
    """Give a file to the user who called sudo, so that he can read his own token."""
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1")), follow_symlinks=False)


class HostState:
    """What is kept of one host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def token_file(self) -> Path:
        """Give the file with the person's bearer token: the bare token and a newline, mode 0600."""
        return self.folder / "token"

    @property
    def header_file(self) -> Path:
        """Give the file with the token as a header, for ``curl -H @FILE``: a token in a command line is seen by all."""
        return self.folder / "header"

    @property
    def evidence_file(self) -> Path:
        """Give the file with the evidence of the last acceptance, passed or not."""
        return self.folder / "evidence.json"

    @property
    def work(self) -> Path:
        """Give the folder where apply works and keeps its logs."""
        return self.folder / "work"

    def manifest(self) -> Manifest | None:
        """Give the manifest of what was last put on the host, or None."""
        return _read(self.folder / "manifest.json", Manifest)

    def manifests(self) -> tuple[Manifest, ...]:
        """Give all manifests that the host has had, oldest first: what ``down`` goes by."""
        found = sorted((self.folder / "manifests").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return tuple(manifest for path in found if (manifest := _read(path, Manifest)))

    def accepted(self) -> Manifest | None:
        """Give the manifest of the release that was last accepted, or None."""
        return _read(self.folder / "accepted.json", Manifest)

    def rendered(self) -> Rendered | None:
        """Give the rendering that the present manifest was declared from, its placeholders in place, or None."""
        return _read(self.folder / "rendered.json", Rendered)

    def filled_digests(self) -> dict[str, str]:
        """Give, for each file with secrets, the digest of its filled content -> the digest with placeholders."""
        rendered, secrets = self.rendered(), self.secrets()
        with_secrets = [file for file in rendered.files if file.secrets] if rendered else []
        return {hashlib.sha256(file.filled(secrets).encode()).hexdigest(): file.sha256 for file in with_secrets}

    def keep_manifest(self, manifest: Manifest, rendered: Rendered) -> None:
        """Keep a manifest as the host's present one, and among all it has had, with its rendering."""
        write(self.folder / "renderings" / f"{manifest.release}.json", rendered.to_json())
        write(self.folder / "rendered.json", rendered.to_json())
        write(self.folder / "manifests" / f"{manifest.release}.json", manifest.to_json())
        write(self.folder / "manifest.json", manifest.to_json())

    def keep_intended(self, manifest: Manifest) -> None:
        """Keep the manifest of what is about to be put on the host, so that ``down`` knows of it whatever happens."""
        path = self.folder / "manifests" / f"{manifest.release}.json"
        if not path.exists():
            write(path, manifest.to_json())

    @property
    def rejected_file(self) -> Path:
        """Give the file with the evidence of the last acceptance that failed; a roll-back leaves it for reading."""
        return self.folder / "rejected-evidence.json"

    def keep_rejected(self, evidence: Evidence) -> None:
        """Keep the evidence of an acceptance that failed."""
        write(self.rejected_file, evidence.to_json())

    def keep_asked(self, rendered: Rendered) -> None:
        """Keep the rendering of what was asked for where a rehearsal is applied, placeholders in place."""
        shutil.rmtree(self.folder / "asked", ignore_errors=True)
        for file in rendered.files:
            write(self.folder / "asked" / file.path, file.content, int(file.mode, 8))

    def return_to(self, manifest: Manifest) -> None:
        """Make a former manifest the present one again, as after a roll-back."""
        rendered = _read(self.folder / "renderings" / f"{manifest.release}.json", Rendered)
        if rendered:
            self.keep_manifest(manifest, rendered)
        evidence = _read(self.folder / "accepted-evidence.json", Evidence)
        if evidence and evidence.manifest_digest == manifest.fingerprint():
            self.keep_evidence(evidence)

    def keep_accepted(self, manifest: Manifest, evidence: Evidence) -> None:
        """Keep the manifest of a release that was accepted, and its evidence: where a roll-back goes."""
        write(self.folder / "accepted.json", manifest.to_json())
        write(self.folder / "accepted-evidence.json", evidence.to_json())

    def evidence(self) -> Evidence | None:
        """Give the evidence of the last acceptance, or None."""
        return _read(self.evidence_file, Evidence)

    def keep_evidence(self, evidence: Evidence) -> None:
        """Keep the evidence of an acceptance."""
        write(self.evidence_file, evidence.to_json())

    def secrets(self, names: Iterable[str] = ()) -> dict[str, str]:
        """Give the host's secrets by name; ``names``, and those that every host has, are made where missing."""
        path = self.folder / "secrets.json"
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if missing := [name for name in dict.fromkeys((*SECRET_NAMES, *names)) if name not in kept]:
            kept |= {name: random.token_urlsafe(32) for name in missing}
            self.folder.mkdir(parents=True, exist_ok=True)
            write(path, json.dumps(kept, indent=2) + "\n", 0o600)
        token = kept["gateway_token"] + "\n"
        if not self.token_file.exists() or self.token_file.read_text(encoding="utf-8") != token:
            write(self.token_file, token, 0o600)
        header = f"Authorization: Bearer {kept['gateway_token']}\n"
        if not self.header_file.exists() or self.header_file.read_text(encoding="utf-8") != header:
            write(self.header_file, header, 0o600)
        return kept

    def forget(self, *, everything: bool) -> None:
        """Forget what runs on the host; with ``everything`` also its former manifests and secrets. Logs stay."""
        patterns = ["manifest.json", "accepted.json", "rendered.json", "*evidence.json"]
        if everything:
            patterns += ["secrets.json", "token", "header", ".secrets.json.*", ".token.*", ".header.*"]
            patterns += ["manifests/*.json", "renderings/*.json"]
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                path.unlink()


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

    def host(self, name: str, *, lab: bool = False) -> HostState:
        """Give what is kept of one host; names are the inventory's, made safe for a file name."""
        return HostState((self.lab / "rigs" if lab else self.root / "hosts") / file_name(name))

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
        ours = ("hosts", "store", "keys", "busy", "lab/rigs", "lab/deploy.lock")
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


def _read(path: Path, kind: type[_Kept]) -> _Kept | None:
    try:
        return kind.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise AgentrigError(
            f"this file is not what deploy wrote: {error.error_count()} things are wrong in it",
            where=str(path),
            do="move it away; the next deploy up reads the host anew",
        ) from error
