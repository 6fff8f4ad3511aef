"""What is done to a host: apply, activate, restart, reboot, stop, remove."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.apply import values as value
from orchestrator.apply.archive import archive_lists
from orchestrator.apply.declare import Told, artefact_keys, declare
from orchestrator.apply.runner import Play, Played, run
from orchestrator.errors import AgentrigError, ApplyError, UsageError
from orchestrator.progress import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orchestrator.inventory import Host
    from orchestrator.lockfile import Lock
    from orchestrator.manifest import Manifest
    from orchestrator.progress import Progress
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import HostSnapshot


@dataclass(frozen=True, slots=True)
class Applied:
    """What apply did: how many tasks changed something, in words what, the release, its manifest, the log.

    ``notes`` are what the host's owner should know, a sentence each.
    """

    changed: int
    release: str
    manifest: Manifest
    log: Path
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """What remove did: how many things changed, in words what, and what stays on the host and why."""

    changed: int
    left: tuple[str, ...]
    log: Path
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activated:
    """What pointing a host at a release did: how many tasks changed something, in words what, the log."""

    changed: int
    changes: tuple[str, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: the releases that are gone, the bytes that were freed, in words what went."""

    gone: tuple[str, ...] = ()
    freed: int = 0
    changes: tuple[str, ...] = ()


def apply(  # noqa: PLR0913, PLR0917 - one step of the line: each is a value of it
    host: Host,
    rendered: Rendered,
    lock: Lock,
    name: str,
    store_root: Path,
    secrets: dict[str, str],
    work_dir: Path,
    progress: Progress,
    *,
    check: bool = False,
    snapshot: HostSnapshot | None = None,
    former: Manifest | None = None,
    signed: tuple[bytes, str] | None = None,
) -> Applied:
    """Bring a host to its rendering; with ``check`` only say what would change.

    ``snapshot`` tells what listened on the host before the first apply; ``former`` is the manifest that it has;
    ``signed`` the bytes of the lock's file and their signature, for a host whose owner asks for one. Raises ApplyError,
    PrivilegeError, SignatureError. Where a new release does not start, the one before it serves again; where there was
    none, the units are stopped and the release is kept for reading.
    """
    keys = _resolved(rendered, lock, name)
    release = rendered.release_id(keys)
    values = role_values(host, rendered, lock, name, store_root, secrets, snapshot, signed)
    if not check:
        units = value.unit_values(rendered, lock, name, keys, secrets)
        links = {name: values[name] for name in ("artefacts_links", "coding_agents_links")}
        _keep(work_dir, release, {**units, **links})
    play = Play("up.yml", values, check=check, hidden=tuple(secrets.values()))
    played = run(host, play, work_dir, progress)
    if played.failure:
        _back(host, played, release, work_dir, progress)
        raise played.failure
    manifest = declare(rendered, lock, name, release, _told(played), secrets=secrets, former=former)
    notes = tuple(played.told.get("agentrig_driver", {}).get("notes", ()))
    return Applied(played.changed, release, manifest, played.log, tuple(played.changes), notes)


def role_values(  # noqa: PLR0913, PLR0917 - what a host is told is made of all of these
    host: Host,
    rendered: Rendered,
    lock: Lock,
    name: str,
    store_root: Path,
    secrets: dict[str, str],
    snapshot: HostSnapshot | None = None,
    signed: tuple[bytes, str] | None = None,
) -> dict[str, Any]:
    """Give the variables of all roles of ``up.yml``, secrets put in; raises ApplyError."""
    keys = _resolved(rendered, lock, name)
    debs, trees = value.debs_of(lock, name), value.trees_of(lock, keys)
    ports = {unit: port for unit, port in value.ports_of(lock, name).items() if unit in _names(rendered)}
    return {
        **value.host_values(rendered, debs, snapshot.listeners if snapshot else (), ports),
        **value.signed_values(name, signed, debs, trees),
        "artefacts_store": str(store_root),
        "artefacts_user": host.user if host.connection == "ssh" else _me(),
        "artefacts_elsewhere": list(value.ELSEWHERE),
        "artefacts_trees": trees,
        "artefacts_debs": debs,
        "artefacts_lists": archive_lists(debs, store_root, store_root.parent / "keys"),
        **value.release_values(rendered, rendered.release_id(keys), keys, secrets),
        **value.unit_values(rendered, lock, name, keys, secrets),
    }


def intended(rendered: Rendered, lock: Lock, name: str, secrets: dict[str, str]) -> Manifest:
    """Give the manifest of what apply is about to put on a host: what ``down`` goes by where apply was killed.

    It names no package: which of them are ours, the host itself remembers before any is installed.
    Raises ApplyError for a lock with an artefact that is unresolved.
    """
    release = rendered.release_id(_resolved(rendered, lock, name))
    return declare(rendered, lock, name, release, Told(), secrets=secrets).model_copy(update={"packages": ()})


def activate(host: Host, manifest: Manifest, work_dir: Path, progress: Progress) -> Activated:
    """Point a host at a release that it has, and start its units with it; raises ApplyError, PrivilegeError."""
    played = _activate(host, manifest.release, work_dir, progress)
    if played.failure:
        raise played.failure
    return Activated(played.changed, tuple(played.changes), played.log)


