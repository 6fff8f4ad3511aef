"""The accepted deployment of a host as an in-toto statement, and the envelope that carries it signed. Pure.

The statement follows in-toto's ``spec/v1/statement.md``, the envelope DSSE 1.0 (``protocol.md``, ``envelope.md``), its
signature being OpenSSH's over the bytes that DSSE says. Keys that a reader does not know are ignored, as in-toto asks.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from orchestrator.deployment import StandIn
from orchestrator.evidence import Check
from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from orchestrator.evidence import Evidence
    from orchestrator.lockfile import HostLock
    from orchestrator.manifest import Manifest
    from orchestrator.snapshot import HostSnapshot

#: What DSSE calls the type of a payload that is an in-toto statement.
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
#: The predicate of ours; what it holds is told in ``docs/guides/signing.md``.
PREDICATE_TYPE: Final = "urn:agentrig:accepted-deployment:v1"


class _Told(Noun):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), populate_by_name=True)


class Subject(_Told):
    """What the statement is about: a host by its name, and the digest of what was put on it."""

    name: str
    digest: dict[str, str]


class Machine(_Told):
    """A snapshot in short. Memory in MiB."""

    os: str
    arch: str
    kernel: str = ""
    cpus: int
    ram_mib: int
    gpus: tuple[str, ...] = ()
    driver: str | None = None


class Predicate(_Told):
    """What was accepted, and what was seen. Times are ISO 8601, UTC."""

    agentrig: str
    release: str
    lock_digest: str
    #: Of the host's own decision in the lock: another host's part may change without it.
    decision_digest: str
    snapshot_digest: str
    machine: Machine
    began: str
    ended: str
    checks: tuple[Check, ...]
    stand_ins: tuple[StandIn, ...] = ()


class Statement(_Told):
    """One statement of in-toto's form."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: Literal["urn:agentrig:accepted-deployment:v1"] = Field(
        default=PREDICATE_TYPE, alias="predicateType"
    )
    predicate: Predicate

    def document(self) -> dict[str, Any]:
        """Give the statement as plain JSON types, by in-toto's names."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def host(self) -> str:
        """Give the name of the host that it is about."""
        return self.subject[0].name


def decision_digest(locked: HostLock) -> str:
    """Give ``sha256:`` and the digest of what a lock says of one host."""
    return f"sha256:{locked.fingerprint()}"


def statement(
    manifest: Manifest, evidence: Evidence, locked: HostLock, snapshot: HostSnapshot, agentrig: str
) -> Statement:
    """Give the statement of an accepted deployment; ``agentrig`` is the version that accepted it."""
    ended = datetime.fromisoformat(evidence.began) + timedelta(seconds=evidence.seconds)
    return Statement(
        subject=(Subject(name=evidence.host, digest={"sha256": manifest.fingerprint()}),),
        predicate=Predicate(
            agentrig=agentrig,
            release=manifest.release,
            lock_digest=evidence.lock_digest,
            decision_digest=decision_digest(locked),
            snapshot_digest="sha256:" + snapshot.fingerprint(),
            machine=_in_short(snapshot),
            began=evidence.began,
            ended=ended.isoformat(timespec="seconds"),
            checks=evidence.checks,
            stand_ins=evidence.stand_ins,
        ),
    )


def _in_short(snapshot: HostSnapshot) -> Machine:
    return Machine(
        os=snapshot.os.pretty or f"{snapshot.os.id} {snapshot.os.version_id}",
        arch=snapshot.arch,
        kernel=snapshot.kernel,
        cpus=snapshot.cpus,
        ram_mib=snapshot.ram_mib,
        gpus=tuple(f"{gpu.name} ({gpu.vram_mib} MiB)" for gpu in snapshot.gpus),
        driver=snapshot.driver,
    )


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Give the bytes that a signature of the payload is of: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(payload_type.encode()), payload_type.encode(), len(payload), payload)


def envelope(payload: bytes, signature: str, keyid: str) -> str:
    """Give the envelope of a signed payload; ``keyid`` is the key's fingerprint, a hint that nobody believes."""
    signatures = [{"keyid": keyid, "sig": base64.b64encode(signature.encode()).decode()}]
    document = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return json.dumps(document, indent=2) + "\n"


def opened(text: str) -> tuple[bytes, str]:
    """Give the payload of an envelope and its signatures, one after the other; raises ValueError for none of ours."""
    try:
        document = json.loads(text)
        if document["payloadType"] != PAYLOAD_TYPE:
            message = f"its payload is {document['payloadType']!r}, not {PAYLOAD_TYPE}"
            raise ValueError(message)
        made = [base64.b64decode(one["sig"], validate=True).decode() for one in document["signatures"]]
        return base64.b64decode(document["payload"], validate=True), "\n".join(made)
    except (KeyError, TypeError, AttributeError) as error:
        message = "it is no envelope of DSSE"
        raise ValueError(message) from error
    except (json.JSONDecodeError, binascii.Error, UnicodeDecodeError) as error:
        message = f"it is no envelope of DSSE: {error}"
        raise ValueError(message) from error


def read_statement(payload: bytes) -> Statement:
    """Read a payload; raises ValueError for a statement of another kind."""
    try:
        return Statement.from_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"it is no statement of an accepted deployment: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ValueError(message) from error
