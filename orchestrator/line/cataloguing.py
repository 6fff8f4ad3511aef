"""``catalog add``: a repository of a hub becomes a row of the catalog, or is refused with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from orchestrator.catalog.loader import spelled
from orchestrator.catalog.rows import LlmRow
from orchestrator.errors import CatalogError, UsageError
from orchestrator.line.described import active_share, architecture, gguf_quant, quants, sampling
from orchestrator.lock.describe import describe
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.shape import Unknown
from orchestrator.plan.tensors import parameters
from orchestrator.state import write

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.catalog.rows import Catalog, LlmQuant
    from orchestrator.deployment import AgenticClass
    from orchestrator.lock.describe import Description
    from orchestrator.plan.shape import Shape
    from orchestrator.progress import Progress

#: Least of 10^9 weights -> the class that so many support, as operators report it. By size alone none is given a
#: higher one: long traces without a failed call have to be measured.
CLASSES: tuple[tuple[float, AgenticClass], ...] = ((24.0, "floor"), (12.0, "marginal"), (0.0, "completion"))
#: By so much may the weights that a configuration describes differ from those that the files hold: towers for
#: pictures and heads that draft are not of the llm's own layers.
NOT_OF_ITS_LAYERS = 0.25

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_LICENCES = {"apache-2.0": "Apache-2.0", "mit": "MIT"}
_FIRST_LINE = (
    "# Written by deploy catalog add. What a repository does not say may be added by hand: deploy catalog check\n"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What ``catalog add`` was asked for; ``folder`` lies beside the lock."""

    repository: str
    folder: Path
    revision: str = "main"
    name: str | None = None
    yes: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """A row that was written, and what was left out of it, each with why."""

    row: LlmRow
    file: Path
    commit: str
    left_out: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Give the document of ``catalog add``."""
        return {
            "added": {"name": self.row.name, "file": str(self.file), "revision": self.commit},
            "row": self.row.document(),
            "left_out": list(self.left_out),
        }


def add(asked: Asked, catalog: Catalog, progress: Progress) -> Added:
    """Read a repository and write its row; raises UsageError, CatalogError for one not understood, LockError."""
    name = _name(asked)
    file = asked.folder / f"{name}.yml"
    _refuse_taken(asked, name, file, catalog)
    described = describe(asked.repository, asked.revision, lambda path: gguf_quant(path, catalog) is not None, progress)
    row, left_out = row_of(described, name, catalog)
    write(file, row_text(row))
    return Added(row, file, described.commit, left_out)


def row_text(row: LlmRow) -> str:
    """Give a row as its file has it. Pure."""
    fields = row.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    return _FIRST_LINE + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


def row_of(described: Description, name: str, catalog: Catalog) -> tuple[LlmRow, tuple[str, ...]]:
    """Give the row of what a hub said, and what is left out of it. Pure; raises CatalogError with the reason."""
    if described.config is None:
        why = described.strange or "it has no config.json and no GGUF file in a quantisation of the catalog"
        raise _not_understood(described, why, "add the repository that the llm itself lies in")
    config = architecture(described.config)
    try:
        shape = shape_of(config)
        counted = parameters(shape)
    except Unknown as unknown:
        raise _not_understood(described, str(unknown), "choose an llm whose layers the planner knows") from unknown
    if not shape.window:
        raise _not_understood(described, "its window is not said (max_position_embeddings)", "name another repository")
    found, left_out = quants(described, catalog)
    if not found:
        raise _not_understood(described, "; ".join(left_out) or "it holds no weights", "see deploy catalog list quants")
    _weights_agree(described, counted, shape)
    return _row(described, name, config, shape, found), (*left_out, *_unsaid(described))


def _row(
    described: Description, name: str, config: dict[str, Any], shape: Shape, found: tuple[LlmQuant, ...]
) -> LlmRow:
    total = parameters(shape) / 1e9
    active = round(total * active_share(shape), 3) if shape.experts else None
    kind = next(kind for least, kind in CLASSES if total >= least)
    fields = {
        "name": name,
        "served_name": name,
        "repository": described.repository,
        "parameters": float(f"{total:.4g}"),
        "active_parameters": active,
        "licence": _LICENCES.get(described.licence or "", described.licence or "not stated"),
        "gated": described.gated,
        "agentic_class": kind,
        "evidence": f"not measured; by size: {total:.3g} billion weights",
        "max_context_tokens": shape.window,
        "config": config,
        "quants": found,
        "sampling": sampling(described.generation),
        "source": f"{described.config_from} of {described.repository} at {described.commit}",
    }
    try:
        return LlmRow.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise _not_understood(described, reason, "see the repository's config.json") from None


def _weights_agree(described: Description, counted: int, shape: Shape) -> None:
    """Refuse a configuration that describes other weights than the files hold, where their headers say how many."""
    held = [one.header.elements for one in described.packed]
    plain = described.plain
    if plain and plain.elements and set(plain.elements) <= {"BF16", "F16", "F32"}:
        held.append(sum(plain.elements.values()))
    if shape.vision is not None:
        return
    for one in held:
        if abs(one - counted) > NOT_OF_ITS_LAYERS * counted:
            what = f"its configuration describes {counted / 1e9:.3g} billion weights and its files hold {one / 1e9:.3g}"
            raise _not_understood(described, what, "see whether the repository's files are of one llm")


def _unsaid(described: Description) -> tuple[str, ...]:
    """Name what no repository says, or this one doesn't."""
    unsaid = ["tool_parser, reasoning_parser, chat_template: no file of a repository names them for a runtime"]
    if not described.licence:
        unsaid.append("licence: the repository states none")
    if not sampling(described.generation):
        unsaid.append("sampling: no generation_config.json says it")
    return tuple(unsaid)


def _not_understood(described: Description, why: str, do: str) -> CatalogError:
    return CatalogError(f"not added: {why}", where=f"hub:{described.repository}@{described.commit[:12]}", do=do)


def _name(asked: Asked) -> str:
    if not _REPOSITORY.fullmatch(asked.repository):
        raise UsageError(f"{asked.repository!r} is no repository", where="catalog add", do="write it as ORG/NAME")
    name = asked.name or asked.repository.split("/")[1].lower().removesuffix("-gguf")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a name", where="--name", do="use small letters, digits, dots, dashes, underscores"
        )
    return name


def _refuse_taken(asked: Asked, name: str, file: Path, catalog: Catalog) -> None:
    """Refuse a name that a row has, unless it is to be replaced; and a repository that another row answers to."""
    if (name in catalog.llms or file.exists()) and not asked.yes:
        raise UsageError(
            f"there is a row {name} already", where=str(file), do="add --yes to replace it, or --name another"
        )
    ours = {spelled(one) for one in (name, asked.repository, asked.repository.split("/")[1])}
    for row in catalog.llms.values():
        names = (row.name, row.served_name, row.repository, row.repository.split("/")[-1], *row.aliases)
        if row.name != name and ours & {spelled(one) for one in names}:
            raise UsageError(
                f"the row {row.name} answers to that already",
                where="catalog add",
                do=f"add --name {row.name} --yes to put yours before it",
            )
