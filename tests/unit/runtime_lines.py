"""The command lines of the runtimes' builders, and the argument tables of the runtimes' own parsers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.deployment import Parallel
from tests.unit.rendering import CATALOG, CPU, DUAL, llm_row, runtime_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.deployment import Deployment

FIXTURES = Path(__file__).parents[1] / "fixtures" / "runtimes"

TALKING = ("vllm", "sglang", "llama_cpp", "tensorrt_llm", "exllama")
FULL = {
    "tool_parser": {"vllm": "qwen3_xml", **dict.fromkeys(("sglang", "tensorrt_llm", "exllama"), "qwen3_coder")},
    "reasoning_parser": {"vllm": "qwen3", "sglang": "qwen3", "llama_cpp": "deepseek", "exllama": "qwen3"},
    "chat_template": dict.fromkeys(TALKING, "smollm2-tools.jinja"),
    "draft_tokens": dict.fromkeys(TALKING, 2),
    "sampling": {"temperature": 0.6, "top_k": 20.0, "top_p": 0.95, "min_p": 0.0, "repetition_penalty": 1.05},
}
#: Every runtime, and two llms that use all that a row can say of one: a folder of safetensors, and a GGUF.
ROWS = CATALOG.model_copy(
    update={
        "runtimes": {
            name: runtime_row(name)
            for name in ("vllm", "sglang", "llama_cpp", "ollama", "exllama", "tensorrt_llm", "external", "xllamacpp")
        },
        "llms": CATALOG.llms
        | {
            "full": llm_row("full", "AWQ-INT4", "*.safetensors", **FULL),
            "full-gguf": llm_row("full-gguf", "Q4_K_M", "full-Q4_K_M.gguf", **FULL),
        },
    }
)
GGUF = CPU.model_copy(update={"llm": "full-gguf", "served_name": "full-gguf", "quant": "Q4_K_M"})


def deployment_of(runtime: str, **wishes: Any) -> Deployment:
    """Give a decision for a runtime that says all that one can say, on two cards."""
    base = DUAL if runtime in {"vllm", "sglang", "tensorrt_llm", "exllama"} else GGUF
    own = {"llm": "full", "served_name": "full"} if base is DUAL else {"gpus": DUAL.gpus, "gpu_indices": (0, 1)}
    kind = {"kv_dtype": "q8_0" if base is GGUF else "q8" if runtime == "exllama" else "fp8"}
    both = {"runtime": runtime, "slots": 3, "parallel": Parallel(tensor=2), "threads": None}
    return base.model_copy(update={**own, **kind, **both, **wishes})


@cache
def fixture(runtime: str) -> Any:
    """Give what was read from a runtime's own package; ``python -m tests.fixtures.runtimes.renew`` writes it."""
    return json.loads((FIXTURES / f"{runtime}.json").read_text(encoding="utf-8"))


def refusals(words: Sequence[str], options: dict[str, dict[str, Any]]) -> list[str]:
    """Give what a table of options refuses of a command line: unknown names, too few values, other words or numbers."""
    said, place = [], 0
    while place < len(words):
        name = words[place]
        option = options.get(name)
        if option is None:
            said.append(f"{name} is not known")
            place += 1
            continue
        takes = option["takes"] if isinstance(option["takes"], int) else 1
        values = words[place + 1 : place + 1 + takes]
        if len(values) < takes:
            said.append(f"{name} lacks a value")
        said += [f"{name} does not take {value}" for value in values if not _suits(value, option)]
        place += 1 + takes
    return said


def _suits(value: str, option: dict[str, Any]) -> bool:
    kinds = {"int": int, "float": float}
    if "type" in option:
        try:
            kinds[option["type"]](value)
        except ValueError:
            return False
    return value in option["choices"] if "choices" in option else True
