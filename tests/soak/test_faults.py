"""``up`` disturbed in the middle, at moments drawn from the seed: the next one ends where an undisturbed one does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import ends, moments
from tests.faults.inside import behind
from tests.faults.site import SECOND, Shared, Site, Undisturbed
from tests.faults.watcher import Watcher
from tests.lab.rig import Rig
from tests.soak import files
from tests.soak.conftest import Record
from tests.soak.core import digest
from tests.soak.runner import CACHE

#: Ten moments of a first ``up``, at least one in each phase.
FIRST = ("detect-1", "plan-1", "lock-1", "lock-2", "apply-1", "apply-2", "apply-3", "apply-4", "verify-1", "verify-2")
#: Tasks of the change of a rig that serves, as each of which begins it is killed: those that move what serves.
TASKS = ("Make the release current", "Run the gateway")
#: Room on the file system that is filled; all that is ours takes a third of it.
DISK_MIB = 1024


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A host in a state of its own."""
    for name in ("folder", "state"):
        (tmp_path / name).mkdir()
    site = Site(Rig(tmp_path / "folder", tmp_path / "state"))
    yield site
    assert site.rig.run("lab", "down").returncode == 0


@pytest.fixture
def first(site: Site) -> Undisturbed:
    """The undisturbed first ``up``; the host has nothing of ours."""
    return shared().first(site)


@pytest.fixture
def update(site: Site) -> Undisturbed:
    """The undisturbed change to another release; the host serves the one before it, and the profile asks for it."""
    undisturbed = shared().update(site)
    site.ask_for(SECOND)
    return undisturbed


def shared() -> Shared:
    """Give what the cases share over the content that there is now, tracked or not."""
    (row,) = [row for row in files.rows() if row.name == "faults"]
    content = digest(files.content(path) for path in (*files.listed(row), *files.untracked(row)))
    return Shared(CACHE / "faults" / content.removeprefix("sha256:")[:16])


@pytest.mark.parametrize("moment", FIRST)
def test_killed(site: Site, first: Undisturbed, seed: int, record: Record, moment: str) -> None:
    """A first ``up``; in the lock from nothing."""
    if moment.startswith("lock"):
        site.forget_the_lock()
    killed(site, moments.drawn(seed, moment), first, record)


@pytest.mark.parametrize("moment", ["apply-1", "verify-1"])
def test_update_killed(site: Site, update: Undisturbed, seed: int, record: Record, moment: str) -> None:
    """The change of a rig that serves: what served before answers until the new one does."""
    killed(site, moments.drawn(seed, f"update-{moment}"), update, record, serves=True)


@pytest.mark.parametrize("task", TASKS)
def test_update_killed_as(site: Site, update: Undisturbed, record: Record, task: str) -> None:
    killed(site, moments.Moment("apply", line=task), update, record, serves=True)


@pytest.mark.parametrize("moment", ["apply-1", "verify-1"])
def test_rebooted(site: Site, first: Undisturbed, seed: int, record: Record, moment: str) -> None:
    """In the middle of a first ``up``, which fails. What was not accepted stays down, also at the next start."""
    with disturbed(site, moments.drawn(seed, f"reboot-{moment}"), first, record) as (running, watcher):
        site.inside.reboot()
        document = json.loads(running.finish())
        if running.process.returncode:
            assert document["hosts"][0]["error"]["what"]
            site.inside.reboot()
            assert not watcher.serves_within(5), "a rig that was not accepted serves after a reboot"
        ends.converges(site, first.manifest, moment)
        site.inside.reboot()
        assert watcher.serves_within(60), "an accepted rig does not serve after a reboot, by itself"


@pytest.mark.parametrize("moment", ["apply-1"])
def test_update_rebooted(site: Site, update: Undisturbed, seed: int, record: Record, moment: str) -> None:
    """In the middle of a change: one of the two releases serves again, by itself."""
    with disturbed(site, moments.drawn(seed, f"update-reboot-{moment}"), update, record) as (running, watcher):
        site.inside.reboot()
        running.finish()
        assert watcher.serves_within(60), watcher.answers
        ends.converges(site, update.manifest, moment)


@pytest.mark.parametrize("moment", ["apply-1"])
def test_disk_filled(site: Site, first: Undisturbed, seed: int, record: Record, moment: str) -> None:
    """The file system of /opt has no room left in the middle of a first ``up``, and has some again before the next."""
    site.inside.run(f"mount -t tmpfs -o size={DISK_MIB}m,mode=755 filled /opt")
    with disturbed(site, moments.drawn(seed, f"disk-{moment}"), first, record) as (running, _):
        site.inside.run("dd if=/dev/zero of=/opt/filler bs=64k")
        document = json.loads(running.finish())
        if running.process.returncode:
            assert "disk is full" in document["hosts"][0]["error"]["what"], document
            assert document["hosts"][0]["error"]["do"]
        site.inside.run("rm /opt/filler")
        ends.converges(site, first.manifest, moment)


@pytest.mark.parametrize("moment", ["apply-1"])
def test_link_cut(site: Site, first: Undisturbed, seed: int, record: Record, moment: str) -> None:
    """Nothing passes between this machine and the host's SSH from the middle of a first ``up`` until it has failed."""
    with disturbed(site, moments.drawn(seed, f"link-{moment}"), first, record) as (running, _):
        ends.cut_until_it_ends(site, running)
        ends.converges(site, first.manifest, moment)


def test_update_link_cut(site: Site, update: Undisturbed, seed: int, record: Record) -> None:
    """The same in the change of a rig that serves; it does so all the while."""
    with disturbed(site, moments.drawn(seed, "update-link-apply"), update, record) as (running, watcher):
        ends.cut_until_it_ends(site, running)
        assert watcher.serves_within(20), watcher.answers
        ends.converges(site, update.manifest, "its link was cut")


@contextlib.contextmanager
def disturbed(
    site: Site, moment: moments.Moment, expected: Undisturbed, record: Record
) -> Iterator[tuple[moments.Running, Watcher]]:
    """Start ``up`` and give it at a moment; in the end look at what was served all along."""
    former = behind(site.inside.up_now() / "root")
    record.says(phase=moment.phase, moment=str(moment))
    with site.watcher() as watcher, site.start() as running:
        hit = running.wait(moment, expected.lengths)
        yield running, watcher
    ends.served_whole(site, watcher, former, str(moment))
    record.figures(hit=hit, answers=dict(watcher.answers), served=sum(watcher.served.values()))
    assert hit, f"{moment}: it was over before\n{running.text()}"


def killed(site: Site, moment: moments.Moment, expected: Undisturbed, record: Record, *, serves: bool = False) -> None:
    """Kill ``up`` at a moment, see what is left, and run it again. Where a rig served, it still does before that."""
    about = f"killed at {moment}"
    with disturbed(site, moment, expected, record) as (running, watcher):
        running.kill()
        ends.nothing_is_left_behind(site, running.process.pid, about)
        assert not serves or watcher.serves_within(20), f"{about}: {watcher.answers}"
        ends.converges(site, expected.manifest, about)
