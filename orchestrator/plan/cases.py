"""Loads as lines of JSON: reads one, refuses one that carries a measurement, and gives the estimate for it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.loader import find_gpu
from orchestrator.errors import UsageError
from orchestrator.plan import constants as known
from orchestrator.plan.estimate import estimate
from orchestrator.plan.hardware import part_of_a_machine
from orchestrator.plan.known import Known, words
from orchestrator.plan.memory import LARGE_MIB, POOLED
from orchestrator.plan.request import Card, Estimate, EstimateRequest
from orchestrator.plan.shape import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.catalog.rows import Catalog, GpuRow
    from orchestrator.plan.shape import Shape

#: Keys that only a measurement has.
MEASURED = ("measured", "quote", "consistent", "answerable", "judged")

#: No card has so many GiB.
LARGEST_GIB = 1e6
#: No count, size or memory of a line is larger than this.
MOST = 10**15
#: What ``draft`` says of an llm that drafts with heads of its own (multi-token prediction).
HEAD = "mtp"
_SIZE = re.compile(r"([\d.]+)\s*(GiB|MiB|GB)", re.IGNORECASE)
_UNITS = {"gib": 1024.0, "mib": 1.0, "gb": 1000.0**3 / 1024**2}
_RUNTIMES = (
    ("ik_llama", "ik_llama_cpp"),
    ("llama", "llama_cpp"),
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("exl", "exllama"),
    ("tabby", "exllama"),
    ("ollama", "ollama"),
    ("tensorrt", "tensorrt_llm"),
    ("trt", "tensorrt_llm"),
)
_NAMED = tuple(dict.fromkeys(runtime for _, runtime in _RUNTIMES))


def knowledge(catalog: Catalog, configs: Mapping[str, Mapping[str, Any]]) -> Known:
    """Give what is known of llms' shapes: configurations by name, and the catalog's."""
    published = [(row.match, row.config) for row in catalog.shapes.values()]
    published += [((row.name, row.repository.rsplit("/", 1)[-1]), row.config) for row in catalog.llms.values()]
    return Known(configs, published)


def estimate_line(line: Mapping[str, Any], known_llms: Known, catalog: Catalog) -> dict[str, Any]:
    """Give the estimate of one line with its ``id``; raises UsageError for a line that carries a measurement."""
    carried = [key for key in MEASURED if key in line]
    if carried:
        raise UsageError(
            f"the line carries {carried[0]}, so it would be told its own answer",
            where=str(line.get("id", "")),
            do="print the lines with score.py inputs",
        )
    try:
        answer = estimate(_request(line, known_llms, catalog))
    except Unknown as unknown:
        answer = Estimate(verdict="unknown", reason=str(unknown))
    return {"id": line.get("id"), **answer.rounded()}


def estimate_cases(
    line: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]], catalog: Catalog
) -> dict[str, Any]:
    """Give the estimate of one line, with configurations by name as the files of ``--configs`` hold them."""
    return estimate_line(line, knowledge(catalog, configs), catalog)


def runtime_named(name: str) -> str:
    """Give the runtime that a log's name stands for; raises Unknown."""
    found = next((runtime for start, runtime in _RUNTIMES if name.casefold().startswith(start)), None)
    if found is None:
        raise Unknown(f"the runtime {name or 'with no name'} is not understood; choose one of {', '.join(_NAMED)}")
    return found


