"""``deploy catalog list``, ``show`` and ``check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.root import run
from orchestrator.line.catalog_rows import KINDS, find
from tests.unit.planning import catalog


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["catalog", *arguments, "--json"]) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    found = json.loads(said.out)
    assert isinstance(found, dict)
    return found


def own_row(name: str, **changes: Any) -> None:
    """Write a row beside the lock, made from one of the catalog's."""
    fields = catalog().llms["qwen2.5-coder-7b"].model_dump(mode="json", exclude={"name"}) | {"aliases": []}
    fields |= {"served_name": name, "repository": f"maker/{name}"} | changes
    Path("llms").mkdir(exist_ok=True)
    Path("llms", f"{name}.yml").write_text(json.dumps(fields), encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_listed_and_shown(capsys: pytest.CaptureFixture[str], kind: Any) -> None:
    found = document(capsys, "list", kind)
    assert set(found) == {kind}
    names = [one["name"] for one in found[kind]]
    assert names == sorted(getattr(catalog(), kind))
    for name in names:
        assert find(name, catalog()).name == name
    assert document(capsys, "show", names[0])["row"]["name"] == names[0]
    assert run(["catalog", "list", kind]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in names)


def test_a_list_without_a_kind_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(document(capsys, "list")) == KINDS


@pytest.mark.parametrize(
    ("asked", "name", "words"),
    [
        ("Phi-4-Coder", "phi-4", "There is no Phi-4-Coder"),
        ("Phi-4-Coder 14B", "phi-4", "There is no Phi-4-Coder"),
        ("DeepSeek-Coder-V2.5 AWQ-INT4", "deepseek-coder-v2-lite", "There is no DeepSeek-Coder-V2.5"),
    ],
)
def test_a_name_that_never_existed_says_so_and_names_the_nearest(
    capsys: pytest.CaptureFixture[str], asked: str, name: str, words: str
) -> None:
    found = document(capsys, "show", asked)
    assert (found["kind"], found["name"], found["exists"]) == ("llm", name, False)
    assert found["note"].startswith(words)
    assert run(["catalog", "show", asked]) == 0
    assert capsys.readouterr().out.startswith(words)


@pytest.mark.parametrize("asked", ["phi-4", "Phi-4", "microsoft/phi-4", "DeepSeek-Coder-V2-Lite", "Qwen2.5-Coder-32B"])
def test_a_real_name_carries_no_such_note(capsys: pytest.CaptureFixture[str], asked: str) -> None:
    found = document(capsys, "show", asked)
    assert (found["exists"], found["note"]) == (True, None)


@pytest.mark.parametrize(
    ("asked", "kind", "name"),
    [
        ("q4_k_m", "quant", "Q4_K_M"),
        ("llama.cpp", "runtime", "llama_cpp"),
        ("NVIDIA GeForce RTX 3090", "gpu", "RTX 3090"),
        ("Dual 3090", "profile", "dual-3090"),
    ],
)
def test_rows_of_every_kind_answer_however_spelled(
    capsys: pytest.CaptureFixture[str], asked: str, kind: str, name: str
) -> None:
    found = document(capsys, "show", asked)
    assert (found["kind"], found["name"]) == (kind, name)


@pytest.mark.parametrize(("asked", "near"), [("qwen3.6-72b", "qwen3.6-27b"), ("RTX 3091", "RTX 3090"), ("vlm", "vllm")])
def test_an_unknown_name_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str], asked: str, near: str) -> None:
    error = document(capsys, "show", asked, code=2)["error"]
    assert error["kind"] == "catalog"
    assert near in error["do"]


def test_a_row_of_the_owner_s_goes_before_the_catalog_s(capsys: pytest.CaptureFixture[str]) -> None:
    own_row("phi-4", max_context_tokens=4096)
    assert document(capsys, "show", "phi-4")["row"]["max_context_tokens"] == 4096
    assert run(["catalog", "check"]) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aliases": ["Phi 4"]}, "phi-4 answers to phi4 too"),
        ({"quants": []}, "it has no weights"),
        ({"config": {"model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 9, "hidden_size": 90,
          "num_key_value_heads": 3, "vocab_size": 8, "intermediate_size": 10}, "max_context_tokens": 1,
          "quants": [{"quant": "BF16", "weights_bytes": 1 << 60, "files": [], "source": "test"}]}, "nothing plans it"),
        ({"quants": [{"quant": "Q4_K_N", "weights_bytes": 1, "files": [], "source": "test"}]}, "unknown quant Q4_K_N"),
        ({"colour": "red"}, "unknown key colour"),
        ({"parameters": -1}, "parameters"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_hold_is_named(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    own_row("mine", **changes)
    found = document(capsys, "check", code=2)
    assert said in found["error"]["what"]
    assert "mine" in found["error"]["what"] + found["error"]["where"]
    assert run(["catalog", "check"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) <= 2


def test_an_llm_that_the_planner_does_not_know_is_told_and_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    own_row("strange", config={"model_type": "frobnicate"})
    plans = {one["llm"]: one for one in document(capsys, "check")["plans"]}
    assert plans["strange"]["unknown"]
    assert "frobnicate" in plans["strange"]["reason"]
    assert run(["catalog", "check"]) == 0
    assert "strange: not planned: the architecture frobnicate" in capsys.readouterr().out
