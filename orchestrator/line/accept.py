"""The second half of the line: what was applied is read again, tried, and accepted or not."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.detect import Question
from orchestrator.errors import AgentrigError, SignatureError, VerifyError
from orchestrator.evidence import AREAS, Check, Evidence
from orchestrator.line.draft import unread
from orchestrator.line.measured import calibrated, tried_check
from orchestrator.line.values import Draft, Endpoint
from orchestrator.manifest import Manifest, Reading, compare, restore
from orchestrator.signing import HOST_SIGNERS, Kind, Signers
from orchestrator.signing import check as check_signature
from orchestrator.verify import AGAIN_NAMES, Subject

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from orchestrator.catalog.rows import WireForm
    from orchestrator.deployment import Deployment, StandIn
    from orchestrator.detect import Answer
    from orchestrator.evidence import Area
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports, Way
    from orchestrator.lockfile import Lock
    from orchestrator.verify.gateway import Form


def accept(one: Draft, manifest: Manifest, lock: Lock, way: Way) -> Evidence:
    """Give the evidence of one host: its reading against the manifest, every check, and again after a restart."""
    seconds = float(one.rendered.variables.get("runtime_seconds", 0))
    found = examine(
        one.host, one.applied, one.stand_ins, manifest, lock.lock_digest, AREAS, way, restart_within=seconds
    )
    return found.model_copy(update={"checks": found.checks + tried_check(one)})


def examine(  # noqa: PLR0913, PLR0917 - the values of one acceptance
    host: Host,
    deployment: Deployment,
    stand_ins: tuple[StandIn, ...],
    manifest: Manifest,
    lock_digest: str,
    areas: Collection[Area],
    way: Way,
    *,
    restart_within: float | None = None,
) -> Evidence:
    """Run the checks of some areas against a host that has a manifest.

    With ``restart_within`` its runtime is then started anew, and must answer within so many seconds; without it
    nothing on the host is changed.
    """
    began, start = datetime.now(tz=UTC).isoformat(timespec="seconds"), time.monotonic()
    answer = _answer_of(host, manifest, way.ports)
    reading = restored(host, answer, way.ports)
    agrees = (agreement(manifest, reading), taken(answer, lock_digest, way.ports)) if "host" in areas else ()
    state = way.ports.state_of(host)
    with way.ports.reach(host, deployment.gateway_port) as base_url:
        subject = Subject(
            host=host,
            deployment=deployment,
            manifest=manifest,
            reading=reading,
            base_url=base_url,
            token=state.secrets()["gateway_token"],
            runtime_port=deployment.runtime_port,
            agents=tuple(row for name, row in way.ports.catalog.agents.items() if name in deployment.agents),
            lacking=lacking(deployment, way.ports),
        )
        checks = agrees + way.ports.accept(subject, areas, way.progress)
        if restart_within is not None:
            checks += after_restart(subject, checks, restart_within, way)
    return Evidence(
        host=host.name,
        deployment_id=manifest.release,
        lock_digest=lock_digest,
        manifest_digest=manifest.fingerprint(),
        began=began,
        seconds=round(time.monotonic() - start, 2),
        checks=checks,
        stand_ins=stand_ins,
        calibration=calibrated(answer, deployment),
    )


def after_restart(subject: Subject, before: tuple[Check, ...], within: float, way: Way) -> tuple[Check, ...]:
    """Start the runtime of a host anew and give the checks of what then answers; skipped where it would prove nothing.

    ``before`` are the checks so far: what is not accepted anyway is not made to start again.
    """
    failed = next((check.name for check in before if check.result == "failed"), None)
    foreign = subject.deployment.runtime_url
    if failed or foreign:
        why = f"{foreign} is not ours to start anew" if foreign else f"not accepted before it: {failed}"
        return _untried(why, "endpoint", "tools")
    try:
        seconds = way.ports.restart(subject.host, subject.manifest, way.progress)
    except AgentrigError as error:
        started = Check(area="endpoint", name=AGAIN_NAMES[0], result="failed", detail=error.what)
        return (started, *_untried("it did not start", "tools"))
    return way.ports.again(subject, seconds, within, way.progress)


def _untried(why: str, *areas: Area) -> tuple[Check, ...]:
    """Name the checks after a restart that were not tried, of these areas."""
    names: dict[Area, str] = dict(zip(("endpoint", "tools"), AGAIN_NAMES, strict=True))
    return tuple(Check(area=area, name=names[area], result="skipped", detail=why) for area in areas)


def reading_of(host: Host, manifest: Manifest, ports: Ports) -> Reading:
    """Read what the manifest names from its host; raises DetectError."""
    return restored(host, _answer_of(host, manifest, ports), ports)


def _answer_of(host: Host, manifest: Manifest, ports: Ports) -> Answer:
    return ports.ask([Question(host=host, snapshot=False, manifest=manifest, journal=True)])[host.name]


def restored(host: Host, answer: Answer, ports: Ports) -> Reading:
    """Give an answer's reading with placeholders put back; raises DetectError where there is none."""
    if answer.reading is None:
        raise unread(answer, host)
    return restore(answer.reading, ports.state_of(host).filled_digests())


