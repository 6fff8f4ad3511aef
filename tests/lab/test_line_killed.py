"""A change killed in its middle, and a reboot, once each: first runs, cut links and full disks are in the slow ring."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import ends, moments
from tests.faults.inside import behind
from tests.faults.site import FIRST, SECOND, Site, Undisturbed
from tests.lab.rig import Rig

#: Set AGENTRIG_SEED to have the moments of an earlier run again.
SEED = int(os.environ.get("AGENTRIG_SEED") or random.SystemRandom().randrange(1 << 32))
#: Tasks of a change in their order; each is named as it starts.
TASKS = ("Write the release", "Make the release current", "Run the runtime", "Run the gateway", "llm identity")


@pytest.fixture(scope="module")
def site(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A host of this module's own."""
    site = Site(Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"), (str(installed),)))
    site.make_host()
    yield site
    assert site.rig.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Undisturbed:
    """A run that nobody disturbed, on a host that has nothing of ours."""
    site.ask_for(FIRST)
    return site.up()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A test's moments: the same for the same seed, whichever other tests run."""
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - nothing secret is drawn


@contextlib.contextmanager
def killed(site: Site, moment: moments.Moment, undisturbed: Undisturbed) -> Iterator[str]:
    """Kill ``up`` at a moment while the gateway is asked; after the block run it again, and see what was served."""
    about = f"seed {SEED}, killed at {moment}"
    former = behind(site.inside.up_now() / "root")
    with site.watcher() as watcher, site.start() as running:
        running.wait(moment, undisturbed.lengths)
        running.kill()
        ends.nothing_is_left_behind(site, running.process.pid, about)
        assert former is None or watcher.serves_within(20), f"{about}: {watcher.answers}"
        yield about
        ends.converges(site, undisturbed.manifest, about)
    ends.served_whole(site, watcher, former, about)


def test_killed_in_a_change(site: Site, undisturbed: Undisturbed, chance: random.Random) -> None:
    """Of a rig that serves; it goes on, by what it was before or by what it is to become."""
    site.ask_for(SECOND)
    site.up()
    site.ask_for(FIRST)
    moment = moments.Moment("apply", line=chance.choice(TASKS))
    with killed(site, moment, undisturbed):
        pass


@pytest.mark.usefixtures("undisturbed")
def test_an_accepted_rig_serves_after_a_reboot(site: Site) -> None:
    former = behind(site.inside.up_now() / "root")
    with site.watcher() as watcher:
        site.inside.reboot()
        assert watcher.serves_within(60), watcher.answers
    assert set(watcher.served) == {former}
