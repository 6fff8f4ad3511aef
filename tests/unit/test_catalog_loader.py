from __future__ import annotations

from typing import Any

import pytest

from orchestrator.catalog.loader import gpu, llm, load, profile
from orchestrator.errors import CatalogError, ProfileError
from tests.unit.planning import catalog


def test_profile_of_an_inventory_goes_before_the_catalogs(tmp_path: Any) -> None:
    (tmp_path / "dual-3090.yml").write_text("description: ours\nuse: team\nusers: 3\n")
    assert profile(load(tmp_path), "dual-3090").users == 3


def test_profile_extends_one_other_key_by_key(tmp_path: Any) -> None:
    (tmp_path / "mine.yml").write_text("extends: dual-3090\nllm: {context_tokens: 32768}\ngateway: {port: 9000}\n")
    mine, other = profile(load(tmp_path), "mine"), profile(catalog(), "dual-3090")
    assert mine.hardware == other.hardware
    assert mine.agents == other.agents
    assert (mine.llm.context_tokens, mine.gateway.port) == (32768, 9000)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("hardwares: {}\n", "unknown key hardwares", "hardware"),
        ("llm: {nam: x}\n", "unknown key llm.nam", "name"),
        ("extends: dual-309\n", "extends dual-309", "dual-3090"),
        ("extends: mine\n", "extends itself", "does not extend"),
        ("users: 0\n", "users", "correct users"),
        ("llm: {name: qwen3.6-72b}\n", "there is no llm qwen3.6-72b", "qwen"),
        ("llm: {quant: Q4_K_N}\n", "unknown quant Q4_K_N", "Q4_K"),
        ("hardware: {gpus: [{name: RTX 3091}]}\n", "unknown card RTX 3091", "RTX 3090"),
        ("[1, 2]\n", "is not a table", "key: value"),
        ("use: [\n", "cannot be read", "repair"),
    ],
)
def test_profile_that_cannot_be_is_refused_with_a_hint(tmp_path: Any, text: Any, said: Any, hint: Any) -> None:
    (tmp_path / "mine.yml").write_text(text)
    with pytest.raises(CatalogError if "table" in said or "read" in said else ProfileError) as refused:
        load(tmp_path)
    assert said in refused.value.what
    assert "mine.yml" in refused.value.where
    assert hint in refused.value.do
    assert refused.value.exit_code == 2


def test_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(ProfileError) as refused:
        profile(catalog(), "dual3090")
    assert "dual-3090" in refused.value.do


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Qwen2.5-Coder-7B", "qwen2.5-coder-7b"),
        ("Qwen2.5-Coder-14B", "qwen2.5-coder-14b"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-coder-32b"),
        ("DeepSeek-Coder-V2.5 AWQ-INT4", "deepseek-coder-v2-lite"),
        ("Phi-4-Coder 14B", "phi-4"),
        ("Llama 3.3 70B", "llama-3.3-70b"),
        ("Qwen2.5-72B", "qwen2.5-72b"),
        ("DeepSeek-V3", "deepseek-v3"),
        ("Llama 4 Scout", "llama-4-scout"),
        ("Qwen3-235B-A22B", "qwen3-235b-a22b"),
    ],
)
def test_every_name_of_the_users_guide_answers(said: Any, meant: Any) -> None:
    row = llm(catalog(), said)
    assert row.name == meant


@pytest.mark.parametrize("said", ["DeepSeek-Coder-V2.5", "Phi-4-Coder"])
def test_a_name_that_never_existed_says_so(said: Any) -> None:
    assert "There is no" in (llm(catalog(), said).note or "")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("rtx 4060 ti 16gb", "RTX 4060 Ti 16GB"),
        ("Tesla T4", "T4"),
    ],
)
def test_a_card_answers_as_its_driver_calls_it(said: Any, meant: Any) -> None:
    assert gpu(catalog(), said).name == meant


def test_no_two_cards_share_a_pci_id_and_every_profile_names_what_is_there() -> None:
    ids = [one for row in catalog().gpus.values() for one in row.pci_ids]
    assert len(ids) == len(set(ids))
    assert all(row.quants for row in catalog().llms.values())
