"""TabbyAPI with ExLlamaV3, or V2 for llms in its format: a Deployment and its rows -> config.yml and what it reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.render.runtimes.shared import (
    CREDENTIALS,
    HOME,
    LLM_ARTEFACT,
    RUNTIME_ARTEFACT,
    RUNTIME_KEY,
    RuntimeParts,
    gpu_environment,
    kv_type,
    safe_weights,
    start_timeout,
)
from orchestrator.render.runtimes.vllm import PACKAGES
from orchestrator.render.texts import verbatim
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment

#: ``cache_mode`` of ExLlamaV3 under the planner's names: FP16, or bits of keys and of values.
V3_KV_TYPES = {
    "auto": "FP16", "f16": "FP16", "fp16": "FP16", "float16": "FP16", "bfloat16": "FP16",
    "q8": "8,8", "q6": "6,6", "q4": "4,4", "k4v8": "4,8", "k8v4": "8,4",
}  # fmt: skip
#: The same of ExLlamaV2.
V2_KV_TYPES = {
    "auto": "FP16", "f16": "FP16", "fp16": "FP16", "float16": "FP16", "bfloat16": "FP16",
    "q8": "Q8", "q6": "Q6", "q4": "Q4",
}  # fmt: skip
#: The cache is counted in pages of so many tokens (TabbyAPI's configuration: ``cache_size``).
PAGE_TOKENS = 256
#: The name under which our sampling preset and chat template are found.
PRESET = "agentrig"
CONFIG = "runtime/tabbyapi.yml"
KEYS = "api_tokens.yml"
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "TRANSFORMERS_OFFLINE": "1"}


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how TabbyAPI is started; raises UsageError for a cache type that its backend lacks.

    It looks for keys, presets and templates in the folder that it is started in, so links to ours lie in its home.
    The name it serves is the name of the llm's folder: that is a link too.
    """
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    files = [_yaml(CONFIG, _config(deployment, row, catalog))]
    links = {f"{HOME}/{KEYS}": f"{CREDENTIALS}/{KEYS}", f"{HOME}/llms/{deployment.served_name}": LLM_ARTEFACT}
    if row.sampling:
        preset = {name: {"override": value, "force": False} for name, value in sorted(row.sampling.items())}
        files.append(_yaml(f"runtime/sampler_overrides/{PRESET}.yml", preset))
        links[f"{HOME}/sampler_overrides"] = f"{CURRENT}/runtime/sampler_overrides"
    if template := row.chat_template.get(deployment.runtime):
        path = f"runtime/templates/{PRESET}.jinja"
        files.append(RenderedFile(path=path, content=verbatim(f"runtimes/{template}")))
        links[f"{HOME}/templates"] = f"{CURRENT}/runtime/templates"
    return RuntimeParts(
        argv=(
            *(f"{RUNTIME_ARTEFACT}/bin/python", f"{RUNTIME_ARTEFACT}/tabbyapi/main.py"),
            *("--config", f"{CURRENT}/{CONFIG}"),
        ),
        environment=ENVIRONMENT | gpu_environment(deployment),
        credentials={KEYS: f'api_key: "{RUNTIME_KEY}"\nadmin_key: "{RUNTIME_KEY}"\n'},
        files=tuple(files),
        uses_gpus=True,
        makes_code=True,
        needs_home=True,
        packages=PACKAGES,
        working_directory=HOME,
        before=(
            ("/usr/bin/mkdir", "-p", f"{HOME}/llms"),
            *(("/usr/bin/ln", "-sfnT", target, path) for path, target in links.items()),
        ),
        start_timeout_seconds=start_timeout(row.quant(deployment.quant).weights_bytes),
    )


def _config(deployment: Deployment, row: LlmRow, catalog: Catalog) -> dict[str, Any]:
    quant = catalog.quants.get(deployment.quant)
    second = quant is not None and quant.format == "exl2"
    pages = -(-deployment.context_tokens * deployment.slots // PAGE_TOKENS)
    llm: dict[str, Any] = {
        "model_dir": f"{HOME}/llms",
        "model_name": deployment.served_name,
        "backend": "exllamav2" if second else "exllamav3",
        "max_seq_len": deployment.context_tokens,
        "cache_size": pages * PAGE_TOKENS,
        "cache_mode": kv_type(deployment, V2_KV_TYPES if second else V3_KV_TYPES),
        "max_batch_size": deployment.slots,
        "tensor_parallel": deployment.parallel.tensor > 1,
        "inline_model_loading": False,
    }
    if tools := row.tool_parser.get(deployment.runtime):
        llm["tool_format"] = tools
    if deployment.runtime in row.reasoning_parser:
        llm["reasoning"] = True
    if deployment.runtime in row.chat_template:
        llm["prompt_template"] = PRESET
    config: dict[str, Any] = {
        "network": {
            "host": "127.0.0.1",
            "port": deployment.runtime_port,
            "disable_auth": False,
            "disable_fetch_requests": True,
            "send_tracebacks": False,
            "api_servers": ["oai"],
        },
        "logging": {"log_prompt": False, "log_generation_params": False, "log_requests": False},
        "model": llm,
    }
    if row.sampling:
        config["sampling"] = {"override_preset": PRESET}
    if drafted := row.draft_tokens.get(deployment.runtime):
        config["draft_model"] = {"draft_mode": "mtp", "draft_num_tokens": drafted}
    return config


def _yaml(path: str, document: dict[str, Any]) -> RenderedFile:
    """Give a file of values: JSON, which every reader of YAML reads."""
    return RenderedFile(path=path, content=json.dumps(document, indent=2) + "\n")
