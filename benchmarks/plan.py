"""Times the planner: a thousand machines of which no two are alike, and the same with half the catalog.

``python benchmarks/plan.py [--machines N]``. One process.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING

from orchestrator.catalog.loader import load
from orchestrator.errors import NoFit
from orchestrator.plan import parse_gpu, plan
from orchestrator.snapshot import HostSnapshot, OperatingSystem

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog

#: Memory in MiB of the smallest machine's cards, and what each further machine has more.
LEAST_MIB, STEP_MIB = 8000, 37
MOST_CARDS = 4


def machines(catalog: Catalog, count: int) -> list[HostSnapshot]:
    """Give machines of one to four cards; kind, memory and RAM differ from one to the next."""
    names = list(catalog.gpus)
    return [
        HostSnapshot(
            name=f"rig-{number}",
            os=OperatingSystem(id="debian", version_id="12"),
            arch="x86_64",
            cpus=16,
            ram_mib=16384 + 64 * number,
            gpus=tuple(
                parse_gpu(f"{names[number % len(names)]}:{LEAST_MIB + STEP_MIB * number}", catalog, index)
                for index in range(1 + number % MOST_CARDS)
            ),
        )
        for number in range(count)
    ]


def part_of(catalog: Catalog, step: int) -> Catalog:
    """Give the catalog with every ``step``-th llm."""
    return catalog.model_copy(update={"llms": dict(islice(catalog.llms.items(), 0, None, step))})


def seconds(rigs: list[HostSnapshot], catalog: Catalog) -> tuple[float, float, int]:
    """Give the seconds that planning all of them took, those of the processor, and for how many nothing fits."""
    auto, without = catalog.profiles["auto"], 0
    began, worked = time.perf_counter(), time.process_time()
    for rig in rigs:
        try:
            plan(rig, auto, catalog)
        except NoFit:
            without += 1
    return time.perf_counter() - began, time.process_time() - worked, without


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=1000)
    wanted = parser.parse_args().machines
    catalog = load()
    rigs = machines(catalog, wanted)
    print(f"{'llms in the catalog':22}{'machines':>10}{'nothing fits':>14}{'seconds':>9}{'of CPU':>8}{'ms a plan':>11}")
    for step in (4, 2, 1):
        one = part_of(catalog, step)
        took, worked, without = seconds(rigs, one)
        print(f"{len(one.llms):<22}{len(rigs):10}{without:14}{took:9.2f}{worked:8.2f}{1000 * took / len(rigs):11.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
