"""How much is fetched and placed: from a lock, from the catalog before there is one, and as a person is asked."""

from __future__ import annotations

import pytest

from orchestrator.cli.screen import fetch_lines, size_line
from orchestrator.line.sizes import (
    ARCHIVED_BYTES,
    INSTALLED_PER_DEB,
    UNPACKED_PER_WHEEL,
    Sizes,
    expected,
    readable,
    sizes,
)
from orchestrator.lockfile import Artefact, ArtefactKind, HostLock, Lock
from orchestrator.plan import plan
from orchestrator.snapshot import Package
from tests.unit.lock_stand_ins import deployment, snapshot
from tests.unit.planning import catalog, machine_of

MIB, GIB = 1 << 20, 1 << 30


def one(kind: ArtefactKind, name: str, size: int | None, *parts: Artefact) -> Artefact:
    digest = f"sha256:{name.encode().hex():0<64}"[:71]
    return Artefact(
        kind=kind,
        name=name,
        version="1",
        digest=digest,
        bytes=size,
        source="test",
        parts=tuple(part.id for part in parts),
    )


WHEEL, OTHER = one("wheel", "w", 100 * MIB), one("wheel", "o", None)
SHARD, DEB = one("file", "s", 4 * GIB), one("deb", "d", 2 * MIB)
VENV, FOLDER = one("venv", "v", None, WHEEL, OTHER), one("folder", "f", 4 * GIB, SHARD)
LOCK = Lock(
    agentrig="0",
    hosts={
        "one": HostLock(
            profile_digest="0",
            hardware_digest="0",
            deployment=deployment("large", "FP8", "vllm"),
            links={"runtime": VENV.id, "llm": FOLDER.id},
            debs=(DEB.id,),
        )
    },
    artefacts=(WHEEL, OTHER, SHARD, DEB, VENV, FOLDER),
)


def test_a_bare_host_takes_all_and_its_disk_must_hold_parts_and_trees_at_once() -> None:
    found = sizes(LOCK, snapshot(disk_free_mib=100 << 10), in_store=lambda _: False)
    built = int(100 * MIB * UNPACKED_PER_WHEEL) + int(2 * MIB * INSTALLED_PER_DEB)
    assert (found.fetch, found.fetch_unsized) == (4 * GIB + 102 * MIB, 1)
    assert found.carry == 4 * GIB + 102 * MIB
    assert found.place == 4 * GIB + 2 * MIB + built
    assert found.peak == found.carry + built
    assert (found.free, found.short) == (100 * GIB, 0)


def test_what_is_here_and_what_is_there_counts_as_nothing() -> None:
    host = snapshot(packages=(Package(name="d", version="1", architecture="amd64"),))
    found = sizes(LOCK, host, in_store=lambda _: True, trees={VENV.key, FOLDER.key})
    assert (found.fetch, found.fetch_unsized, found.carry, found.place, found.peak) == (0, 0, 0, 0, 0)
    assert (found.free, found.short) == (None, 0)
    half = sizes(LOCK, host, in_store=lambda digest: digest == SHARD.digest, trees={VENV.key})
    assert (half.fetch, half.carry) == (102 * MIB, 4 * GIB)


def test_a_disk_that_is_too_small_is_short_by_what_is_missing() -> None:
    found = sizes(LOCK, snapshot(disk_free_mib=1024), in_store=lambda _: True)
    assert found.short == found.peak - GIB


def test_small_parts_lie_beside_their_archive_until_it_is_unpacked() -> None:
    small = one("file", "x", ARCHIVED_BYTES)
    lock = Lock(
        agentrig="0",
        hosts={"one": LOCK.hosts["one"].model_copy(update={"links": {"llm": small.id}, "debs": ()})},
        artefacts=(small,),
    )
    assert sizes(lock, snapshot(), in_store=lambda _: True).peak == 2 * ARCHIVED_BYTES


def test_before_a_lock_the_catalog_tells_of_the_weights() -> None:
    host = machine_of("dual-3090")
    decided = plan(host, catalog().profiles["dual-3090"], catalog())
    weights = catalog().llms[decided.llm].quant(decided.quant).weights_bytes
    found = expected(decided, host, catalog(), in_store=lambda _: False)
    assert (found.fetch, found.place) == (weights, weights)
    foreign = decided.model_copy(update={"runtime_url": "http://127.0.0.1:8000"})
    assert expected(foreign, host, catalog(), in_store=lambda _: False).fetch == 0
    row = catalog().llms["smollm2-135m"]
    known = decided.model_copy(update={"llm": row.name, "quant": row.quants[0].quant})
    assert expected(known, host, catalog(), in_store=lambda _: True).fetch == 0
    assert expected(known, host, catalog(), in_store=lambda _: True).place == row.quants[0].weights_bytes


@pytest.mark.parametrize(("size", "text"), [(0, "0 MiB"), (5 * MIB, "5 MiB"), (int(4.25 * GIB), "4.2 GiB")])
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable(size) == text


def test_a_person_sees_what_is_fetched_placed_and_free() -> None:
    found = Sizes(host="one", fetch=4 * GIB, carry=4 * GIB, place=5 * GIB, peak=6 * GIB, free=50 * GIB)
    assert size_line(found) == "4.0 GiB to carry, about 5.0 GiB more on its disk, of 50.0 GiB free"
    said = fetch_lines([found, found])
    assert said[0] == "About 8.0 GiB would be fetched to this machine:"
    assert len([line for line in said if line.startswith("  for one: 4.0 GiB")]) == 2
