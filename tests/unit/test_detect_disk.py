"""What our folder takes of a disk, read by a real shell over a folder that stands in for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.detect.disk import DISK, parse_disk
from orchestrator.releases import DiskUse
from tests.unit.test_detect_commands import shell

if TYPE_CHECKING:
    from pathlib import Path

PLACE = "/opt/agentrig"
NEW, OLD, OLDER = (f"{number:016x}" for number in range(3))
SHARED, OWN, PAIR = (f"{number:064x}" for number in range(3))
USES = {NEW: (SHARED,), OLD: (SHARED, OWN, PAIR), OLDER: (PAIR,)}


def test_each_release_and_each_artefact_is_counted(tmp_path: Path) -> None:
    root = tmp_path / PLACE[1:]
    for key in (SHARED, OWN, PAIR):
        (root / "store" / key).mkdir(parents=True)
        (root / "store" / key / "weights").write_bytes(b"\1" * 300_000)
    for release, keys in USES.items():
        links = root / "releases" / release / "artefacts"
        links.mkdir(parents=True)
        for number, key in enumerate(keys):
            (links / str(number)).symlink_to(f"{PLACE}/store/{key}")
    found = parse_disk(shell(DISK, tmp_path, f"{PLACE}").replace(str(tmp_path), ""))
    assert found is not None
    assert {release: set(keys) for release, keys in found.uses.items()} == {
        release: set(keys) for release, keys in USES.items()
    }
    assert set(found.releases) == set(USES)
    assert all(size >= 300_000 for size in found.artefacts.values())
    assert found.total >= sum(found.artefacts.values())


def test_where_there_is_nothing_of_ours_nothing_is_told(tmp_path: Path) -> None:
    assert parse_disk(shell(DISK, tmp_path, PLACE)) is None


def test_what_the_present_release_uses_is_not_the_former_ones_share() -> None:
    use = DiskUse(
        total=1000, releases={NEW: 1, OLD: 2, OLDER: 4}, artefacts={SHARED: 100, OWN: 200, PAIR: 400}, uses=USES
    )
    assert use.shares(NEW) == (101, 606, {OLD: 202, OLDER: 4})
