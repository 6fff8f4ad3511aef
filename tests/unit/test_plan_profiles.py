"""The table profile -> choice, kept whole: a change of it is a decision and shows in a diff."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import matching_profile, plan
from tests.unit.planning import catalog, machine, machine_of

GOLDEN = Path(__file__).parents[1] / "golden" / "plan_profiles.json"
KEYS = ("llm", "quant", "runtime", "context_tokens", "kv_dtype", "agentic_class")


def table() -> Any:
    rows = {}
    for name, profile in catalog().profiles.items():
        if profile.use == "external":
            continue
        decision = plan(machine_of(name), profile, catalog())
        rows[name] = {
            **{key: getattr(decision, key) for key in KEYS},
            "tensor": decision.parallel.tensor,
            "reasons": list(decision.reasons),
        }
    return rows


def test_the_table_of_profiles_is_the_one_that_was_agreed() -> None:
    assert table() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("cards", "profile"),
    [
        (("RTX 3090", "RTX 3090"), "dual-3090"),
        (("RTX 4090",), "single-24gb"),
        (("RTX 4060 Ti 16GB",), "single-16gb"),
        (("M4 Max 128GB",), "mac-studio-128gb"),
        (("DGX Spark",), None),
        (("RTX 3060 12GB",), None),
        (("RTX 5090", "RTX 3090"), None),
        ((), "cpu"),
    ],
)
def test_a_machine_is_matched_with_a_profile_that_plans_on_it_or_with_none(cards: Any, profile: Any) -> None:
    rig = machine(*cards)
    assert matching_profile(rig, catalog()) == profile
    assert plan(rig, catalog().profiles[profile or "auto"], catalog()).reasons


def test_a_thousand_machines_are_planned_and_none_stops_the_others() -> None:
    names = ("RTX 3090", "RTX 4090", "RTX 5090", "RTX A6000", "H100 80GB", "RX 7900 XTX", "M4 Max 64GB")
    machines = [machine(*[names[number % 7]] * (1 + number % 3)) for number in range(1000)]
    began = time.perf_counter()
    decided = [plan(one, catalog().profiles["auto"], catalog()) for one in machines]
    print(f"1000 machines planned in {time.perf_counter() - began:.2f} s")  # noqa: T201 - a figure to read, not a limit
    assert len(decided) == len(machines)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(table(), indent=1) + "\n", encoding="utf-8")
