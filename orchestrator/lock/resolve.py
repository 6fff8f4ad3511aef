"""``resolve``: from requests to a lock, and every byte that is applied in the store."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.errors import AgentrigError, LockError
from orchestrator.lock import (
    adopt,
    apt,
    apt_parse,
    arriving,
    image_build,
    npm,
    npm_lock,
    own,
    releases,
    runtime,
    weights,
    wheels,
)
from orchestrator.lock.closures import Closures
from orchestrator.lock.former import Former, used_by
from orchestrator.lock.wanted import Request, Target, Wanted, target_of, wanted
from orchestrator.lock.weights import Resolved
from orchestrator.lockfile import HostLock, Lock
from orchestrator.progress import Event
from orchestrator.rendered import SANDBOX_IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence

    from orchestrator.catalog.rows import AgentRow, Catalog, Device, RuntimeRow
    from orchestrator.lock.store import Store
    from orchestrator.lockfile import Artefact
    from orchestrator.progress import Progress

#: Hosts that are resolved at once; each asks the registries of its own.
_SIDE_BY_SIDE = 4


def resolve(  # noqa: PLR0913 - the room's one door
    requests: Mapping[str, Request],
    store: Store,
    previous: Lock | None,
    progress: Progress,
    *,
    catalog: Catalog,
    upgrade: Collection[str] = (),
    failures: MutableMapping[str, AgentrigError] | None = None,
) -> Lock:
    """Give the lock that holds all that the requests need, and fill the store with what is applied.

    A host that cannot be resolved keeps what ``previous`` has for it and is put into ``failures``; without those the
    first failure ends it all.

    What ``previous`` has for the same request stays and is not asked anew; a blob that is missing is fetched by its
    locked version and digest. Versions move for the names in ``upgrade`` alone (``*``: all). Where nothing changed,
    ``previous`` itself is given. Raises LockError, CatalogError, and UsageError for an unknown name.
    """
    store.tidy()
    former = Former(previous, upgrade)
    former.names_are_known()
    closures = Closures(store, former)
    jobs = [_Job(name, one, store, former, progress, catalog, closures) for name, one in requests.items()]
    found = _all(jobs, progress)
    broken = {name: one for name, one in found.items() if isinstance(one, AgentrigError)}
    if failures is not None:
        failures.update(broken)
    elif broken:
        raise next(iter(broken.values()))
    hosts = {**former.hosts, **{name: one for name, one in found.items() if isinstance(one, HostLock)}}
    artefacts = used_by(hosts.values(), former.artefacts)
    if previous and hosts == previous.hosts and artefacts == previous.artefacts:
        return previous
    return Lock(
        agentrig=__version__, agentrig_digest=own.own_digest(), hosts=dict(sorted(hosts.items())), artefacts=artefacts
    )


def _all(jobs: Sequence[_Job], progress: Progress) -> dict[str, HostLock | AgentrigError]:
    """Run the first host, which what it resolves is then known for, and the others side by side."""

    def outcome(job: _Job) -> HostLock | AgentrigError:
        try:
            return job.run()
        except AgentrigError as error:
            return error

    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE, thread_name_prefix="lock-hosts") as pool:
        for job in jobs[1:]:
            progress(Event("lock", f"waiting for {jobs[0].name}: what they share is resolved once", job.name))
            pool.submit(job.ask_apt)
        first = [outcome(job) for job in jobs[:1]]
        return dict(zip((job.name for job in jobs), [*first, *pool.map(outcome, jobs[1:])], strict=True))


@dataclass(frozen=True, slots=True)
class _Job:
    """One host's part of the lock."""

    name: str
    request: Request
    store: Store
    former: Former
    progress: Progress
    catalog: Catalog
    closures: Closures

    def run(self) -> HostLock:
        """Resolve and fetch packages, runtime and weights side by side."""
        request, snapshot = self.request, self.request.snapshot
        applied = wanted(request.applied, request.packages, self.catalog, snapshot)
        asked = wanted(request.deployment, (), self.catalog, snapshot) if request.rehearsal else None
        with ThreadPoolExecutor(max_workers=6, thread_name_prefix="lock") as pool:
            closing = pool.submit(self._closure, applied.packages)
            guess = self._target(closing, applied.packages)
            links = self._start(pool, applied, guess, apply=True)
            others = self._start(pool, asked, guess, apply=False) if asked else {}
            closure = closing.result()
            target = self._target(closing, applied.packages, sure=True)
            if target != guess:
                links.update(self._start(pool, applied, target, apply=True))
            made = {name: future.result() for name, future in links.items()}
            real = {name: future.result() for name, future in others.items()}
        self.former.know(one for each in (*made.values(), *real.values()) for one in each.all)
        self.former.know(closure.debs)
        return HostLock(
            profile_digest=request.profile_digest,
            hardware_digest=request.snapshot.hardware_digest(),
            deployment=request.deployment,
            rehearsal=request.rehearsal,
            stand_ins=request.stand_ins,
            links={name: each.top.id for name, each in made.items()},
            debs=tuple(deb.id for deb in closure.debs),
            packages=applied.packages,
            upgrades=closure.upgrades,
            leans_on=closure.leans_on,
            asked=tuple(each.top.id for each in real.values()),
        )

    def ask_apt(self) -> None:
        """Have the host's closure resolved before its turn comes; what fails is told then."""
        request = self.request
        packages = wanted(request.applied, request.packages, self.catalog, request.snapshot).packages
        if self.former.closure(self.request.snapshot, packages) is None:
            with contextlib.suppress(AgentrigError):
                self.closures.of(self.name, self.request.snapshot, packages, self.request.components)

    def _start(
        self, pool: ThreadPoolExecutor, what: Wanted, target: Target, *, apply: bool
    ) -> dict[str, Future[Resolved]]:
        agents = what.agents if apply else ()
        started: dict[str, Future[Resolved]] = {row.name: pool.submit(self._agent, row, target) for row in agents}
        if apply and what.image:
            started[SANDBOX_IMAGE] = pool.submit(self._image, what.image)
        if what.weights is None:
            return {**started}
        return {
            "runtime": pool.submit(self._runtime, what.runtime, target, apply=apply, device=what.device),
            "llm": pool.submit(self._weights, what, target, apply=apply),
            **started,
        }

    def _target(self, closing: Future[apt.Closure], packages: tuple[str, ...], *, sure: bool = False) -> Target:
        """Give what wheels must suit; before the closure is known, from the interpreter that the host has now."""
        snapshot = self.request.snapshot
        now = snapshot.python.version if snapshot.python else None
        if sure or now is None or self.former.closure(snapshot, packages) is not None:
            installed = {package.name: package.version for package in snapshot.packages}
            installed.update({deb.name: deb.version for deb in closing.result().debs})
            now = apt_parse.interpreter(installed, now)
        if now is None:
            raise LockError(
                "the host has no /usr/bin/python3, and no package of the lock brings one",
                where=self.name,
                do="install python3 there, or name python3-venv among the packages",
            )
        return target_of(snapshot, now)

    def _closure(self, packages: tuple[str, ...]) -> apt.Closure:
        snapshot = self.request.snapshot
        closure = self.former.closure(snapshot, packages)
        if closure is None:
            self._tell(f"resolving apt packages: {' '.join(packages)}")
            closure = self.closures.of(self.name, snapshot, packages, self.request.components)
        parts = self.request.components
        with self.former.turn(f"apt:{snapshot.os.codename}"):
            self._fetch(
                closure.debs, lambda missing: apt.fetch_debs(missing, snapshot, self.store, parts), "apt packages"
            )
        return closure

    def _image(self, packages: tuple[str, ...]) -> Resolved:
        """Resolve the image of the containers for the host's own system, and build it where the store lacks it."""
        snapshot, title = self.request.snapshot, "the image of the sandboxes"
        source = image_build.source_of(snapshot, packages)
        with self.former.turn(source):
            found = self.former.resolved(self.name, source, again=True)
            if found is None:
                self._tell(f"resolving {title}: {' '.join(packages)}")
                held = self.former.held_of_image(source)
                found = image_build.resolve_built(SANDBOX_IMAGE, snapshot, packages, self.store, held)
            with self.former.turn(f"apt:{snapshot.os.codename}"):
                self._fetch(
                    image_build.debs_of(found), lambda missing: apt.fetch_debs(missing, snapshot, self.store), title
                )
            self._tell(f"building {title}")
            found = image_build.with_tarball(found, self.store)
            self.former.know(found.all)
        return found

    def _agent(self, row: AgentRow, target: Target) -> Resolved:
        if row.install.kind == "venv":
            return self._runtime(row, target, apply=True)
        machine = npm_lock.Machine(target.arch, frozenset(self.request.snapshot.cpu_flags))
        source, text = npm_lock.source_of(row, target, machine), f"resolving {row.title}"
        with self.former.turn(source):
            found = self.former.resolved(self.name, source, again=True)
            if found is None:
                self._tell(text)
                with arriving.told(lambda done, total: self._tell(text, done, total)):
                    found = npm.resolve_tree(row, target, machine, self.store, self.former.held(row.name))
            self._fetch(found.parts, lambda missing: npm.fetch_tarballs(missing, self.store), row.title)
            self.former.know(found.all)
        return found

    def _runtime(self, row: RuntimeRow | AgentRow, target: Target, *, apply: bool, device: Device = "cpu") -> Resolved:
        if row.install.kind == "binary":
            return self._binary(row, target, device, apply=apply)
        source = runtime.source_of(row, target)
        with self.former.turn(source):
            found = self._runtime_once(row, source, target, apply=apply)
            self.former.know(found.all)
        return found

    def _binary(self, row: RuntimeRow, target: Target, device: Device, *, apply: bool) -> Resolved:
        source = releases.source_of(row, target, device)
        with self.former.turn(source):
            found = self.former.resolved(self.name, source, again=apply)
            if found is None:
                self._tell(f"resolving {row.title}")
                found = releases.resolve_release(row, target, device, self.store)
            if apply:
                self._fetch(found.all, lambda missing: releases.fetch_releases(missing, self.store), row.title)
            self.former.know(found.all)
        return found

    def _runtime_once(self, row: RuntimeRow | AgentRow, source: str, target: Target, *, apply: bool) -> Resolved:
        found = self.former.resolved(self.name, source, again=apply)
        if found is None:
            self._tell(f"resolving {row.title}")
            try:
                found = runtime.resolve_runtime(row, target, self.store, self.former.held(row.name))
            except LockError as error:
                if apply:
                    raise
                return Resolved(runtime.unresolved(row, target, error.what))
            if apply:
                found = self._fetched_runtime(found, target)
        elif apply:
            self._fetch(found.parts, lambda missing: wheels.fetch_wheels(missing, target, self.store), row.title)
        return found

    def _fetched_runtime(self, found: Resolved, target: Target) -> Resolved:
        """Fetch a runtime's wheels and give them with the sizes that are known now."""
        self._fetch(found.parts, lambda missing: wheels.fetch_wheels(missing, target, self.store), found.top.name)
        parts = wheels.sized(found.parts, self.store)
        total = sum(part.bytes or 0 for part in parts) or None
        return Resolved(found.top.model_copy(update={"bytes": total}), parts)

    def _weights(self, what: Wanted, target: Target, *, apply: bool) -> Resolved:
        if what.weights is None:
            raise LockError(f"{what.runtime.title} serves no weights of ours", where=self.name)
        source, text = weights.source_of(what.weights), f"resolving {what.weights.llm} {what.weights.quant}"
        with self.former.turn(source):
            found = self.former.resolved(self.name, source, again=apply)
            if found is None:
                for one in what.weights.files:
                    if one.sha256 and not self.store.has(one.sha256):
                        adopt.adopt_one(one.sha256, one.member, self.store, self._tell)
                self._tell(text)
                with arriving.told(lambda done, total: self._tell(text, done, total)):
                    found = weights.resolve_weights(what.weights, target, self.store)
            if apply:
                self._fetch(
                    found.all, lambda missing: weights.fetch_weights(missing, target, self.store), what.weights.llm
                )
            self.former.know(found.all)
        return found

    def _fetch(self, artefacts: Iterable[Artefact], fetch: Callable[[list[Artefact]], None], what: str) -> None:
        wanted = tuple(artefacts)
        adopt.adopt(wanted, self.store, self._tell)
        missing = absent(wanted, self.store)
        if not missing:
            return
        known = sum(one.bytes or 0 for one in missing) if all(one.bytes for one in missing) else None
        text = f"fetching {what}: {len(missing)} file{'s' if len(missing) > 1 else ''}"
        self._tell(text, 0 if known else None, known)
        try:
            with arriving.told(lambda done, total: self._tell(text, done, known or total)):
                fetch(missing)
        except LockError as error:
            raise type(error)(_lacking(missing, error.what), where=error.where, do=error.do) from error
        done = sum(self.store.path(str(one.digest)).stat().st_size for one in missing)
        self.progress(Event("lock", f"fetched {what}", self.name, done, done, "ok"))

    def _tell(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.progress(Event("lock", text, self.name, done, total))


def _lacking(artefacts: Sequence[Artefact], said: str) -> str:
    """Say what of a lock the store lacks, and why it could not be fetched."""
    first = f"{artefacts[0].name} {artefacts[0].version}"
    more = f" and {len(artefacts) - 1} more" if len(artefacts) > 1 else ""
    return said if first in said else f"the store lacks {first}{more}, and it could not be fetched: {said}"


def absent(artefacts: Iterable[Artefact], store: Store) -> list[Artefact]:
    """Give the artefacts that are fetched, known by digest, and not in the store."""
    fetched = (one for one in artefacts if one.kind in {"deb", "wheel", "npm", "file", "binary"} and one.digest)
    return [one for one in fetched if not store.has(str(one.digest))]


def missing(lock: Lock, host: str, store: Store) -> tuple[Artefact, ...]:
    """Give what a host uses and the store does not have; what has no digest counts as missing."""
    used = lock.artefacts_of(host)
    gone = absent(used, store)
    return tuple(one for one in used if one.digest is None or one in gone)