def sweep(host: Host, releases: Sequence[str], work_dir: Path, progress: Progress) -> Swept:
    """Take releases away from a host, and the artefacts that no release of it uses; raises ApplyError, PrivilegeError.

    What is current or in use stays, whatever is asked for.
    """
    played = run(host, Play("sweep.yml", {"artefacts_swept": list(releases)}), work_dir, progress)
    if played.failure:
        raise played.failure
    told = played.told.get("agentrig_sweep", {})
    return Swept(tuple(told.get("gone", ())), int(told.get("freed", 0)), tuple(played.changes))


def restart(host: Host, manifest: Manifest, work_dir: Path, progress: Progress) -> float:
    """Start a host's runtime anew as its release has it, and give the seconds until it was well.

    Raises ApplyError, PrivilegeError.
    """
    values = {
        **_kept(work_dir, manifest.release),
        "gateway_unit": "",
        "sandbox_host_unit": "",
        "runtime_state": "restarted",
    }
    played = run(host, Play("up.yml", values, phase="verify", tags=("units",)), work_dir, progress)
    if played.failure:
        raise played.failure
    return float(played.told["agentrig_unit"]["seconds"])


def reboot(host: Host, work_dir: Path, progress: Progress) -> None:
    """Reboot a host and wait until it is up again; raises ApplyError, PrivilegeError, UsageError for this machine."""
    if host.connection == "local":
        raise UsageError(
            "this machine is the one that deploy runs on", where=host.name, do="reboot it yourself, then run it again"
        )
    progress(Event("apply", "rebooting", host=host.name))
    played = run(host, Play("reboot.yml", {}), work_dir, progress)
    if played.failure:
        raise played.failure


def stop(host: Host, work_dir: Path, progress: Progress) -> None:
    """Stop our units on a host, their release left for reading; raises ApplyError, PrivilegeError."""
    values: dict[str, Any] = {f"{role}_unit": unit for role, unit in value.UNITS.items()}
    values |= {f"{role}_state": "stopped" for role in value.UNITS}
    played = run(host, Play("up.yml", values, tags=("units",)), work_dir, progress)
    if played.failure:
        raise played.failure


def remove(host: Host, manifests: Sequence[Manifest], work_dir: Path, progress: Progress, *, purge: bool) -> Removed:
    """Stop and take away what manifests name; with ``purge`` also store, releases, packages and users.

    What was on the host before stays and is listed. Raises ApplyError, PrivilegeError.
    """
    values = value.away_values(manifests, purge=purge)
    played = run(host, Play("down.yml", values, phase="down"), work_dir, progress)
    if played.failure:
        raise played.failure
    left = tuple(played.told.get("agentrig_packages", {}).get("left", ()))
    return Removed(played.changed, left, played.log, tuple(played.changes))


def _resolved(rendered: Rendered, lock: Lock, name: str) -> dict[str, str]:
    try:
        return artefact_keys(rendered, lock, name)
    except (KeyError, ValueError) as error:
        raise ApplyError(f"the lock cannot be applied: {error}", where=name, do="deploy lock") from error


def _names(rendered: Rendered) -> set[str]:
    return {unit.name for unit in rendered.units}


def _me() -> str:
    import pwd  # noqa: PLC0415 - not on every control machine

    return pwd.getpwuid(os.geteuid()).pw_name


def _told(played: Played) -> Told:
    packages = played.told.get("agentrig_packages", {})
    return Told(
        trees=played.told.get("agentrig_trees", {}).get("trees", {}),
        archive=packages.get("files", {}),
        masked=tuple(packages.get("masked", ())),
        before=played.told.get("agentrig_host", {}).get("before", {}),
        engine=played.told.get("agentrig_engine", {}),
    )


def _back(host: Host, played: Played, release: str, work_dir: Path, progress: Progress) -> None:
    """After a failure: bring back the release that served before, or stop what was started."""
    previous = played.told.get("agentrig_release", {}).get("previous")
    if previous is None or previous == release or f"make release {release} current" not in played.changes:
        return
    try:
        if previous:
            progress(Event("apply", f"bringing release {previous} back", host=host.name))
            second = _activate(host, previous, work_dir, progress).failure
            if second:
                raise second
        else:
            stop(host, work_dir, progress)
    except AgentrigError as error:
        played.failure = ApplyError(
            f"{played.failure.what if played.failure else ''}; and it could not be undone: {error.what}",
            where=host.name,
            do=f"the log tells more: {played.log}",
        )


def _activate(host: Host, release: str, work_dir: Path, progress: Progress) -> Played:
    values = {"artefacts_release": release, **_kept(work_dir, release)}
    return run(host, Play("up.yml", values, tags=("activate",)), work_dir, progress)


def _keep(work_dir: Path, release: str, values: Mapping[str, Any]) -> None:
    """Keep what a release's units need to start, so that it can be made current again. No secret is in it."""
    folder = work_dir / "releases"
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{release}.{os.getpid()}"
    beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / f"{release}.json")


def _kept(work_dir: Path, release: str) -> dict[str, Any]:
    path = work_dir / "releases" / f"{release}.json"
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ApplyError(
            f"release {release} was not put there from this machine", where=str(path), do="run deploy up instead"
        ) from error
    return kept
