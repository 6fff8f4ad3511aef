"""Hand-written values from which the tests of rendering build: two deployments and the rows they name."""

from __future__ import annotations

from orchestrator.catalog.rows import Catalog, Install, LlmQuant, LlmRow, RuntimeRow, WeightFile, WireForm
from orchestrator.deployment import Deployment, Parallel

SPOKEN = WireForm(spoken=True)


def runtime_row(name: str, **other: object) -> RuntimeRow:
    values: dict[str, object] = {
        "name": name,
        "title": name,
        "version": "1",
        "install": Install(kind="venv"),
        "formats": ("gguf", "safetensors"),
        "devices": ("cpu", "nvidia"),
        "openai": SPOKEN,
        "anthropic": SPOKEN,
        "licence": "MIT",
        "source": "hand-written",
    }
    return RuntimeRow.model_validate(values | other)


def llm_row(name: str, quant: str, member: str, **other: object) -> LlmRow:
    values: dict[str, object] = {
        "name": name,
        "served_name": name,
        "repository": f"org/{name}",
        "parameters": 1.0,
        "licence": "Apache-2.0",
        "agentic_class": "floor",
        "evidence": "hand-written",
        "max_context_tokens": 262144,
        "config": {},
        "quants": (
            LlmQuant(
                quant=quant,
                weights_bytes=1000 * 2**20,
                files=(WeightFile(origin="hub", repository=f"org/{name}", member=member),),
                source="hand-written",
            ),
        ),
        "source": "hand-written",
    }
    return LlmRow.model_validate(values | other)


CATALOG = Catalog(
    gpus={},
    quants={},
    profiles={},
    runtimes={
        "xllamacpp": runtime_row("xllamacpp"),
        "llama_cpp": runtime_row("llama_cpp", install=Install(kind="binary")),
        "vllm": runtime_row("vllm"),
        "ollama": runtime_row("ollama"),
    },
    llms={
        "tiny": llm_row(
            "tiny",
            "Q4_1",
            "folder/tiny.Q4_1.gguf",
            chat_template={"xllamacpp": "smollm2-tools.jinja"},
            sampling={"temperature": 0.0},
        ),
        "big": llm_row(
            "big",
            "AWQ-INT4",
            "*.safetensors",
            tool_parser={"vllm": "hermes"},
            reasoning_parser={"vllm": "qwen3"},
            sampling={"temperature": 0.6, "top_p": 0.95},
        ),
        "parted": llm_row("parted", "Q4_K_M", "parted-Q4_K_M-*.gguf"),
    },
)

CPU = Deployment(
    host="bench",
    profile="cpu",
    llm="tiny",
    served_name="tiny",
    quant="Q4_1",
    runtime="xllamacpp",
    context_tokens=8192,
    kv_dtype="f16",
    threads=1,
    output_tokens=1024,
    agentic_class="demonstration",
    ledger=(),
    confidence="exact",
    reasons=("the only one that fits",),
)

DUAL = CPU.model_copy(
    update={
        "profile": "dual-3090",
        "llm": "big",
        "served_name": "big",
        "quant": "AWQ-INT4",
        "runtime": "vllm",
        "gpus": ("00000000:01:00.0", "00000000:02:00.0"),
        "gpu_indices": (0, 1),
        "parallel": Parallel(tensor=2),
        "context_tokens": 65536,
        "kv_dtype": "fp8",
        "slots": 2,
        "memory_fraction": 0.9,
        "threads": None,
        "agentic_class": "floor",
    },
)
