"""Weights that no split could carry are told before anything is laid out, and only those."""

from __future__ import annotations

import pytest

from orchestrator.catalog.loader import load
from orchestrator.plan import candidates, parse_gpu
from orchestrator.plan.layout import laid_out
from orchestrator.plan.memory import largest_window
from orchestrator.plan.setting import Setting
from orchestrator.plan.wishes import Asked, wishes_of
from orchestrator.snapshot import HostSnapshot, OperatingSystem

CATALOG = load()


def setting(*cards: str) -> Setting:
    gpus = tuple(parse_gpu(card, CATALOG, index) for index, card in enumerate(cards))
    system = OperatingSystem(id="debian", version_id="12")
    snapshot = HostSnapshot(name="rig", os=system, arch="x86_64", cpus=8, ram_mib=65536, gpus=gpus)
    auto = CATALOG.profiles["auto"]
    return Setting(snapshot, auto, CATALOG, wishes_of(auto, CATALOG, Asked()))


@pytest.mark.parametrize("cards", [("RTX 3090",), ("RTX 3090", "RTX 3090"), ("RTX 4060 Ti:16384",), ("H100 80GB",) * 4])
def test_what_is_refused_for_its_weights_has_no_window_at_all(cards: tuple[str, ...]) -> None:
    here = setting(*cards)
    found, refused = candidates.weigh(here)
    heavy = {(one.llm, one.quant, one.runtime) for one in refused if "weights alone" in one.reason}
    assert heavy
    assert found
    for llm, quant, runtime in heavy:
        row = CATALOG.llms[llm]
        size = row.quant(str(quant)).weights_bytes
        tensor = len(here.gpus) if runtime in ("vllm", "exllama", "tensorrt_llm") else 1
        capacity, reserve = here.room(runtime)  # type: ignore[arg-type] - it is one of the runtimes
        choice = laid_out(
            candidates.shape_cached(row),
            size,
            str(quant),
            str(runtime),
            "bfloat16" if runtime == "vllm" else "f16",
            capacity,
            reserve,
            tensor,
        )
        assert largest_window(choice) == 0


def test_the_reason_says_both_sizes() -> None:
    _, refused = candidates.weigh(setting("RTX 3090"))
    one = next(one for one in refused if one.llm == "llama-3.3-70b" and one.quant)
    assert "GiB, and the card has" in one.reason
