"""vLLM's ``vllm serve``: a Deployment and its rows -> argv, environment, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.render.runtimes.shared import (
    CHAT_TEMPLATE,
    LLM_ARTEFACT,
    RUNTIME_ARTEFACT,
    RUNTIME_KEY,
    RuntimeParts,
    chat_template,
    compact,
    gpu_environment,
    kv_type,
    safe_weights,
    start_timeout,
)

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment

#: Values of ``--kv-cache-dtype`` under the planner's names; ``auto`` is the llm's own, of 16 bits.
KV_TYPES = {
    "auto": "auto",
    "f16": "auto",
    "float16": "auto",
    "bf16": "auto",
    "bfloat16": "auto",
    "fp8": "fp8",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
}
#: Triton compiles its launchers with the host's compiler, against the host's Python.
PACKAGES = ("gcc", "libc6-dev", "python3-dev")
#: Seconds before weights are read and after: imports, compiling, graphs (84 s were seen for a very small llm).
BASE_START_SECONDS = 600

#: One machine, no hub, no reports home; the workers of one host talk over its loopback.
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how vLLM is started; raises UsageError for a cache type that it lacks."""
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    return RuntimeParts(
        argv=(f"{RUNTIME_ARTEFACT}/bin/vllm", "serve", LLM_ARTEFACT, *_flags(deployment, row)),
        environment=ENVIRONMENT | gpu_environment(deployment),
        secret_environment={"VLLM_API_KEY": RUNTIME_KEY},
        files=chat_template(row, deployment.runtime),
        uses_gpus=bool(deployment.gpus),
        makes_code=True,
        needs_home=True,
        packages=PACKAGES,
        start_timeout_seconds=start_timeout(row.quant(deployment.quant).weights_bytes, BASE_START_SECONDS),
    )


def _flags(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    fraction = deployment.memory_fraction
    return (
        *("--load-format", "safetensors"),
        *("--served-model-name", deployment.served_name, "--max-model-len", str(deployment.context_tokens)),
        *("--tensor-parallel-size", str(deployment.parallel.tensor)),
        *("--pipeline-parallel-size", str(deployment.parallel.pipeline)),
        *("--kv-cache-dtype", kv_type(deployment, KV_TYPES)),
        *(("--gpu-memory-utilization", f"{fraction:g}") if fraction is not None else ()),
        *("--max-num-seqs", str(deployment.slots), "--enable-prefix-caching"),
        *_conversation(deployment, row),
        *("--host", "127.0.0.1", "--port", str(deployment.runtime_port)),
    )


def _conversation(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    tools = row.tool_parser.get(deployment.runtime)
    reasoning = row.reasoning_parser.get(deployment.runtime)
    template = deployment.runtime in row.chat_template
    drafted = row.draft_tokens.get(deployment.runtime)
    return (
        *(("--enable-auto-tool-choice", "--tool-call-parser", tools) if tools else ()),
        *(("--reasoning-parser", reasoning) if reasoning else ()),
        *(("--chat-template", CHAT_TEMPLATE) if template else ()),
        *(("--override-generation-config", compact(row.sampling)) if row.sampling else ()),
        *(("--speculative-config", compact({"method": "mtp", "num_speculative_tokens": drafted})) if drafted else ()),
    )
