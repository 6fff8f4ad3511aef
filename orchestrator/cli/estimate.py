"""``deploy estimate``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import PATH, catalog_for, show_json, verb

if TYPE_CHECKING:
    from pathlib import Path


@click.command("estimate")
@click.argument("llm", required=False)
@click.option("--runtime", metavar="R", help="vllm, sglang, llama_cpp, ollama, exllama, tensorrt_llm.")
@click.option("--gpu", "gpus", multiple=True, metavar="NAME[:MIB]", help="A card; once for each.")
@click.option("--context", type=click.IntRange(1), metavar="TOKENS", help="The window of one conversation.")
@click.option("--slots", type=click.IntRange(1), default=1, metavar="N", help="Conversations at once.")
@click.option("--quant", metavar="Q", help="How the weights are stored.")
@click.option("--kv-dtype", metavar="T", help="How the cache is stored.")
@click.option("--tp", "tensor", type=click.IntRange(1), metavar="N", help="Tensor parallel.")
@click.option("--pp", "pipeline", type=click.IntRange(1), metavar="N", help="Pipeline parallel.")
@click.option("--config", type=PATH, metavar="FILE", help="The llm's own config.json.")
@click.option("--weight-bytes", type=click.IntRange(1), metavar="N", help="Size of all weight files together.")
@click.option("--draft", metavar="LLM", help="A small LLM that drafts tokens; mtp: heads of its own.")
@click.option("--draft-quant", metavar="Q", help="How the drafting LLM's weights are stored.")
@click.option("--cases", type=PATH, metavar="FILE", help="Many, a JSON object a line.")
@click.option("--configs", type=PATH, metavar="DIR", help="With --cases: files {model, source, fields}.")
@verb
def command(
    llm: str | None,
    runtime: str | None,
    gpus: tuple[str, ...],
    context: int | None,
    slots: int,
    quant: str | None,
    kv_dtype: str | None,
    tensor: int | None,
    pipeline: int | None,
    config: Path | None,
    weight_bytes: int | None,
    draft: str | None,
    draft_quant: str | None,
    cases: Path | None,
    configs: Path | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Give the memory ledger of one named choice, or of many."""
    del verbose
    from orchestrator.line.estimating import EXIT_CODES, Named, estimate_file, estimate_named

    catalog = catalog_for(None)
    if cases is not None:
        for answer in estimate_file(cases, configs, catalog):
            click.echo(json.dumps(answer, ensure_ascii=False))
        return 0
    if llm is None or runtime is None or context is None or not gpus:
        raise click.UsageError("Say which LLM, --runtime, --gpu and --context, or give --cases.")
    named = Named(
        llm, runtime, gpus, context, slots, quant, kv_dtype, tensor, pipeline, config, weight_bytes, draft, draft_quant
    )
    answer = estimate_named(named, catalog)
    if as_json:
        show_json(answer)
    else:
        click.echo("\n".join(estimate_lines(llm, answer)))
    return EXIT_CODES[answer["verdict"]]


def estimate_lines(llm: str, answer: dict[str, Any]) -> list[str]:
    """Give an estimate as a person reads it."""
    words = {"fits": "fits", "wont_fit": "will not fit", "unknown": "unknown"}
    lines = [f"{llm}: {words[answer['verdict']]}" + (f" ({answer['confidence']})" if answer["confidence"] else "")]
    lines += [f"  {answer['reason']}"] if answer["reason"] else []
    for index, gpu in enumerate(answer["per_gpu"]):
        drafted = [] if gpu["draft_mib"] is None else ["draft"]
        parts = ["weights", *drafted, "kv", "compute", "reserve", "capacity"]
        shown = [f"{part} {'?' if gpu[f'{part}_mib'] is None else format(gpu[f'{part}_mib'], '.0f')}" for part in parts]
        lines.append(f"  GPU {index}: {', '.join(shown)} MiB")
    if answer["max_context_tokens"] is not None:
        lines.append(f"  the longest window that fits: {answer['max_context_tokens']} tokens")
    return lines
