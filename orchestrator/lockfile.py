"""Every artefact of every host by digest, and the decision that asked for it: ``deploy.lock``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from orchestrator.deployment import Deployment, StandIn
from orchestrator.nouns import Noun, digest_of

#: file: one file (weights, a release binary's archive member). tree: built on the host from parts (venv, npm).
#: folder: its parts, each under its filename (weights in several files).
ArtefactKind = Literal["deb", "wheel", "npm", "file", "binary", "image", "collection", "venv", "npm_tree", "folder"]

#: Kinds that are not fetched but made from their parts, on the host or (an image) here.
BUILT_KINDS = ("venv", "npm_tree", "folder", "image")


class Artefact(Noun):
    """One artefact. ``digest`` is ``sha256:<64 hex>``; null where it could not be read, and then ``why`` says so.

    For a built tree ``digest`` is its key, known before building (decision 4). ``source`` says where it came from
    in the registry's own terms (``pypi:xllamacpp==1.0``, ``apt:bookworm nginx=1.22.1-9``, ``hub:org/name@rev/file``).
    """

    kind: ArtefactKind
    name: str
    version: str
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    bytes: int | None = Field(default=None, ge=0)
    source: str
    #: The file's own name, as it must lie on the host (a wheel's name is part of what pip reads).
    filename: str = ""
    #: The member of an archive that is meant (a weight file in a wheel): ``digest`` is the member's.
    member_of: str | None = None
    #: Ids of the artefacts that a built tree is made of.
    parts: tuple[str, ...] = ()
    #: For an npm_tree: folder in the tree -> id of the part that is unpacked there.
    places: dict[str, str] = {}
    #: For an npm_tree: path of a command in the tree -> the program that it is a link to.
    commands: dict[str, str] = {}
    why: str | None = None

    @property
    def id(self) -> str:
        """Give the name by which the lock refers to the artefact: kind, name, version, digest's head."""
        head = (self.digest or "sha256:unresolved").removeprefix("sha256:")[:12]
        return f"{self.kind}/{self.name}/{self.version}/{head}"

    @property
    def key(self) -> str:
        """Give the artefact's folder in a host's store: 64 hex digits. Raises ValueError where unresolved."""
        if self.digest is None:
            message = f"{self.name} {self.version} is not resolved: {self.why}"
            raise ValueError(message)
        return self.digest.removeprefix("sha256:")

    @model_validator(mode="after")
    def _says_why(self) -> Artefact:
        if self.digest is None and not self.why:
            message = f"{self.kind} {self.name}: digest is null and nothing says why"
            raise ValueError(message)
        return self


class PackageChange(Noun):
    """One package of the host that the closure upgrades: told before it is done, never undone."""

    name: str
    before: str
    after: str


class HostLock(Noun):
    """One host's decision and what it uses of the artefacts."""

    profile_digest: str
    hardware_digest: str
    deployment: Deployment
    #: What a rehearsal runs instead (decision 13); None on a real host.
    rehearsal: Deployment | None = None
    stand_ins: tuple[StandIn, ...] = ()
    #: Link name under ``current/artefacts/`` -> artefact id (``runtime`` -> a venv, ``llm`` -> a file).
    links: dict[str, str] = {}
    #: Ids of the .debs to install, the whole closure for this host as it was when locked.
    debs: tuple[str, ...] = ()
    #: Packages asked for by name; the rest of ``debs`` is their closure.
    packages: tuple[str, ...] = ()
    upgrades: tuple[PackageChange, ...] = ()
    #: The host's own packages that ``debs`` depend on: without one of them the closure must be resolved again.
    leans_on: tuple[str, ...] = ()
    #: Ids of what the real deployment would use where a rehearsal is applied: locked, not fetched, not linked.
    asked: tuple[str, ...] = ()

    @property
    def applied(self) -> Deployment:
        """Give the deployment that is really put on the host."""
        return self.rehearsal or self.deployment


class Lock(Noun):
    """The whole lock. ``hosts`` by name; ``artefacts`` sorted by id, each once."""

    version: Literal[1] = 1
    agentrig: str
    #: Digest of the agentrig that made it; None in a lock of one that did not say it yet.
    agentrig_digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    hosts: dict[str, HostLock] = {}
    artefacts: tuple[Artefact, ...] = ()

    def document(self) -> dict[str, Any]:
        """Give the lock as plain JSON types; one that does not say agentrig's digest keeps its form and its own."""
        document = super().document()
        if self.agentrig_digest is None:
            del document["agentrig_digest"]
        return document

    def by_id(self) -> dict[str, Artefact]:
        """Give the artefacts by their ids."""
        return {artefact.id: artefact for artefact in self.artefacts}

    def artefacts_of(self, host: str) -> tuple[Artefact, ...]:
        """Give all that one host uses, parts of built trees included, sorted by id."""
        known, wanted = self.by_id(), [*self.hosts[host].links.values(), *self.hosts[host].debs]
        seen: dict[str, Artefact] = {}
        while wanted:
            artefact = known[wanted.pop()]
            if artefact.id not in seen:
                seen[artefact.id] = artefact
                wanted.extend(artefact.parts)
        return tuple(seen[name] for name in sorted(seen))

    @property
    def lock_digest(self) -> str:
        """Give ``sha256:`` and the digest of the lock's canonical form."""
        return "sha256:" + digest_of(self.document())
