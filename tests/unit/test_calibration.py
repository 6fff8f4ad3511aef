"""What runtimes log of their memory is read from real logs, and held against a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.calibration import LEAST_MIB, Calibration, calibrate, warnings
from orchestrator.catalog.loader import load, profile
from orchestrator.deployment import Deployment, LedgerRow
from orchestrator.doctor import cleaned
from orchestrator.plan import plan
from orchestrator.snapshot import HostSnapshot

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLANNED = plan(
    HostSnapshot.from_json((FIXTURES / "snapshots/debian12_4cpu_16gib_no_gpu.json").read_bytes()),
    profile(load(), "cpu"),
    load(),
)
LOGS = sorted((FIXTURES / "memory").glob("*.yml"))
PARTS = ("weights", "cache", "compute")


def logged(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return read


def deployment(log: dict[str, Any], **figures: float) -> Deployment:
    """A deployment of a log's runtime whose ledger holds these figures on each card."""
    cards = [f"00000000:0{number}:00.0" for number in range(log["cards"])]
    rows = tuple(
        LedgerRow(
            gpu=gpu,
            weights_mib=figures.get("weights", 0),
            kv_mib=figures.get("cache", 0),
            compute_mib=figures.get("compute", 0),
            reserve_mib=0,
            capacity_mib=10**6,
        )
        for gpu in cards or ["cpu"]
    )
    return PLANNED.model_copy(
        update={
            "runtime": log["runtime"],
            "gpus": tuple(cards),
            "context_tokens": log["context_tokens"],
            "slots": log.get("slots", 1),
            "confidence": "exact",
            "ledger": rows,
        }
    )


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_each_part_that_a_real_log_tells_is_read(path: Path) -> None:
    log = logged(path)
    found = {one.part: one for one in calibrate(cleaned(log["log"]), deployment(log))}
    assert set(found) == {part for part in PARTS if part in log}
    for part, one in found.items():
        assert one.logged_mib == pytest.approx(log[part], rel=0.001)
        assert one.source[:60] in log["log"]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_what_was_planned_right_is_not_told_and_what_was_not_is_with_both_figures(path: Path) -> None:
    log = logged(path)
    right = {part: log[part] for part in PARTS if part in log}
    assert warnings(calibrate(cleaned(log["log"]), deployment(log, **right))) == ()
    wrong = {part: 3 * mib + 2 * LEAST_MIB for part, mib in right.items() if part != "compute"}
    told = warnings(calibrate(cleaned(log["log"]), deployment(log, **(right | wrong))))
    assert len(told) == len(wrong)
    for part, sentence in zip(wrong, told, strict=True):
        assert f"{wrong[part]:.0f} MiB" in sentence
        assert f"{right[part]:.0f} MiB" in sentence


def test_the_buffers_of_several_cards_are_put_together_and_those_of_the_ram_left_out() -> None:
    log = {"runtime": "llama_cpp", "cards": 2, "context_tokens": 8192}
    lines = (
        "load_tensors:        CUDA0 model buffer size =  1000.00 MiB",
        "load_tensors:        CUDA1 model buffer size =  1200.00 MiB",
        "load_tensors:   CPU_Mapped model buffer size =   500.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   100.00 MiB",
        "sched_reserve:      CUDA0 compute buffer size =   120.00 MiB",
        "sched_reserve:  CUDA_Host compute buffer size =    30.00 MiB",
    )
    found = {one.part: one for one in calibrate(lines, deployment(log, weights=1100, compute=60))}
    assert (found["weights"].expected_mib, found["weights"].logged_mib) == (2200, 2200)
    assert (found["compute"].expected_mib, found["compute"].logged_mib) == (120, 120)


def test_a_runtime_that_logs_nothing_and_an_endpoint_of_others_give_nothing() -> None:
    silent = deployment({"runtime": "xllamacpp", "cards": 0, "context_tokens": 1024})
    assert calibrate(("0.00.370.101 I srv          init: model loaded",), silent) == ()
    assert calibrate(("anything",), silent.model_copy(update={"runtime": "external"})) == ()


@pytest.mark.parametrize(
    ("expected", "found", "differs"),
    [(1000, 1049, False), (1000, 1065, True), (10, 70, False), (10, 80, True), (2000, 1890, True)],
)
def test_small_differences_are_not_told(expected: float, found: float, *, differs: bool) -> None:
    one = Calibration(part="cache", expected_mib=expected, logged_mib=found, source="x", allowed=0.05)
    assert one.differs is differs


@pytest.mark.parametrize(("planned", "differs"), [(100, True), (1000, False), (300, False)])
def test_of_computing_only_more_than_planned_is_told(planned: float, *, differs: bool) -> None:
    one = Calibration(part="compute", expected_mib=planned, logged_mib=350, source="x", allowed=0.05)
    assert one.differs is differs
