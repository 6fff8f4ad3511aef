"""All that would be put on a host, as text: the outcome of ``render``."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from orchestrator.nouns import Noun, digest_of
from orchestrator.snapshot import Listener

ROOT = "/opt/agentrig"
CURRENT = f"{ROOT}/current"
STORE = f"{ROOT}/store"
RELEASES = f"{ROOT}/releases"
#: Link name of the image that containers for agents are made from.
SANDBOX_IMAGE = "sandbox-image"

_SECRET = re.compile(r"\{\{secret:([a-z0-9_-]+)\}\}")


class RenderedFile(Noun):
    """One file of a release: ``path`` relative to the release's folder, ``mode`` as ``0640``."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"

    @property
    def sha256(self) -> str:
        """Give the digest of the content with its placeholders still in it, 64 hex digits."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Give the names of the secrets that the content asks for, each once, sorted."""
        return tuple(sorted(set(_SECRET.findall(self.content))))

    def filled(self, secrets: dict[str, str]) -> str:
        """Give the content with each placeholder replaced; raises KeyError for a secret that is not given."""
        return _SECRET.sub(lambda match: secrets[match[1]], self.content)


class RenderedLink(Noun):
    """One symbolic link outside the release, an absolute path, pointing through ``current``."""

    path: str
    target: str


class RenderedUnit(Noun):
    """One systemd unit of ours, whose file is among the files as ``units/<name>``."""

    name: str
    enabled: bool = True
    active: bool = True


class RenderedUser(Noun):
    """One system user (and its group of the same name) of ours, with no shell and no home."""

    name: str
    groups: tuple[str, ...] = ()


class Rendered(Noun):
    """One host's rendering. ``artefacts`` are the link names it uses; ``packages`` the apt names it needs."""

    deployment_digest: str
    files: tuple[RenderedFile, ...]
    links: tuple[RenderedLink, ...] = ()
    units: tuple[RenderedUnit, ...] = ()
    users: tuple[RenderedUser, ...] = ()
    listeners: tuple[Listener, ...] = ()
    #: Tables of nftables, by family and name.
    tables: tuple[str, ...] = ()
    artefacts: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    #: Values for the roles, by variable name; each begins with its role's name.
    variables: dict[str, Any] = {}

    def release_id(self, artefact_keys: dict[str, str]) -> str:
        """Give the release's id, 16 hex digits: of the rendering and of this host's artefacts (link name -> key)."""
        return digest_of({"rendered": self.document(), "artefacts": artefact_keys})[:16]
