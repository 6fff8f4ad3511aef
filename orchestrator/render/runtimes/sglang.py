"""SGLang's ``sglang serve``: a Deployment and its rows -> argv, environment, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.render.runtimes.shared import (
    CHAT_TEMPLATE,
    CREDENTIALS,
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
from orchestrator.render.runtimes.vllm import BASE_START_SECONDS, PACKAGES

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment

#: Values of ``--kv-cache-dtype`` at 0.5.23 under the planner's names; ``auto`` is the llm's own, of 16 bits.
KV_TYPES = {
    "auto": "auto",
    "f16": "auto",
    "float16": "auto",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp8": "fp8_e4m3",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
}
#: One machine, no hub; the workers of one host talk over its loopback.
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SGLANG_HOST_IP": "127.0.0.1",
    "TRANSFORMERS_OFFLINE": "1",
}
#: Options that carry the key: SGLang reads a YAML file of options, so it stands in no argument list.
OPTIONS = "sglang.yml"


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how SGLang is started; raises UsageError for a cache type that it lacks."""
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    return RuntimeParts(
        argv=(f"{RUNTIME_ARTEFACT}/bin/sglang", "serve", *_flags(deployment, row)),
        environment=ENVIRONMENT | gpu_environment(deployment),
        credentials={OPTIONS: f'api-key: "{RUNTIME_KEY}"\n'},
        files=chat_template(row, deployment.runtime),
        uses_gpus=bool(deployment.gpus),
        makes_code=True,
        needs_home=True,
        packages=PACKAGES,
        start_timeout_seconds=start_timeout(row.quant(deployment.quant).weights_bytes, BASE_START_SECONDS),
    )


def _flags(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    """Give the flags. Its prefix cache is on by itself; ``--mem-fraction-static`` is weights and cache together."""
    fraction = deployment.memory_fraction
    return (
        *("--model-path", LLM_ARTEFACT, "--load-format", "safetensors"),
        *("--served-model-name", deployment.served_name, "--context-length", str(deployment.context_tokens)),
        *("--tp-size", str(deployment.parallel.tensor), "--pp-size", str(deployment.parallel.pipeline)),
        *("--kv-cache-dtype", kv_type(deployment, KV_TYPES)),
        *(("--mem-fraction-static", f"{fraction:g}") if fraction is not None else ()),
        *("--max-running-requests", str(deployment.slots)),
        *_conversation(deployment, row),
        *("--enable-metrics", "--host", "127.0.0.1", "--port", str(deployment.runtime_port)),
        *("--config", f"{CREDENTIALS}/{OPTIONS}"),
    )


def _conversation(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    tools = row.tool_parser.get(deployment.runtime)
    reasoning = row.reasoning_parser.get(deployment.runtime)
    drafted = row.draft_tokens.get(deployment.runtime)
    return (
        *(("--tool-call-parser", tools) if tools else ()),
        *(("--reasoning-parser", reasoning) if reasoning else ()),
        *(("--chat-template", CHAT_TEMPLATE) if deployment.runtime in row.chat_template else ()),
        *(("--preferred-sampling-params", compact(row.sampling)) if row.sampling else ()),
        *(_drafting(drafted) if drafted else ()),
    )


def _drafting(tokens: int) -> tuple[str, ...]:
    """Give speculative decoding by the llm's own head: one chain of guesses, verified with the token before it."""
    return (
        *("--speculative-algorithm", "NEXTN", "--speculative-num-steps", str(tokens)),
        *("--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", str(tokens + 1)),
    )
