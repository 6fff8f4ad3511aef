"""Several hosts in one lock: what they share is resolved once, and one that cannot be resolved fails alone."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import lock as locking
from orchestrator.errors import AgentrigError, LockError
from orchestrator.lock import Store, apt
from orchestrator.lock.closures import Closures
from orchestrator.lock.former import Former
from orchestrator.progress import Event, silent
from orchestrator.snapshot import Package
from tests.unit.lock_stand_ins import snapshot
from tests.unit.test_lock_resolve import CATALOG, Rig, first, lock, rig

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.lockfile import Lock
    from orchestrator.snapshot import HostSnapshot

__all__ = ["first", "lock", "rig"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Who was asked for: a stand-in for apt that has nothing, and that refuses ``absent``."""
    asked: Counter[str] = Counter()

    def resolve_debs(host: HostSnapshot, packages: Any, *_: Any, **__: Any) -> apt.Closure:
        asked[host.name] += 1
        if "absent" in packages:
            raise LockError("Unable to locate package absent", where=f"apt packages of {host.name}", do="look")
        return apt.Closure(leans_on=("libc6",))

    monkeypatch.setattr(apt, "resolve_debs", resolve_debs)
    return asked


def test_hosts_alike_are_asked_for_once(tmp_path: Path, asked: Counter[str]) -> None:
    closures = Closures(Store(tmp_path), Former(None, ()))
    others = [
        snapshot(name="two"),
        snapshot(name="three", packages=(Package(name="a", version="1", architecture="all"),)),
    ]
    hosts = [snapshot(), *others, snapshot(name="four")]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(lambda host: closures.of(host.name, host, ("nginx",)), hosts))
    assert sum(asked.values()) == 2, "three of them have the same packages"
    assert {one.leans_on for one in found} == {("libc6",)}
    closures.of("one", hosts[0], ("nginx", "curl"))
    assert sum(asked.values()) == 3


def test_a_shared_failure_is_each_host_s_own(tmp_path: Path, asked: Counter[str]) -> None:
    closures = Closures(Store(tmp_path), Former(None, ()))
    for host in (snapshot(), snapshot(name="two")):
        with pytest.raises(LockError) as caught:
            closures.of(host.name, host, ("absent",))
        assert caught.value.where == f"apt packages of {host.name}"
    assert sum(asked.values()) == 1


def test_one_that_cannot_be_resolved_fails_alone(rig: Rig, lock: Lock, asked: Counter[str]) -> None:
    del asked
    requests = {
        "one": rig.request(packages=("absent",)),
        "two": rig.request(snapshot=snapshot(name="two")),
        "three": rig.request(snapshot=snapshot(name="three", python=None)),
    }
    failures: dict[str, AgentrigError] = {}
    found = locking.resolve(requests, rig.store, lock, silent, catalog=CATALOG, failures=failures)
    assert set(failures) == {"one", "three"}
    assert "absent" in failures["one"].what
    assert found.hosts["one"] == lock.hosts["one"], "what it had stays"
    assert found.hosts["two"].links == lock.hosts["one"].links
    assert "three" not in found.hosts
    with pytest.raises(LockError, match="absent"):
        locking.resolve(requests, rig.store, lock, silent, catalog=CATALOG)


def test_who_waits_for_another_is_told_so(rig: Rig) -> None:
    told: list[Event] = []
    guard = threading.Lock()

    def tell(event: Event) -> None:
        with guard:
            told.append(event)

    requests = {name: rig.request(snapshot=snapshot(name=name)) for name in ("one", "two")}
    store = Store(rig.store.root.with_name("fresh"))
    found = locking.resolve(requests, store, None, tell, catalog=CATALOG)
    assert found.hosts["one"].links == found.hosts["two"].links
    assert any("waiting for one" in event.text for event in told if event.host == "two")
    fetched = {event.host for event in told if event.text.startswith("fetch")}
    assert fetched == {"one"}, "the second host takes what the first has fetched"
