"""Loads that cannot be sized: the answer is unknown, and names what is missing or contradicts itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.line.estimating import estimate_file
from orchestrator.plan import estimate_line, knowledge
from tests.unit.planning import catalog

LOAD = {
    "id": "one",
    "model": "Qwen/Qwen2.5-32B",
    "runtime": "vllm",
    "gpus": ["RTX 4090", "RTX 4090"],
    "tp": 2,
    "quant": "AWQ",
    "n_ctx": 8192,
}


def answer(**changed: Any) -> Any:
    return estimate_line({**LOAD, **changed}, knowledge(catalog(), {}), catalog())


def test_the_load_that_the_others_change_is_understood() -> None:
    assert answer()["verdict"] == "fits"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model": ""}, "no llm"),
        ({"model": "gpt-9-coder"}, "no configuration of gpt-9-coder"),
        ({"gpus": []}, "no card"),
        ({"gpus": "RTX 4090"}, "no card"),
        ({"gpus": ["Voodoo 5"] * 2}, "memory of Voodoo 5"),
        ({"runtime": "mlx"}, "mlx"),
        ({"runtime": ""}, "runtime"),
        ({"quant": "HQQ"}, "HQQ"),
        ({"quant": "compressed-tensors"}, "compressed-tensors"),
        ({"quant": "4.0bpw"}, "does not read"),
        ({"kv_dtype": "octal"}, "octal"),
        ({"n_ctx": -5}, "n_ctx"),
        ({"n_ctx": "many"}, "n_ctx"),
        ({"n_ctx": 10**15}, "--context"),
        ({"tp": 4}, "needs 4 cards"),
        ({"tp": 3, "gpus": ["RTX 4090"] * 3}, "40 heads"),
        ({"gpu_memory_utilization": 9}, "gpu_memory_utilization"),
        ({"gpus": ["M3 Ultra 512GB"], "tp": 1}, "does not run on M3 Ultra"),
        ({"model": "nvidia/Llama-3_3-Nemotron-Super-49B-v1"}, "Nemotron"),
    ],
)
def test_what_is_missing_is_unknown_by_name(changed: Any, named: Any) -> None:
    found = answer(**changed)
    assert found["verdict"] == "unknown"
    assert named in found["reason"]


@pytest.mark.parametrize(
    ("quant", "runtime", "least", "most"),
    [
        ("GPTQ-Int4", "vllm", 17_000, 20_000),
        ("4-bit", "vllm", 17_000, 20_500),
        ("8bit", "vllm", 31_000, 34_000),
        ("bf16", "vllm", 62_000, 63_000),
        ("4.0bpw", "exllamav3", 15_000, 16_500),
        ("Q4_K - Medium", "llama.cpp", 18_000, 19_000),
    ],
)
def test_the_names_that_people_give_a_quantisation_are_read(quant: Any, runtime: Any, least: Any, most: Any) -> None:
    found = answer(quant=quant, runtime=runtime, gpus=["A100 80GB"], tp=1)
    assert least < found["per_gpu"][0]["weights_mib"] < most


def test_a_smaller_llm_of_a_family_is_not_taken_for_the_larger() -> None:
    small = answer(model="microsoft/Phi-4-mini-instruct", quant="bf16")["per_gpu"][0]["weights_mib"]
    large = answer(model="microsoft/phi-4", quant="bf16")["per_gpu"][0]["weights_mib"]
    assert 3 * small < large


#: What a line or a configuration may hold where a number, a name or a list belongs.
ODD = (
    [], {}, "x", "", -1, 0, 1e30, float("nan"), float("inf"), True, None, [None], ["a"], {"a": 1}, 10**400, "1e9",
)  # fmt: skip
KEYS = (
    "model", "runtime", "gpus", "n_ctx", "quant", "kv_dtype", "runtime_version", "slots", "tp", "pp", "gpu_total_gib",
    "gpu_free_gib", "gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs", "n_ubatch", "kv_dtype_k",
    "flash_attn", "mla_attn", "enforce_eager", "chunked_prefill_size", "cuda_graph_max_bs", "swa_full_tokens_ratio",
    "partial_cpu_offload", "weight_bytes", "model_size", "checkpoint_mib_per_gpu", "arch", "draft", "draft_quant",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("runtime", "quant"), [("vllm", "AWQ"), ("sglang", "AWQ"), ("llama.cpp", "Q4_K_M")])
def test_no_line_however_odd_stops_the_others(key: Any, runtime: Any, quant: Any) -> None:
    for value in ODD:
        found = answer(**{"runtime": runtime, "quant": quant, key: value})
        json.dumps(found)
        assert found["reason"] or found["verdict"] == "fits"


@pytest.mark.parametrize(
    "name", ["jamba-1.5-mini", "granite-4.0-h-small", "exaone-4.0-32b", "mimo-v2-flash", "gemma-3-27b"]
)
def test_no_configuration_however_odd_stops_the_others(name: Any) -> None:
    whole = {**catalog().shapes[name].config, "partial_rotary_factor": 0.5, "quantization_config": {"ignore": ["mlp"]}}
    for key in whole:
        for value in ODD:
            known = knowledge(catalog(), {"some/llm": {**whole, key: value}})
            found = estimate_line({**LOAD, "model": "some/llm", "gpus": ["H100"], "tp": 1}, known, catalog())
            assert found["reason"] or found["verdict"] == "fits"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe", "no text"), (b"{", "not JSON"), (b"[]", "not a JSON object")],
)
def test_a_file_that_holds_no_lines_is_refused(content: Any, said: Any, tmp_path: Any) -> None:
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        list(estimate_file(tmp_path / "odd.json", None, catalog()))
    with pytest.raises(UsageError, match="folder"):
        list(estimate_file(tmp_path, None, catalog()))
    with pytest.raises(UsageError, match="no such folder"):
        list(estimate_file(tmp_path / "odd.json", tmp_path / "none", catalog()))
    if said != "not a JSON object":
        with pytest.raises(UsageError, match=said):
            list(estimate_file(tmp_path / "odd.json", tmp_path, catalog()))
