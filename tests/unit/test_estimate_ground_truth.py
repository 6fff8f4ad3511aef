"""The ledger against loads that people measured, and that nothing but the load itself moves a figure."""

from __future__ import annotations

import importlib.util
import json
import random
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import estimate_line, knowledge
from tests.unit.planning import catalog

TRUTH = Path(__file__).parents[1] / "fixtures" / "ground_truth"


def lines(name: Any) -> Any:
    return [json.loads(line) for line in (TRUTH / name).read_text(encoding="utf-8").splitlines()]


def scorer() -> Any:
    spec = importlib.util.spec_from_file_location("ground_truth_score", TRUTH / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIGS = {line["model"]: line["fields"] for line in lines("configs.jsonl")}
SCORE = scorer()
INPUTS = [SCORE.inputs(case) for case in lines("cases.jsonl")]


#: Figures of loads found elsewhere that are off, and why; one that is met again is to be taken out.
MISSED = {
    (
        "found-vllm-v0-llama3.1-405b-fp8-8xh100",
        "weights",
    ): "attention and two layers were left in 16 bits",
    ("found-vllm-rocm-qwen3.8-27b-bf16-mtp", "pool"): "half a GiB beside the heads that draft, not explained",
    ("found-sglang-qwen3-30b-a3b-rocm", "pool"): "a branch that leaves room for kernels of AMD's own",
    ("found-vllm-v1-llama3.1-8b-l40s", "pool"): "the first versions of V1 profiled 1024 requests on every card",
}


def answers(inputs: Any, configs: Any) -> Any:
    known = knowledge(catalog(), configs)
    return [estimate_line(line, known, catalog()) for line in inputs]


def test_all_limits_hold(tmp_path: Any, capsys: Any) -> None:
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("".join(json.dumps(one) + "\n" for one in answers(INPUTS, CONFIGS)))
    asked = Namespace(cases=TRUTH / "cases.jsonl", predictions=predictions, limits=str(TRUTH / "limits.json"), worst=0)
    assert SCORE.grade(asked) == 0, capsys.readouterr().out


@pytest.mark.parametrize("case", lines("found.jsonl"), ids=lambda case: case["id"])
def test_loads_found_elsewhere_are_met_too(case: Any) -> None:
    """Off none of these was a constant read; what their mechanisms taught stands in the code."""
    (answer,) = answers([SCORE.inputs(case)], CONFIGS)
    truths, seen = SCORE.truths(case), SCORE.figures(case, answer)
    assert answer["verdict"] == "fits"
    for quantity in {"weights", "resident", "asked", "per_token", "pool", "kv"} & set(truths):
        close = seen[quantity] == pytest.approx(truths[quantity], rel=0.025)
        assert close is ((case["id"], quantity) not in MISSED), (quantity, seen[quantity], truths[quantity])


def test_order_and_ids_move_no_figure() -> None:
    straight = answers(INPUTS, CONFIGS)
    shuffled = list(enumerate(INPUTS))
    random.Random(7).shuffle(shuffled)  # noqa: S311 - an order, not a secret
    renamed = [{**line, "id": f"line-{place}"} for place, (_, line) in enumerate(shuffled)]
    for (place, _), answer in zip(shuffled, answers(renamed, CONFIGS), strict=True):
        assert {**answer, "id": None} == {**straight[place], "id": None}


@pytest.mark.parametrize("name", sorted({line["model"] for line in INPUTS} & set(CONFIGS)))
def test_the_name_of_an_llm_whose_configuration_is_given_moves_no_figure(name: Any) -> None:
    loads = [line for line in INPUTS if line["model"] == name]
    other = "somebody/something-else"
    moved = answers([{**line, "model": other} for line in loads], {**CONFIGS, other: CONFIGS[name]})
    for before, after in zip(answers(loads, CONFIGS), moved, strict=True):
        assert after == before
