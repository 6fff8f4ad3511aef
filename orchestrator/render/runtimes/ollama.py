"""Ollama: a Deployment and its rows -> argv, environment, a Modelfile, and the import of the llm's own file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import CatalogError
from orchestrator.render.runtimes.shared import (
    HOME,
    RUNTIME_ARTEFACT,
    RuntimeParts,
    gpu_environment,
    kv_type,
    one_file,
    safe_weights,
    start_timeout,
)
from orchestrator.render.texts import verbatim
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment

#: Values of ``OLLAMA_KV_CACHE_TYPE`` under the planner's names (its documentation at 0.33).
KV_TYPES = {"auto": "f16", "f16": "f16", "float16": "f16", "q8_0": "q8_0", "q4_0": "q4_0"}
#: Sampling keys of an llm's row -> parameters of a Modelfile.
SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
#: Go's templates, which Ollama reads; another kind is not written for it.
TEMPLATES = ".gotmpl"
MODELFILE = "runtime/Modelfile"
IMPORTER = "runtime/ollama-import"
#: Where the endpoints of both wire forms cut a prompt is decided by this and the Modelfile; both are set.
WINDOW = "OLLAMA_CONTEXT_LENGTH"


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how Ollama is started and given its llm; raises UsageError for a cache type that it lacks.

    Raises CatalogError for weights in parts and for a chat template that is not Go's. It takes no key: its port is
    the host's own, and the gateway asks for tokens. It has no metrics.
    """
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    weights = one_file(row, deployment.quant)
    seconds = start_timeout(row.quant(deployment.quant).weights_bytes)
    importer = RenderedFile(path=IMPORTER, content=verbatim("runtimes/ollama_import.py"), mode="0755")
    address = f"127.0.0.1:{deployment.runtime_port}"
    return RuntimeParts(
        argv=(f"{RUNTIME_ARTEFACT}/bin/ollama", "serve"),
        environment=_environment(deployment, address, seconds) | gpu_environment(deployment),
        files=(importer, RenderedFile(path=MODELFILE, content=modelfile(deployment, row, weights))),
        uses_gpus=bool(deployment.gpus),
        makes_code=bool(deployment.gpus),
        needs_home=True,
        packages=("python3",),
        after=(
            (
                *("/usr/bin/python3", "-I", "-B", f"{CURRENT}/{IMPORTER}"),
                *(f"http://{address}", deployment.served_name, f"{CURRENT}/{MODELFILE}", f"{HOME}/llms"),
            ),
        ),
        start_timeout_seconds=seconds,
    )


def _environment(deployment: Deployment, address: str, seconds: int) -> dict[str, str]:
    word = kv_type(deployment, KV_TYPES)
    spread = {"OLLAMA_SCHED_SPREAD": "1"} if len(deployment.gpus) > 1 else {}
    return {
        "OLLAMA_HOST": address,
        "OLLAMA_MODELS": f"{HOME}/llms",
        WINDOW: str(deployment.context_tokens),
        "OLLAMA_NUM_PARALLEL": str(deployment.slots),
        "OLLAMA_KV_CACHE_TYPE": word,
        # A cache of fewer than 16 bits needs it (Ollama's documentation).
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_LOAD_TIMEOUT": f"{seconds}s",
        "OLLAMA_NOHISTORY": "1",
        "OLLAMA_NOPRUNE": "1",
        **spread,
    }


def modelfile(deployment: Deployment, row: LlmRow, weights: str) -> str:
    """Give the Modelfile: the llm's own file, its window, its sampling; raises CatalogError for a foreign template."""
    lines = [f"FROM {weights}", f"PARAMETER num_ctx {deployment.context_tokens}"]
    lines += [f"PARAMETER {word} {row.sampling[key]:g}" for key, word in SAMPLING.items() if key in row.sampling]
    if name := row.chat_template.get(deployment.runtime):
        if not name.endswith(TEMPLATES):
            raise CatalogError(
                f"{row.name} sets the chat template {name}, and Ollama reads Go's templates only",
                where="catalog/llms",
                do=f"name one that ends in {TEMPLATES} for ollama in the row, or choose llama_cpp",
            )
        lines.append(f'TEMPLATE """{verbatim(f"runtimes/{name}")}"""')
    return "\n".join(lines) + "\n"
