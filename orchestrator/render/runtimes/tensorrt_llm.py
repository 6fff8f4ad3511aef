"""TensorRT-LLM's ``trtllm-serve``: a Deployment and its rows -> argv, environment, and its YAML of options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.render.runtimes.shared import (
    CHAT_TEMPLATE,
    LLM_ARTEFACT,
    RUNTIME_ARTEFACT,
    RuntimeParts,
    chat_template,
    gpu_environment,
    kv_type,
    safe_weights,
    start_timeout,
)
from orchestrator.render.runtimes.vllm import BASE_START_SECONDS
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment

#: Values of ``kv_cache_config.dtype`` under the planner's names; ``auto`` is the llm's own, of 16 bits.
KV_TYPES = {
    "auto": "auto",
    "f16": "auto",
    "float16": "auto",
    "bf16": "auto",
    "bfloat16": "auto",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
}
OPTIONS = "runtime/trtllm.yml"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how trtllm-serve is started; raises UsageError for a cache type that it lacks.

    It takes no key: its port is the host's own, and the gateway asks for tokens.
    """
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    # JSON is YAML; trtllm-serve reads this file as YAML.
    options = json.dumps(_options(deployment, row), indent=2, sort_keys=True) + "\n"
    return RuntimeParts(
        argv=(f"{RUNTIME_ARTEFACT}/bin/trtllm-serve", "serve", LLM_ARTEFACT, *_flags(deployment, row)),
        environment=ENVIRONMENT | gpu_environment(deployment),
        files=(RenderedFile(path=OPTIONS, content=options), *chat_template(row, deployment.runtime)),
        uses_gpus=bool(deployment.gpus),
        makes_code=True,
        needs_home=True,
        start_timeout_seconds=start_timeout(row.quant(deployment.quant).weights_bytes, BASE_START_SECONDS),
    )


def _flags(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    tools = row.tool_parser.get(deployment.runtime)
    reasoning = row.reasoning_parser.get(deployment.runtime)
    fraction = deployment.memory_fraction
    return (
        *("--backend", "pytorch", "--max_seq_len", str(deployment.context_tokens)),
        *("--max_batch_size", str(deployment.slots)),
        *("--tp_size", str(deployment.parallel.tensor), "--pp_size", str(deployment.parallel.pipeline)),
        *(("--kv_cache_free_gpu_memory_fraction", f"{fraction:g}") if fraction is not None else ()),
        *(("--tool_parser", tools) if tools else ()),
        *(("--reasoning_parser", reasoning) if reasoning else ()),
        *(("--chat_template", CHAT_TEMPLATE) if deployment.runtime in row.chat_template else ()),
        *("--config", f"{CURRENT}/{OPTIONS}"),
        *("--host", "127.0.0.1", "--port", str(deployment.runtime_port)),
    )


def _options(deployment: Deployment, row: LlmRow) -> dict[str, Any]:
    """Give what only the YAML can say: the cache's type, the prefix cache, metrics, drafting."""
    cache = {"dtype": kv_type(deployment, KV_TYPES), "enable_block_reuse": True}
    drafted = row.draft_tokens.get(deployment.runtime)
    drafting = {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": drafted}} if drafted else {}
    return {"kv_cache_config": cache, "enable_iter_perf_stats": True, "trust_remote_code": False, **drafting}
