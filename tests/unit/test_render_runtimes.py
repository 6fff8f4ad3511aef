"""Builders of runtimes: whole argument lists, environments and files."""

from __future__ import annotations

import pytest

from orchestrator.catalog.loader import load
from orchestrator.deployment import Parallel
from orchestrator.errors import CatalogError, UsageError
from orchestrator.render.runtimes import BUILDERS, parts_of
from orchestrator.render.units import assignment, command_line, quoted
from tests.unit.rendering import CATALOG, CPU, DUAL

CURRENT = "/opt/agentrig/current"

XLLAMACPP = [
    *(f"{CURRENT}/artefacts/runtime/bin/python", "-I", "-B", f"{CURRENT}/runtime/llama-server"),
    *("-m", f"{CURRENT}/artefacts/llm/tiny.Q4_1.gguf", "--alias", "tiny"),
    *("-c", "8192", "-np", "1", "-ngl", "0", "-ctk", "f16", "-ctv", "f16", "-fa", "auto"),
    *("--fit", "off", "--cache-ram", "0", "--jinja"),
    *("--chat-template-file", f"{CURRENT}/runtime/chat-template.jinja", "--temp", "0"),
    *("--metrics", "--no-slots", "--no-webui", "--offline", "-lv", "4", "--host", "127.0.0.1", "--port", "18080"),
    *("--api-key-file", "%d/runtime_key", "-t", "1", "-tb", "2"),
]

LLAMA_CPP_ON_TWO_CARDS = [
    *(f"{CURRENT}/artefacts/runtime/llama-server", "-m", f"{CURRENT}/artefacts/llm/tiny.Q4_1.gguf", "--alias", "tiny"),
    *("-c", "24576", "-np", "3", "-ngl", "999", "-sm", "layer", "-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"),
    *("--fit", "off", "--cache-ram", "0", "--jinja", "--temp", "0"),
    *("--metrics", "--no-slots", "--no-webui", "--offline", "-lv", "4", "--host", "127.0.0.1", "--port", "18080"),
    *("--api-key-file", "%d/runtime_key"),
]

VLLM = [
    *(f"{CURRENT}/artefacts/runtime/bin/vllm", "serve", f"{CURRENT}/artefacts/llm", "--load-format", "safetensors"),
    *("--served-model-name", "big", "--max-model-len", "65536"),
    *("--tensor-parallel-size", "2", "--pipeline-parallel-size", "1", "--kv-cache-dtype", "fp8"),
    *("--gpu-memory-utilization", "0.9", "--max-num-seqs", "2", "--enable-prefix-caching"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3"),
    *("--override-generation-config", '{"temperature":0.6,"top_p":0.95}'),
    *("--host", "127.0.0.1", "--port", "18080"),
]


def test_xllamacpp_is_llama_servers_flags_behind_the_launcher() -> None:
    parts = parts_of(CPU, CATALOG)
    assert list(parts.argv) == XLLAMACPP
    assert parts.environment == {"OMP_WAIT_POLICY": "passive"}
    assert [(file.path, file.mode) for file in parts.files] == [
        ("runtime/llama-server", "0755"),
        ("runtime/chat-template.jinja", "0644"),
    ]
    assert parts.credentials == {"runtime_key": "{{secret:runtime_key}}\n"}


def test_llama_cpp_multiplies_the_window_by_its_slots_and_splits_by_layers() -> None:
    wish = {"runtime": "llama_cpp", "gpus": DUAL.gpus, "gpu_indices": (1, 3), "parallel": Parallel(pipeline=2)}
    deployment = CPU.model_copy(update={**wish, "slots": 3, "kv_dtype": "q8_0", "threads": None})
    parts = parts_of(deployment, CATALOG)
    assert list(parts.argv) == LLAMA_CPP_ON_TWO_CARDS
    assert parts.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,3"}
    assert parts.files == ()


def test_vllm_takes_the_window_the_split_and_the_parsers_of_the_row() -> None:
    parts = parts_of(DUAL, CATALOG)
    assert list(parts.argv) == VLLM
    assert parts.secret_environment == {"VLLM_API_KEY": "{{secret:runtime_key}}"}
    assert parts.environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert parts.environment["HF_HUB_OFFLINE"] == "1"
    assert "--trust-remote-code" not in parts.argv


@pytest.mark.parametrize("deployment", [CPU, DUAL, CPU.model_copy(update={"runtime": "llama_cpp"})])
def test_no_secret_is_in_an_argument(deployment: object) -> None:
    assert not [word for word in parts_of(deployment, CATALOG).argv if "secret" in word]  # type: ignore[arg-type]


def test_every_runtime_of_the_catalog_has_a_builder() -> None:
    assert load().runtimes.keys() == BUILDERS.keys()


@pytest.mark.parametrize("deployment", [CPU, DUAL])
def test_a_cache_type_that_the_runtime_lacks_is_refused(deployment: object) -> None:
    with pytest.raises(UsageError, match="has no cache type int3"):
        parts_of(deployment.model_copy(update={"kv_dtype": "int3"}), CATALOG)  # type: ignore[attr-defined]


def test_weights_named_by_a_pattern_are_refused_where_one_file_is_opened() -> None:
    with pytest.raises(CatalogError, match="names its weights by the pattern"):
        parts_of(CPU.model_copy(update={"llm": "parted", "quant": "Q4_K_M"}), CATALOG)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--port", "--port"),
        ("%d/runtime_key", "%d/runtime_key"),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('{"a":1}', '"{\\"a\\":1}"'),
        ("two words", '"two words"'),
        ("", '""'),
        ("back\\slash", '"back\\\\slash"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, text: str) -> None:
    assert quoted(word) == text


def test_an_environment_word_keeps_its_dollar() -> None:
    assert assignment("NAME", "a $b") == '"NAME=a $b"'


def test_a_command_line_has_a_flag_and_its_value_on_a_line() -> None:
    assert command_line(["/bin/x", "serve", "-a", "1", "--b"]) == "/bin/x serve \\\n    -a 1 \\\n    --b"