def _request(line: Mapping[str, Any], known_llms: Known, catalog: Catalog) -> EstimateRequest:
    model = str(line.get("model") or "")
    if not model.strip():
        raise Unknown("no llm is named; name it, or give its --config")
    runtime = runtime_named(str(line.get("runtime") or ""))
    pipeline, cards = _whole(line, "pp") or 1, _cards(line, catalog)
    _runs_on(runtime, line, catalog)
    tensor = _whole(line, "tp") or (max(1, len(cards) // pipeline) if runtime in POOLED else 1)
    both = line.get("kv_dtype")
    mla, flash = _whole(line, "mla_attn"), str(line.get("flash_attn", "1")).casefold() not in ("0", "off", "false")
    shape: Shape | Unknown
    try:
        shape = known_llms.shape(model, logged if isinstance(logged := line.get("arch"), dict) else {})
    except Unknown as unknown:
        shape = unknown
    quant = _name(line, "quant")
    asked = EstimateRequest(
        model=model,
        shape=shape,
        runtime=runtime,
        cards=cards,
        context=_whole(line, "n_ctx"),
        quant=quant,
        weight_bytes=_bytes(line),
        weight_mib_a_card=_figure(line, "checkpoint_mib_per_gpu", 1e9),
        slots=_whole(line, "slots") or 1,
        kv_key=str(line.get("kv_dtype_k") or both or "auto"),
        kv_value=str(line.get("kv_dtype_v") or both or "auto"),
        tensor=tensor,
        pipeline=pipeline,
        fraction=_figure(line, "gpu_memory_utilization", 1.0),
        version=_name(line, "runtime_version"),
        batch=_whole(line, "max_num_batched_tokens") or _whole(line, "n_ubatch"),
        requests=_whole(line, "max_num_seqs"),
        eager=str(line.get("enforce_eager") or "").casefold() in ("1", "true"),
        chunk=_whole(line, "chunked_prefill_size"),
        graph_requests=_whole(line, "cuda_graph_max_bs"),
        flash=flash,
        compressed=bool(mla) if mla is not None else flash,
        sliding_share=_figure(line, "swa_full_tokens_ratio", 1.0),
        offloaded=bool(line.get("partial_cpu_offload")),
        draft_head="mtp" in words(model) or line.get("draft") == HEAD,
        element=4.0 if quant and re.search("float32|fp32", str(quant)) else 2.0,
    )
    return replace(asked, draft=_draft(line, asked, known_llms))


def _draft(line: Mapping[str, Any], asked: EstimateRequest, known_llms: Known) -> EstimateRequest | None:
    """Give what is asked of a small llm that drafts tokens, None where none does; raises Unknown."""
    name = line.get("draft")
    if name is None or name == HEAD:
        return None
    if not isinstance(name, str) or not name.strip():
        raise Unknown(f"draft is {name!r}; name a small llm, or {HEAD} for the llm's own heads")
    shape: Shape | Unknown
    try:
        shape = known_llms.shape(name)
    except Unknown as unknown:
        shape = unknown
    return replace(
        asked,
        model=name,
        shape=shape,
        quant=_name(line, "draft_quant") or asked.quant,
        weight_bytes=_figure(line, "draft_weight_bytes", 1e15),
        weight_mib_a_card=None,
        draft_head=False,
    )


def _whole(line: Mapping[str, Any], key: str) -> int | None:
    """Give a whole number of a line, None where it is silent; raises Unknown for what is no number."""
    value = line.get(key)
    if value is None or value == "":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise Unknown(f"{key} is {value!r}, which is no number") from None
    if not 0 <= number <= MOST:
        raise Unknown(f"{key} is {number if number < 0 else 'beyond all bounds'}, which cannot be")
    return number


def _name(line: Mapping[str, Any], key: str) -> str | None:
    """Give a name of a line, None where it is silent; raises Unknown for what is neither a name nor a number."""
    value = line.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST:
        return str(value)
    raise Unknown(f"{key} is {value!r:.40}, which is no name")


def _figure(line: Mapping[str, Any], key: str, most: float) -> float | None:
    """Give a figure of a line, None where it is silent; raises Unknown for one that is not above 0, up to ``most``."""
    value = line.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise Unknown(f"{key} is {value!r}, which cannot be")
    return float(value)


def _bytes(line: Mapping[str, Any]) -> float | None:
    """Give the bytes of the weight files where the line says their size."""
    for key in ("weight_bytes", "model_size", "quant"):
        value = line.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not 0 < value <= MOST:
                raise Unknown(f"{key} is no size in bytes that files have")
            return float(value)
        text = str(value or "")
        found = _SIZE.search(text)
        if found and (key == "model_size" or "file" in text):
            return float(found.group(1)) * _UNITS[found.group(2).lower()] * 1024**2
    return None


def _cards(line: Mapping[str, Any], catalog: Catalog) -> tuple[Card, ...]:
    given = line.get("gpus")
    names = [str(name) for name in given] if isinstance(given, list) else []
    totals, free = _each(line.get("gpu_total_gib"), len(names)), _each(line.get("gpu_free_gib"), len(names))
    return tuple(_card(name, total, spare, catalog) for name, total, spare in zip(names, totals, free, strict=True))


def _runs_on(runtime: str, line: Mapping[str, Any], catalog: Catalog) -> None:
    """Refuse cards of a vendor that the runtime does not drive; raises Unknown."""
    row = catalog.runtimes.get(runtime)
    given = line.get("gpus")
    for name in given if row and isinstance(given, list) else []:
        card = _row(str(name), catalog)
        if row and card and card.vendor not in row.devices:
            raise Unknown(f"{row.title} does not run on {card.name}; change --runtime or --gpu")


def _row(name: str, catalog: Catalog) -> GpuRow | None:
    plain = _plain(name)
    return find_gpu(catalog, plain) or find_gpu(catalog, re.sub(r"[\s-]*\d+\s*GB$", "", plain))


def _plain(name: str) -> str:
    return re.sub(r"\s*\(.*\)", "", name).strip()


def _each(value: Any, count: int) -> list[float | None]:
    """Give one figure in MiB a card, from one in GiB for all or a list of them."""
    given = value if isinstance(value, list) else [value] * count
    figures = [
        1024.0 * one if isinstance(one, (int, float)) and 0 < one < LARGEST_GIB else None for one in given[:count]
    ]
    return [*figures, *[None] * (count - len(figures))]


def _card(name: str, total: float | None, free: float | None, catalog: Catalog) -> Card:
    row = _row(name, catalog)
    size = _SIZE.search(name)
    said = float(size.group(1)) * _UNITS[size.group(2).lower()] if size and size.group(2).lower() != "gb" else None
    if total is None:
        total = said
    if total is None and row is not None:
        total = row.vram_mib * known.VISIBLE_SHARE.value
    if total is None and size is not None:
        total = float(size.group(1)) * 1024 * known.VISIBLE_SHARE.value
    unified = part_of_a_machine(row.vendor if row else "", name)
    large = total is not None and total >= LARGE_MIB and "A100" not in name and not unified
    return Card(
        name=_plain(name),
        total_mib=total,
        free_mib=free,
        fabric=bool(row and row.nvlink),
        large=large,
        unified=unified,
        vendor=row.vendor if row else "nvidia",
        remote=bool(re.search(r"\bRPC", name)),
    )
