"""The line over stand-in rooms that live in memory: what is skipped, refused, rolled back, and how it ends."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.apply import Activated, Applied, Swept
from orchestrator.catalog.loader import load, profile
from orchestrator.detect import Answer
from orchestrator.errors import AgentrigError, ApplyError, DetectError, LockError, UsageError
from orchestrator.evidence import AREAS, Check
from orchestrator.inventory import Host
from orchestrator.line.locking import lock_inventory
from orchestrator.line.ports import Ports, Way
from orchestrator.line.sizes import Sizes
from orchestrator.line.status import verify
from orchestrator.line.up import up
from orchestrator.line.values import HostOutcome, Outcome, Wish
from orchestrator.lockfile import Artefact, HostLock, Lock
from orchestrator.manifest import Manifest, Reading
from orchestrator.plan import plan, rehearse
from orchestrator.progress import Event, silent
from orchestrator.render import render
from orchestrator.snapshot import HostSnapshot, Listener
from orchestrator.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CATALOG = load()
SNAPSHOT = HostSnapshot.from_json(
    (Path(__file__).parents[1] / "fixtures/snapshots/debian12_4cpu_16gib_no_gpu.json").read_bytes()
).model_copy(update={"name": "one"})
GOOD = Check(area="endpoint", name="chat", result="passed")
BAD = Check(area="endpoint", name="chat", result="failed", detail="no answer")


@dataclass
class Rooms:
    """Stand-ins for the rooms: hosts are entries of dictionaries, and every effect is counted."""

    state: State
    snapshots: dict[str, HostSnapshot] = field(default_factory=dict)
    on_host: dict[str, Manifest] = field(default_factory=dict)
    drifted: set[str] = field(default_factory=set)
    lock: Lock | None = None
    checks: tuple[Check, ...] = (GOOD,)
    after: tuple[Check, ...] = (GOOD,)
    restart_error: ApplyError | None = None
    apply_error: AgentrigError | None = None
    reboot_error: AgentrigError | None = None
    #: Whether what kept apply from its end is gone after a reboot.
    reboot_helps: bool = True
    activate_error: Exception | None = None
    #: Releases that can be made current whatever fails.
    sound: set[str] = field(default_factory=set)
    swept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: What a host lacks of the manifest that it is asked about.
    gone: dict[str, Any] = field(default_factory=dict)
    yes: bool = True
    did: Counter[str] = field(default_factory=Counter)
    unresolved: bool = False
    to_fetch: tuple[Sizes, ...] = ()
    #: Size of the weights in the lock.
    bytes: int = 0
    registry_fails: set[str] = field(default_factory=set)

    def ask(self, questions: Any) -> dict[str, Answer]:
        self.did["ask"] += 1
        answers = {}
        for question in questions:
            name = question.host.name
            if name not in self.snapshots:
                answers[name] = Answer(error={"kind": "unreachable", "what": "no answer", "where": name, "do": "look"})
                continue
            there = self.on_host.get(name)
            reading = None
            if question.manifest:
                reading = strange() if there is None or name in self.drifted else holding(question.manifest)
                reading = reading.model_copy(update=self.gone)
            answers[name] = Answer(snapshot=self.snapshots[name] if question.snapshot else None, reading=reading)
        return answers

    def resolve(
        self, requests: Any, previous: Lock | None, progress: Any, *, upgrade: Any = (), failures: Any = None
    ) -> Lock:
        del progress, upgrade
        self.did["resolve"] += 1
        artefact = Artefact(kind="venv", name="runtime", version="1", digest="sha256:" + "a" * 64, source="a stand-in")
        weights = Artefact(kind="file", name="llm", version="1", digest="sha256:" + "b" * 64, source="a stand-in")
        weights = weights.model_copy(update={"bytes": self.bytes})
        if self.unresolved:
            weights = weights.model_copy(update={"digest": None, "why": "no hub in reach"})
        hosts = dict(previous.hosts) if previous else {}
        for name, request in requests.items():
            if name in self.registry_fails:
                failures[name] = LockError("its archives have nothing for it", where=name)
                continue
            hosts[name] = HostLock(
                profile_digest=request.profile_digest,
                hardware_digest=request.snapshot.hardware_digest(),
                deployment=request.deployment,
                rehearsal=request.rehearsal,
                stand_ins=request.stand_ins,
                links=dict.fromkeys(request.applied.agents, artefact.id) | {"runtime": artefact.id, "llm": weights.id},
            )
        return Lock(agentrig="0", hosts=hosts, artefacts=(artefact, weights))

    def apply(self, host: Host, rendered: Any, lock: Lock, *_: Any, check: bool) -> Applied:
        self.did["apply"] += 1
        if self.apply_error:
            raise self.apply_error
        known, links = lock.by_id(), lock.hosts[host.name].links
        release = rendered.release_id({name: known[links[name]].key for name in rendered.artefacts})
        manifest = Manifest(host=host.name, release=release, deployment_id=release, lock_digest=lock.lock_digest)
        changed = 0 if self.on_host.get(host.name) == manifest and host.name not in self.drifted else 3
        if not check:
            self.on_host[host.name] = manifest
            self.drifted.discard(host.name)
        return Applied(changed, release, manifest, Path("log"))

    def activate(self, host: Host, manifest: Manifest, *_: Any) -> Activated:
        self.did["activate"] += 1
        if self.activate_error and manifest.release not in self.sound:
            raise self.activate_error
        changed = int(self.on_host[host.name].release != manifest.release)
        self.on_host[host.name] = manifest
        return Activated(changed, (f"make release {manifest.release} current",) * changed, Path("log"))

    def sweep(self, host: Host, releases: Sequence[str], *_: Any) -> Swept:
        self.did["sweep"] += 1
        self.swept[host.name] = tuple(releases)
        return Swept(tuple(releases), 1 << 20)

    def reboot(self, host: Host, *_: Any) -> None:
        self.did["reboot"] += 1
        if self.reboot_error:
            raise self.reboot_error
        self.snapshots[host.name] = self.snapshots[host.name].model_copy(update={"problems": ()})
        if self.reboot_helps:
            self.apply_error = None

    def restart(self, *_: Any) -> float:
        self.did["restart"] += 1
        if self.restart_error:
            raise self.restart_error
        return 1.5

    def fetch(self, wanted: Sequence[Sizes]) -> bool:
        self.did["confirm_fetch"] += 1
        self.to_fetch = tuple(wanted)
        return self.yes

    def keep(self, lock: Lock) -> None:
        self.lock = lock
        self.did["write_lock"] += 1

    @property
    def ports(self) -> Ports:
        @contextlib.contextmanager
        def reach(*_: Any) -> Iterator[str]:
            yield "http://127.0.0.1:1"

        return Ports(
            catalog=CATALOG,
            state_of=lambda host: self.state.host(host.name, lab=host.lab),
            ask=self.ask,
            plan=lambda snapshot, wanted: plan(snapshot, wanted, CATALOG),
            rehearse=lambda deployment, snapshot: rehearse(deployment, snapshot, CATALOG),
            render=lambda deployment: render(deployment, CATALOG),
            resolve=self.resolve,
            still_resolves=lambda *_: (),
            read_lock=lambda _: self.lock,
            write_lock=lambda _, lock: self.keep(lock),
            sign_lock=lambda _: pytest.fail("nobody asked to sign a lock"),
            signed_lock=lambda _: None,
            sign=self.state.sign,
            signers=self.state.signers,
            apply=self.apply,
            activate=self.activate,
            restart=self.restart,
            reboot=self.reboot,
            stop=lambda *_: self.did.update(["stop"]),
            sweep=self.sweep,
            remove=lambda *_, **__: pytest.fail("nothing is removed here"),
            reach=reach,
            accept=lambda *_: self.checks,
            again=lambda *_: self.after,
            chat=lambda *_: self.checks[0],
            ready_to_ask=lambda: None,
            confirm=lambda _: self.yes,
            confirm_fetch=self.fetch,
            in_store=lambda _: False,
        )

    def up(self, *names: str, lab: bool = True, wanted: str = "cpu", **wishes: bool) -> Outcome:
        hosts = {name: (Host(name=name, lab=lab), profile(CATALOG, wanted)) for name in names}
        wish = replace(Wish(Path("deploy.lock"), lab=lab), **wishes)
        return up(hosts, wish, Way(self.ports, silent))


def holding(manifest: Manifest) -> Reading:
    """A reading in which all that the manifest declares is there."""
    return Reading(**{name: getattr(manifest, name) for name in Reading.model_fields})


def strange() -> Reading:
    """A reading with a socket that nobody declared."""
    return Reading(listeners=(Listener(protocol="tcp", address="127.0.0.1", port=9),))


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    return Rooms(State(tmp_path), {"one": SNAPSHOT, "two": SNAPSHOT.model_copy(update={"name": "two"})})


def only(outcome: Outcome) -> HostOutcome:
    (host,) = outcome.hosts
    return host


def test_a_fresh_host_goes_all_of_the_way(rooms: Rooms) -> None:
    host = only(rooms.up("one"))
    assert (host.result, host.changed, host.error) == ("changed", 3, None)
    assert rooms.lock is not None
    assert rooms.lock.hosts["one"].deployment.llm == "smollm2-135m"
    assert host.endpoint is not None
    assert host.endpoint.openai.endswith("/v1")


def test_a_host_that_holds_meets_neither_the_registries_nor_ansible(rooms: Rooms) -> None:
    rooms.up("one")
    before = rooms.did.copy()
    host = only(rooms.up("one"))
    assert (host.result, host.changed) == ("unchanged", 0)
    assert rooms.did - before == Counter(ask=1)


@pytest.mark.parametrize("drifted", [False, True])
def test_full_and_drift_meet_ansible(rooms: Rooms, *, drifted: bool) -> None:
    rooms.up("one")
    if drifted:
        rooms.drifted.add("one")
    host = only(rooms.up("one", full=not drifted))
    assert rooms.did["apply"] == 2
    assert host.result == ("changed" if drifted else "unchanged")


def test_where_the_short_chat_fails_the_host_is_accepted_anew(rooms: Rooms) -> None:
    rooms.up("one")
    rooms.checks = (BAD,)
    outcome = rooms.up("one")
    host = only(outcome)
    assert host.result == "failed"
    assert outcome.exit_code == 5
    assert rooms.did["apply"] == 2


def test_not_accepted_without_a_former_release_stops_our_units(rooms: Rooms) -> None:
    rooms.checks = (BAD,)
    outcome = rooms.up("one")
    host = only(outcome)
    assert (host.result, outcome.exit_code) == ("failed", 5)
    assert host.error is not None
    assert host.error.what.startswith("chat: no answer")
    assert rooms.did["stop"] == 1


def test_not_accepted_brings_the_former_release_back(rooms: Rooms) -> None:
    good = only(rooms.up("one"))
    rooms.checks = (BAD,)
    hosts = {"one": (Host(name="one", lab=True), other_port())}
    outcome = up(hosts, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, silent))
    host = only(outcome)
    assert (host.result, outcome.exit_code) == ("rolled_back", 5)
    assert host.deployment_id == good.deployment_id == rooms.on_host["one"].release
    state = rooms.state.host("one", lab=True)
    present = state.manifest()
    assert present is not None
    assert present.release == good.deployment_id


def other_port() -> Any:
    cpu = profile(CATALOG, "cpu")
    return cpu.model_copy(update={"gateway": cpu.gateway.model_copy(update={"port": 8090})})


def test_one_fails_alone(rooms: Rooms) -> None:
    outcome = rooms.up("one", "absent", "two")
    assert [host.result for host in outcome.hosts] == ["changed", "failed", "changed"]
    assert outcome.exit_code == 1


def test_one_that_cannot_be_resolved_fails_alone_and_keeps_its_lock(rooms: Rooms) -> None:
    rooms.up("one", "two")
    assert rooms.lock is not None
    before = rooms.lock.hosts["two"]
    rooms.registry_fails, rooms.drifted = {"two"}, {"one", "two"}
    rooms.apply_error = None
    outcome = rooms.up("one", "two")
    assert [host.result for host in outcome.hosts] == ["changed", "failed"]
    assert "nothing for it" in str(outcome.hosts[1].error)
    assert rooms.lock.hosts["two"] == before


def test_where_nothing_was_resolved_no_lock_is_written(rooms: Rooms) -> None:
    rooms.registry_fails = {"one"}
    assert only(rooms.up("one")).result == "failed"
    assert not rooms.did["write_lock"]


def test_a_disk_on_which_it_does_not_fit_is_refused_before_anything_is_put_there(rooms: Rooms) -> None:
    rooms.bytes = 300 << 20
    rooms.snapshots["two"] = rooms.snapshots["two"].model_copy(update={"disk_free_mib": 60})
    outcome = rooms.up("one", "two")
    assert [host.result for host in outcome.hosts] == ["changed", "failed"]
    error = outcome.hosts[1].error
    assert isinstance(error, ApplyError)
    assert "60 MiB" in error.what
    assert "room" in error.do
    assert rooms.did["apply"] == 1
    rooms.snapshots["two"] = rooms.snapshots["two"].model_copy(update={"disk_free_mib": 6000})
    outcome = rooms.up("one", "two")
    assert [host.result for host in outcome.hosts] == ["unchanged", "changed"]
    assert rooms.did["apply"] == 2, "the one that was done meets no Ansible"


def test_how_it_ends_is_told_as_it_ends(rooms: Rooms) -> None:
    told: list[Event] = []
    hosts = {name: (Host(name=name, lab=True), profile(CATALOG, "cpu")) for name in ("one", "absent")}
    up(hosts, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, told.append))
    assert {(one.host, one.state) for one in told if one.phase == "done"} == {("one", "ok"), ("absent", "failed")}


def test_locked_refuses_what_would_change_the_lock(rooms: Rooms) -> None:
    outcome = rooms.up("one", locked=True)
    error = only(outcome).error
    assert isinstance(error, UsageError)
    assert outcome.exit_code == 2
    assert not rooms.did["apply"]
    rooms.up("one")
    assert only(rooms.up("one", locked=True)).error is None


def test_check_changes_nothing(rooms: Rooms) -> None:
    host = only(rooms.up("one", check=True))
    assert (host.result, host.changed) == ("changed", 3)
    assert not rooms.did["write_lock"]
    assert rooms.state.host("one", lab=True).manifest() is None
    assert rooms.on_host == {}


def test_the_lock_s_decision_stays_until_hardware_or_profile_change(rooms: Rooms) -> None:
    rooms.up("one")
    first = rooms.lock
    rooms.snapshots["one"] = SNAPSHOT.model_copy(update={"ram_free_mib": 17})
    rooms.up("one", full=True)
    assert rooms.lock == first
    rooms.snapshots["one"] = SNAPSHOT.model_copy(update={"ram_mib": SNAPSHOT.ram_mib * 2})
    assert only(rooms.up("one", locked=True)).error is not None


def test_a_taken_port_ends_it_before_anything_is_installed(rooms: Rooms) -> None:
    taken = Listener(protocol="tcp", address="127.0.0.1", port=8080)
    rooms.snapshots["one"] = SNAPSHOT.model_copy(update={"listeners": (taken,)})
    outcome = rooms.up("one")
    error = only(outcome).error
    assert error is not None
    assert "8080" in error.what
    assert outcome.exit_code == 1
    assert not rooms.did["resolve"]


def test_a_real_host_is_asked_first(rooms: Rooms) -> None:
    rooms.yes = False
    with pytest.raises(UsageError):
        rooms.up("one", lab=False)
    assert not rooms.did["apply"]


def test_a_failed_apply_says_so_and_what_served_is_brought_back(rooms: Rooms) -> None:
    good = only(rooms.up("one"))
    rooms.apply_error = ApplyError("the disk is full", where="one", do="make room")
    outcome = up(
        {"one": (Host(name="one", lab=True), other_port())}, Wish(Path("l"), lab=True), Way(rooms.ports, silent)
    )
    host = only(outcome)
    assert outcome.exit_code == 1
    assert host.error is not None
    assert rooms.on_host["one"].release == good.deployment_id


def test_a_real_host_is_refused_by_name_what_is_not_resolved(rooms: Rooms) -> None:
    rooms.unresolved = True
    outcome = rooms.up("one", lab=False)
    error = only(outcome).error
    assert error is not None
    assert "llm" in error.what
    assert "no hub in reach" in error.what
    assert outcome.exit_code == 1
    assert not rooms.did["apply"]


def test_a_rehearsal_s_lock_is_not_taken_over_by_a_real_host(rooms: Rooms) -> None:
    rooms.up("one")
    assert rooms.lock is not None
    locked = rooms.lock.hosts["one"]
    rooms.lock = rooms.lock.model_copy(
        update={"hosts": {"one": locked.model_copy(update={"rehearsal": locked.deployment})}}
    )
    assert "rehearsal" in str(only(rooms.up("one", lab=False, locked=True)).error)


def test_a_part_of_the_checks_accepts_nothing(rooms: Rooms) -> None:
    rooms.up("one")
    host, state = Host(name="one", lab=True), rooms.state.host("one", lab=True)
    rooms.checks = (BAD,)
    assert not verify(host, rooms.lock, AREAS, Way(rooms.ports, silent)).accepted
    rooms.checks = (GOOD,)
    assert verify(host, rooms.lock, ["endpoint"], Way(rooms.ports, silent)).accepted
    kept = state.evidence()
    assert kept is not None
    assert not kept.accepted


def test_a_check_that_fails_brings_nothing_back(rooms: Rooms) -> None:
    rooms.up("one")
    rooms.apply_error = ApplyError("the disk is full", where="one", do="make room")
    hosts = {"one": (Host(name="one", lab=True), other_port())}
    outcome = up(hosts, Wish(Path("deploy.lock"), lab=True, check=True), Way(rooms.ports, silent))
    assert only(outcome).result == "failed"
    assert not rooms.did["activate"]


def test_after_a_roll_back_the_evidence_is_that_of_what_serves(rooms: Rooms) -> None:
    rooms.up("one")
    rooms.checks = (BAD,)
    hosts = {"one": (Host(name="one", lab=True), other_port())}
    host = only(up(hosts, Wish(Path("deploy.lock"), lab=True), Way(rooms.ports, silent)))
    state = rooms.state.host("one", lab=True)
    kept = state.evidence()
    assert kept is not None
    assert kept.accepted
    assert host.evidence_file == state.rejected_file


def test_a_fault_nobody_foresaw_is_one_host_s_own(rooms: Rooms) -> None:
    rooms.apply_error = KeyError("odd")  # type: ignore[assignment]
    outcome = rooms.up("one", "absent")
    assert [host.result for host in outcome.hosts] == ["failed", "failed"]
    assert "KeyError" in str(outcome.hosts[0].error)


def test_a_host_without_systemd_is_refused_before_anything_is_resolved(rooms: Rooms) -> None:
    rooms.snapshots["one"] = SNAPSHOT.model_copy(update={"systemd": False})
    outcome = rooms.up("one", lab=False)
    assert outcome.exit_code == 2
    assert not rooms.did["resolve"]


def test_locking_an_inventory_writes_what_could_be_locked(rooms: Rooms) -> None:
    rooms.registry_fails = {"two"}
    hosts = {name: (Host(name=name), profile(CATALOG, "cpu")) for name in ("absent", "two", "one")}
    with pytest.raises(DetectError) as caught:
        lock_inventory(hosts, Path("deploy.lock"), (), Way(rooms.ports, silent))
    assert caught.value.where == "absent"
    assert rooms.lock is not None
    assert set(rooms.lock.hosts) == {"one"}
