"""``estimate``: the ledger of one named choice, or of many that come as lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.loader import llm as llm_named
from orchestrator.errors import EXIT_DONE, EXIT_NO_FIT, EXIT_USAGE, CatalogError, UsageError
from orchestrator.plan import parse_gpu
from orchestrator.plan.cases import estimate_line, knowledge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orchestrator.catalog.rows import Catalog

#: Verdict -> exit code of the contract.
EXIT_CODES = {"fits": EXIT_DONE, "wont_fit": EXIT_NO_FIT, "unknown": EXIT_USAGE}


@dataclass(frozen=True, slots=True)
class Named:
    """One named choice. ``context`` in tokens for each slot, ``weight_bytes`` of all weight files together."""

    llm: str
    runtime: str
    gpus: tuple[str, ...]
    context: int | None
    slots: int = 1
    quant: str | None = None
    kv_dtype: str | None = None
    tensor: int | None = None
    pipeline: int | None = None
    config: Path | None = None
    weight_bytes: int | None = None
    draft: str | None = None
    draft_quant: str | None = None


def estimate_named(named: Named, catalog: Catalog) -> dict[str, Any]:
    """Give the estimate of one choice; raises UsageError for an llm or card that nobody has heard of."""
    line: dict[str, Any] = {
        "model": named.llm,
        "runtime": named.runtime,
        "n_ctx": named.context,
        "slots": named.slots,
        "quant": named.quant,
        "kv_dtype": named.kv_dtype,
        "tp": named.tensor,
        "pp": named.pipeline,
        "weight_bytes": named.weight_bytes,
        "draft": named.draft,
        "draft_quant": named.draft_quant,
        **_cards(named.gpus, catalog),
    }
    configs: dict[str, Mapping[str, Any]] = {}
    if named.config is not None:
        configs[named.llm] = _object(named.config, _text(named.config))
    else:
        line |= _from_catalog(named, catalog)
    known = {key: value for key, value in line.items() if value is not None}
    answer = estimate_line(known, knowledge(catalog, configs), catalog)
    del answer["id"]
    return answer


def _cards(gpus: tuple[str, ...], catalog: Catalog) -> dict[str, Any]:
    cards = [parse_gpu(text, catalog, index) for index, text in enumerate(gpus)]
    given = [card.vram_mib / 1024 if ":" in text else None for text, card in zip(gpus, cards, strict=True)]
    return {"gpus": [card.name for card in cards], "gpu_total_gib": given}


def _from_catalog(named: Named, catalog: Catalog) -> dict[str, Any]:
    """Give what the catalog knows of the llm: its own name, and the size of its files in that quantisation."""
    try:
        row = llm_named(catalog, named.llm)
    except CatalogError:
        return {}
    if named.weight_bytes is None and named.quant in {one.quant for one in row.quants}:
        return {"model": row.name, "weight_bytes": row.quant(named.quant or "").weights_bytes}
    return {"model": row.name}


def estimate_file(cases: Path, configs: Path | None, catalog: Catalog) -> Iterator[dict[str, Any]]:
    """Give the estimate of each line; raises UsageError for a line that is no object, or carries a measurement."""
    known = knowledge(catalog, _configurations(configs) if configs else {})
    for number, text in enumerate(_text(cases).split("\n"), 1):
        if text.strip():
            yield estimate_line(_object(cases, text, number), known, catalog)


def _configurations(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read the configurations of a folder, each ``{model, source, fields}``; others are left out."""
    if not folder.is_dir():
        raise UsageError(
            "there is no such folder", where=str(folder), do="give the folder that holds the configurations"
        )
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(_text(path))
        except json.JSONDecodeError as error:
            raise UsageError(
                f"not JSON: {error}", where=str(path), do="mend it, or take it out of the folder"
            ) from error
        if isinstance(document, dict) and isinstance(document.get("fields"), dict) and document.get("model"):
            found[str(document["model"])] = document["fields"]
    return found


def _text(path: Path) -> str:
    """Read a file that a person named; raises UsageError for a folder, and for what is no text."""
    if path.is_dir():
        raise UsageError("it is a folder", where=str(path), do="give a file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("it is no text in UTF-8", where=str(path), do="give a file of text") from error


def _object(path: Path, text: str, line: int = 1) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error}", where=f"{path}, line {line}", do="give one object") from error
    if not isinstance(document, dict):
        raise UsageError("not a JSON object", where=f"{path}, line {line}", do="give one object")
    return document
