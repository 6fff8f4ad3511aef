"""What is kept of one host: its manifests, its releases, evidence and secrets. Files are written whole."""

from __future__ import annotations

import hashlib
import json
import os
import secrets as random
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from orchestrator.errors import AgentrigError
from orchestrator.evidence import Evidence
from orchestrator.lockfile import HostLock
from orchestrator.manifest import Manifest
from orchestrator.nouns import Noun
from orchestrator.releases import fold
from orchestrator.rendered import Rendered

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_Kept = TypeVar("_Kept", bound="Noun")

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


class Accepted(Noun):
    """A release that was accepted: its place in the order of acceptances, and what was measured then."""

    order: int
    manifest: Manifest
    evidence: Evidence


class Left(Noun):
    """The release that a roll-back left, why in words, and when (ISO 8601, UTC)."""

    release: str
    why: str
    when: str


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
    def attestation_file(self) -> Path:
        """Give the file with the signed statement of the release that was accepted last."""
        return self.folder / "attestation.json"

    def keep_attestation(self, release: str, text: str) -> None:
        """Keep the signed statement of an accepted release, as that release's and as the last one."""
        write(self.folder / "attestations" / f"{release}.json", text)
        write(self.attestation_file, text)

    @property
    def work(self) -> Path:
        """Give the folder where apply works and keeps its logs."""
        return self.folder / "work"

    def manifest(self) -> Manifest | None:
        """Give the manifest of what was last put on the host, or None."""
        return _read(self.folder / "manifest.json", Manifest)

    def manifests(self) -> tuple[Manifest, ...]:
        """Give all that the host has had, oldest first, what was swept away as one: what ``down`` goes by."""
        swept = _read(self.folder / "swept.json", Manifest)
        return (*([swept] if swept else []), *self.releases())

    def releases(self) -> tuple[Manifest, ...]:
        """Give the manifests of the releases that may still be on the host, the one put there last at the end."""
        found = sorted((self.folder / "manifests").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return tuple(manifest for path in found if (manifest := _read(path, Manifest)))

    def accepted(self) -> Manifest | None:
        """Give the manifest of the release that was last accepted, or None."""
        return _read(self.folder / "accepted.json", Manifest)

    def rendered(self) -> Rendered | None:
        """Give the rendering that the present manifest was declared from, its placeholders in place, or None."""
        return _read(self.folder / "rendered.json", Rendered)

    def filled_digests(self, release: str = "") -> dict[str, str]:
        """Give, for each file with secrets, the digest of its filled content -> the digest with placeholders.

        Of the present release, or of a former one.
        """
        kept = self.folder / "renderings" / f"{release}.json"
        rendered, secrets = _read(kept, Rendered) if release else self.rendered(), self.secrets()
        with_secrets = [file for file in rendered.files if file.secrets] if rendered else []
        return {hashlib.sha256(file.filled(secrets).encode()).hexdigest(): file.sha256 for file in with_secrets}

    def keep_manifest(self, manifest: Manifest, rendered: Rendered, locked: HostLock) -> None:
        """Keep a manifest as the host's present one, and among all it has had, with its rendering and decision."""
        write(self.folder / "locked" / f"{manifest.release}.json", locked.to_json())
        self._keep_present(manifest, rendered)

    def _keep_present(self, manifest: Manifest, rendered: Rendered) -> None:
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

    def locked(self) -> HostLock | None:
        """Give the decision that the present release was made with; a later lock may hold another. None if unknown."""
        manifest = self.manifest()
        return _read(self.folder / "locked" / f"{manifest.release}.json", HostLock) if manifest else None

    def locked_of(self, release: str) -> HostLock | None:
        """Give the decision that a release was made with, or None."""
        return _read(self.folder / "locked" / f"{release}.json", HostLock)

    def accepted_releases(self) -> tuple[Accepted, ...]:
        """Give every accepted release that is kept, in the order of their last acceptance."""
        found = [_read(path, Accepted) for path in (self.folder / "accepted").glob("*.json")]
        return tuple(sorted((one for one in found if one), key=lambda one: one.order))

    def left(self) -> Left | None:
        """Give the release that a roll-back left and why, until another is accepted; or None."""
        return _read(self.folder / "left.json", Left)

    def return_to(self, manifest: Manifest, *, left: str, why: str) -> None:
        """Make a former release the present one again, with its rendering and its evidence; keep what was left."""
        rendered = _read(self.folder / "renderings" / f"{manifest.release}.json", Rendered)
        if left != manifest.release:
            now = datetime.now(tz=UTC).isoformat(timespec="seconds")
            write(self.folder / "left.json", Left(release=left, why=why, when=now).to_json())
        if rendered:
            self._keep_present(manifest, rendered)
        kept = _read(self.folder / "accepted" / f"{manifest.release}.json", Accepted)
        evidence = kept.evidence if kept else _read(self.folder / "accepted-evidence.json", Evidence)
        if evidence and evidence.deployment_id == manifest.release:
            write(self.folder / "accepted.json", manifest.to_json())
            write(self.folder / "accepted-evidence.json", evidence.to_json())
            self.keep_evidence(evidence)
        attested = self.folder / "attestations" / f"{manifest.release}.json"
        if attested.exists():
            write(self.attestation_file, attested.read_text(encoding="utf-8"))

    def keep_accepted(self, manifest: Manifest, evidence: Evidence) -> None:
        """Keep a release that was accepted, and its evidence, as the last one: where a roll-back goes."""
        order = max((one.order for one in self.accepted_releases()), default=0) + 1
        kept = Accepted(order=order, manifest=manifest, evidence=evidence)
        write(self.folder / "accepted" / f"{manifest.release}.json", kept.to_json())
        write(self.folder / "accepted.json", manifest.to_json())
        write(self.folder / "accepted-evidence.json", evidence.to_json())
        (self.folder / "left.json").unlink(missing_ok=True)

    def forget_release(self, manifest: Manifest) -> None:
        """Forget a release that went away from the host, but for what ``down`` must know of it."""
        swept = fold(_read(self.folder / "swept.json", Manifest), manifest)
        write(self.folder / "swept.json", swept.to_json())
        for folder in ("manifests", "renderings", "locked", "accepted", "attestations", "work/releases"):
            (self.folder / folder / f"{manifest.release}.json").unlink(missing_ok=True)

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
        patterns = [
            "manifest.json",
            "accepted.json",
            "rendered.json",
            "left.json",
            "*evidence.json",
            "attestation.json",
        ]
        if everything:
            patterns += ["secrets.json", "token", "header", ".secrets.json.*", ".token.*", ".header.*"]
            patterns += ["swept.json", "manifests/*.json", "renderings/*.json", "locked/*.json", "accepted/*.json"]
            patterns += ["attestations/*.json"]
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                path.unlink()


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