def taken(answer: Answer, lock_digest: str, ports: Ports) -> Check:
    """Hold the lock's signature against those whose locks the host takes: anybody's where its owner named nobody."""
    name, found = "the host takes the lock that it was given", ports.signed_lock(lock_digest)
    if answer.signers is None:
        why = f"there is no {HOST_SIGNERS}: it trusts this control machine"
        return Check(area="host", name=name, result="passed", detail=why)
    if found is None:
        return Check(area="host", name=name, result="failed", detail=f"no signature of {lock_digest} is known here")
    known = Signers(answer.signers, HOST_SIGNERS)
    try:
        signer = check_signature(found.content, found.signature, Kind.LOCK, known, title="its lock", where="")
    except SignatureError as error:
        return Check(area="host", name=name, result="failed", detail=f"{error.what} ({HOST_SIGNERS})")
    return Check(area="host", name=name, result="passed", detail=f"signed by {signer}, whom {HOST_SIGNERS} names")


def agreement(manifest: Manifest, reading: Reading) -> Check:
    """Hold a reading against its manifest: the figure is the number of differences."""
    drift = compare(manifest, reading)
    shown = "; ".join(f"{one.kind} {one.name}: expected {one.expected}, found {one.found}" for one in drift[:3])
    return Check(
        area="host",
        name="the host agrees with its manifest",
        result="failed" if drift else "passed",
        figure=len(drift),
        unit="differences",
        limit=0,
        detail=shown + (f"; and {len(drift) - 3} more" if len(drift) > 3 else ""),  # noqa: PLR2004 - three are shown
    )


def not_accepted(host: str, evidence: Evidence, file: Path) -> VerifyError:
    """Give the failure of an acceptance: the first reason first, and where the rest can be read."""
    failed = [check for check in evidence.checks if check.result == "failed"]
    first = failed[0] if failed else Check(area="host", name="no check ran", result="failed")
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return VerifyError(f"{first.name}: {first.detail or 'failed'}{more}", where=host, do=f"read {file}")


def chat(one: Draft, ports: Ports) -> Check:
    """Have one short chat through the gateway."""
    token = ports.state_of(one.host).secrets()["gateway_token"]
    with ports.reach(one.host, one.applied.gateway_port) as base_url:
        return ports.chat(base_url, token, one.applied.served_name)


def lacking(deployment: Deployment, ports: Ports) -> dict[Form, str]:
    """Give the wire forms that the deployment's runtime does not speak, each with the reason."""
    row = ports.catalog.runtimes[deployment.runtime]
    forms: dict[Form, WireForm] = {"openai": row.openai, "anthropic": row.anthropic}
    return {name: form.why or f"{row.title} does not" for name, form in forms.items() if not form.spoken}


def notes_of(one: Draft, ports: Ports) -> tuple[str, ...]:
    """Give what a host's owner should know of what serves, and which wire form is not there and why."""
    names = {"openai": "OpenAI", "anthropic": "Anthropic"}
    missing = lacking(one.applied, ports).items()
    return (*one.notes, *(f"the {names[form]} wire form is not served: {why}" for form, why in missing))


def endpoint_of(one: Draft, ports: Ports) -> Endpoint:
    """Give where the rig answers from an ordinary shell of the machine that can reach it."""
    return endpoint(one.host, one.applied, ports)


def endpoint(host: Host, deployment: Deployment, ports: Ports) -> Endpoint:
    """Give where a host's rig answers: from this machine where it is here, else on the host itself."""
    row = ports.catalog.runtimes[deployment.runtime]
    base = f"http://127.0.0.1:{deployment.gateway_port}"
    if host.lab:
        with ports.reach(host, deployment.gateway_port) as base:
            pass
    return Endpoint(
        openai=base + "/v1",
        anthropic=base if row.anthropic.spoken else None,
        token_file=ports.state_of(host).token_file,
    )
