"""Attestations: an accepted deployment said and signed, and held against its host later."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from orchestrator import __version__
from orchestrator.errors import SignatureError, SigningError, UsageError, VerifyError
from orchestrator.evidence import Check
from orchestrator.line.accept import agreement, reading_of
from orchestrator.line.status import served_lock
from orchestrator.signing import Kind, check, seen
from orchestrator.statement import (
    decision_digest,
    envelope,
    opened,
    pae,
    read_statement,
    statement,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orchestrator.evidence import Evidence
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports
    from orchestrator.line.values import Draft, HostOutcome
    from orchestrator.lockfile import HostLock, Lock
    from orchestrator.manifest import Manifest
    from orchestrator.snapshot import HostSnapshot
    from orchestrator.state import HostState
    from orchestrator.statement import Statement

SIGNED = "the attestation is signed by one known beforehand"
OF_HOST = "it is of this host"
OF_RELEASE = "it is of the release that runs here"
OF_MANIFEST = "it is of what was put here"
OF_LOCK = "it is of the decision that serves here"
NAMES = (SIGNED, OF_HOST, OF_RELEASE, OF_MANIFEST, OF_LOCK)


class Held(NamedTuple):
    """A statement as it was held against its host."""

    host: str
    checks: tuple[Check, ...]
    said: Statement

    @property
    def refusal(self) -> VerifyError | None:
        """Give the failure that the checks stand for, the first reason first; None where all hold."""
        failed = [one for one in self.checks if one.result == "failed"]
        if not failed:
            return None
        what = f"the attestation does not hold: {failed[0].detail or failed[0].name}"
        return VerifyError(what, where=self.host, do="see what was changed since; deploy up accepts it anew")


def attest(  # noqa: PLR0913, PLR0917 - what a statement is made of
    host: Host, manifest: Manifest, evidence: Evidence, lock: Lock, snapshot: HostSnapshot, ports: Ports
) -> Path:
    """Sign the statement of an accepted deployment and keep it; gives its file. Raises SigningError."""
    state = ports.state_of(host)
    payload = statement(manifest, evidence, lock.hosts[host.name], snapshot, __version__).to_json().encode()
    signature = ports.sign(pae(payload), Kind.ATTESTATION)
    said = seen(signature)
    state.keep_attestation(manifest.release, envelope(payload, signature, said.fingerprint if said else ""))
    return state.attestation_file


def with_attestation(one: Draft, outcome: HostOutcome, lock: Lock, ports: Ports) -> HostOutcome:
    """Give the outcome of a host with its signed statement, made where the host was accepted anew or has none.

    A rig without one serves all the same: what kept the owner's key from signing is a note.
    """
    state, evidence = ports.state_of(one.host), outcome.evidence
    manifest = state.manifest()
    if manifest is None or evidence is None or outcome.error or not evidence.accepted:
        return outcome
    if outcome.result == "unchanged" and attested(state, manifest):
        return replace(outcome, attestation=state.attestation_file)
    try:
        return replace(outcome, attestation=attest(one.host, manifest, evidence, lock, one.snapshot, ports))
    except SigningError as error:
        note = f"no attestation was made: {error}{'; ' + error.do if error.do else ''}"
        return replace(outcome, notes=(*outcome.notes, note))


def attested(state: HostState, manifest: Manifest) -> bool:
    """Tell whether the statement that is kept of a host is of this manifest."""
    with contextlib.suppress(OSError, ValueError):
        said = read_statement(opened(state.attestation_file.read_text(encoding="utf-8"))[0])
        return said.subject[0].digest.get("sha256") == manifest.fingerprint()
    return False


def hold(file: Path, text: str, hosts: Sequence[Host], lock_of: Callable[[Host], Lock | None], ports: Ports) -> Held:
    """Hold a statement against the host that it names, as that is now; raises UsageError, DetectError.

    Of several hosts it is held against the one that it names; a single one must be that.
    """
    try:
        payload, signature = opened(text)
        said = read_statement(payload)
    except ValueError as error:
        raise UsageError(
            f"this is no attestation: {error}", where=str(file), do="give one that deploy up wrote"
        ) from error
    host = next((one for one in hosts if one.name == said.host), hosts[0])
    manifest, lock = ports.state_of(host).manifest(), lock_of(host)
    locked = served_lock(host, lock, ports)
    if manifest is None or locked is None:
        raise UsageError("nothing of ours is known to run there", where=host.name, do="bring it up first: deploy up")
    try:
        signer = check(
            pae(payload), signature, Kind.ATTESTATION, ports.signers(), title="the attestation", where=str(file)
        )
    except SignatureError as error:
        why = error.what if error.reason != "edited" else "the attestation is not what was signed: it was edited since"
        return Held(host.name, (_check(SIGNED, why), *_untried(NAMES[1:])), said)
    signed = _check(SIGNED, "", f"by {signer}")
    if said.host != host.name:
        strange = _check(OF_HOST, f"it is of another host: {said.host}, not {host.name}")
        return Held(host.name, (signed, strange, *_untried(NAMES[2:])), said)
    reading = reading_of(host, manifest, ports)
    facts = (_of_release(said, manifest), _of_manifest(said, manifest), _of_lock(said, locked, lock))
    return Held(host.name, (signed, _check(OF_HOST, ""), *facts, agreement(manifest, reading)), said)


def _of_release(said: Statement, manifest: Manifest) -> Check:
    former = f"it is of a former release: {said.predicate.release}; {manifest.release} runs there"
    return _check(OF_RELEASE, former if said.predicate.release != manifest.release else "", manifest.release)


def _of_manifest(said: Statement, manifest: Manifest) -> Check:
    stated, own = said.subject[0].digest.get("sha256", "none"), manifest.fingerprint()
    return _check(OF_MANIFEST, f"it states the manifest {stated}; {own} was put there" if stated != own else "", own)


def _of_lock(said: Statement, locked: HostLock, lock: Lock | None) -> Check:
    own, stated = decision_digest(locked), said.predicate.decision_digest
    if own != stated:
        return _check(OF_LOCK, f"what serves was decided otherwise than was accepted: {own}, not {stated}")
    moved = lock is None or lock.lock_digest != said.predicate.lock_digest
    return _check(OF_LOCK, "", f"{said.predicate.lock_digest}{', the lock has changed since' if moved else ''}")


def _check(name: str, why: str, detail: str = "") -> Check:
    """Give a check that failed where there is a reason why, and passed where there is none."""
    return Check(area="host", name=name, result="failed" if why else "passed", detail=why or detail)


def _untried(names: Sequence[str]) -> tuple[Check, ...]:
    why = "what it says is not believed"
    return tuple(Check(area="host", name=name, result="skipped", detail=why) for name in names)
