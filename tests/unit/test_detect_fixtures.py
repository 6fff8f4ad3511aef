"""Every machine among the fixtures gives exactly the snapshot that is kept beside it.

A folder holds what each probe printed: ``NAME.txt``, or ``NAME.STATUS.txt`` where it failed. ``base`` names the folder
that it differs from, ``missing`` lists probes of which no answer came, ``origin`` says where the outputs come from.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.detect.probes import COMMANDS
from orchestrator.detect.script import NOT_FOUND, Output
from orchestrator.detect.snapshots import snapshot_of
from orchestrator.snapshot import HostSnapshot

PROBES = Path(__file__).parents[1] / "fixtures" / "probes"
MACHINES = sorted(folder.name for folder in PROBES.iterdir() if folder.is_dir())

#: PCI id -> name, memory in MiB, compute capability: what the caller reads from the catalog.
NAMES = {
    "10de:2204": ("RTX 3090", 24576, "8.6"),
    "10de:2504": ("RTX 3060 12GB", 12288, "8.6"),
    "10de:2684": ("RTX 4090", 24564, "8.9"),
    "10de:2786": ("RTX 4070", 12282, "8.9"),
    "10de:2330": ("H100 80GB", 81559, "9.0"),
    "10de:2d04": ("RTX 5060 Ti 16GB", 16311, "12.0"),
    "1002:74a1": ("Instinct MI300X", 196592, None),
    "1002:1586": ("Strix Halo 96GB", 98304, None),
    "8086:56a0": ("Arc A770 16GB", 16288, None),
    "8086:e20b": ("Arc B580", 12216, None),
}


def outputs(machine: str) -> dict[str, Output]:
    folder = PROBES / machine
    base = folder / "base"
    found = outputs(base.read_text(encoding="utf-8").strip()) if base.exists() else {}
    for path in folder.glob("*.txt"):
        name, _, status = path.stem.partition(".")
        assert name in COMMANDS, f"{path} is no probe's output"
        found[name] = Output(path.read_bytes().decode(), int(status or 0))
    missing = folder / "missing"
    for name in missing.read_text(encoding="utf-8").split() if missing.exists() else ():
        found.pop(name, None)
    if not base.exists():
        found = {name: found.get(name, Output("", NOT_FOUND)) for name in COMMANDS}
    return found


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_gives_its_snapshot(machine: str) -> None:
    expected = json.loads((PROBES / machine / "expected.json").read_text(encoding="utf-8"))
    found = snapshot_of(machine, outputs(machine), NAMES)
    assert found.document() == expected
    assert HostSnapshot.from_json(found.to_json()) == found


@pytest.mark.parametrize("machine", MACHINES)
def test_problems_are_whole_sentences_with_a_way_out(machine: str) -> None:
    for problem in snapshot_of(machine, outputs(machine), NAMES).problems:
        assert problem.kind
        assert problem.what
        assert problem.do
        assert "\n" not in problem.what + problem.do


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_says_where_its_outputs_come_from(machine: str) -> None:
    assert (PROBES / machine / "origin").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("cut", range(0, 4000, 97))
def test_no_cut_crashes_a_parse(cut: int) -> None:
    whole = outputs("ubuntu-24.04-two-rtx-3090")
    snapshot_of("cut", {name: Output(one.text[:cut], one.status) for name, one in whole.items()}, NAMES)


def test_without_the_catalog_a_card_without_driver_is_a_problem_not_a_guess() -> None:
    found = snapshot_of("bare", outputs("two-rtx-3090-driver-missing"), {})
    assert not found.gpus
    assert {problem.kind for problem in found.problems} == {"gpu_unknown", "driver_missing"}
