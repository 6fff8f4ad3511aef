"""``up`` killed, cut off or rebooted under, once for each: the whole matrix is in the slow ring."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import ends, moments
from tests.faults.inside import behind
from tests.faults.site import FIRST, HOST, SECOND, Site, Undisturbed
from tests.lab.rig import Rig

#: Set AGENTRIG_SEED to have the moments of an earlier run again.
SEED = int(os.environ.get("AGENTRIG_SEED") or random.SystemRandom().randrange(1 << 32))
NOTHING_OF_OURS = "ls -d /opt/agentrig /etc/systemd/system/agentrig-*; getent passwd agentrig-runtime agentrig-gateway"
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


def test_killed_before_anything_is_put_there(site: Site, undisturbed: Undisturbed, chance: random.Random) -> None:
    """From nothing: neither lock nor store."""
    site.ask_for(FIRST)
    site.purge()
    site.forget_the_lock()
    with killed(site, moments.drawn(SEED, chance.choice(("detect", "plan", "lock"))), undisturbed):
        pass


def test_killed_in_a_first_apply(site: Site, undisturbed: Undisturbed, chance: random.Random) -> None:
    """Half of the seeds go away again first, by what was meant to be put there and never was declared done."""
    site.ask_for(FIRST)
    site.purge()
    with killed(site, moments.drawn(SEED, "apply"), undisturbed) as about:
        if chance.random() < 0.5:
            (gone,) = site.rig.document("down", "--lab", "--purge")["hosts"]
            assert gone["error"] is None, about
            assert site.rig.on(HOST, NOTHING_OF_OURS).stdout == "", about


@pytest.mark.usefixtures("undisturbed")
def test_a_link_that_is_cut_in_a_change(site: Site) -> None:
    """It fails by itself, soon and in words; what served before does so all the while."""
    site.ask_for(SECOND)
    former = behind(site.inside.up_now() / "root")
    with site.watcher() as watcher, site.start() as running:
        assert running.wait(moments.Moment("apply", line="Write the release"), {})
        ends.cut_until_it_ends(site, running)
        assert watcher.serves_within(20), watcher.answers
        assert set(watcher.served) == {former}
        site.up()
    ends.served_whole(site, watcher, former, "cut")


def test_killed_in_a_change(site: Site, undisturbed: Undisturbed, chance: random.Random) -> None:
    """Of a rig that serves; it goes on, by what it was before or by what it is to become."""
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
