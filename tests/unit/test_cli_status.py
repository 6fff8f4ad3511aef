"""The table of ``status``: a row a host, whatever became of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.catalog.loader import load, profile
from orchestrator.cli.status import status_lines, table_lines
from orchestrator.errors import Unreachable
from orchestrator.evidence import Check, Evidence
from orchestrator.line.values import HostStatus
from orchestrator.manifest import Drift
from orchestrator.plan import plan
from tests.unit.test_line_up import SNAPSHOT

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CATALOG = load()
CHOSEN = plan(SNAPSHOT, profile(CATALOG, "cpu"), CATALOG)


def status(name: str, **said: Any) -> HostStatus:
    known: dict[str, Any] = {
        "deployment_id": "916704c7f46b7e5a",
        "manifest_digest": "0" * 64,
        "drift": (),
        "serving": True,
        "snapshot": None,
        "evidence": evidence(timedelta(minutes=5)),
        "endpoint": None,
        "deployment": CHOSEN,
    }
    return HostStatus(name=name, **(known | said))


def evidence(age: timedelta, result: Any = "passed") -> Evidence:
    return Evidence(
        host="ada",
        deployment_id="d",
        lock_digest="l",
        manifest_digest="m",
        began=(NOW - age).isoformat(timespec="seconds"),
        seconds=1,
        checks=(Check(area="endpoint", name="chat", result=result),),
    )


def test_every_host_has_a_row_and_the_reason_stands_below() -> None:
    away = Unreachable("deploy@forge port 22: the connection was refused", where="forge", do="see whether it is on")
    drift = Drift(kind="file", name="/opt/agentrig/x", expected="mode 0644", found="mode 0666")
    lines = table_lines(
        [
            status("ada"),
            status("grace", drift=(drift,), serving=False, evidence=evidence(timedelta(days=3))),
            status("forge", error=away, serving=False, evidence=None),
            status("bare", deployment_id=None, deployment=None, evidence=None),
        ],
        NOW,
    )
    rows = [line.split() for line in lines[:5]]
    assert rows[0] == ["HOST", "SERVES", "PROFILE", "WINDOW", "DRIFT", "ACCEPTED"]
    assert rows[1] == ["ada", CHOSEN.llm, "cpu", str(CHOSEN.context_tokens), "none", "5", "min", "ago"]
    assert rows[2] == ["grace", "not", "serving", "cpu", str(CHOSEN.context_tokens), "1", "3", "d", "ago"]
    assert rows[3][:2] == ["forge", "unreachable"]
    assert rows[4] == ["bare", "nothing", "of", "ours", "-", "-", "-", "-"]
    assert lines[5:] == [
        "grace:",
        "  drift: file /opt/agentrig/x: expected mode 0644, found mode 0666",
        "forge: deploy@forge port 22: the connection was refused",
        "  see whether it is on",
    ]


@pytest.mark.parametrize(
    ("age", "said"),
    [(timedelta(seconds=9), "9 s ago"), (timedelta(hours=5), "5 h ago"), (timedelta(days=40), "40 d ago")],
)
def test_the_age_of_the_evidence_is_told(age: timedelta, said: str) -> None:
    assert table_lines([status("ada", evidence=evidence(age))], NOW)[1].endswith(said)


def test_what_was_not_accepted_was_never_accepted() -> None:
    refused = status("ada", evidence=evidence(timedelta(minutes=1), "failed"))
    assert table_lines([refused], NOW)[1].endswith("never")
    assert "not accepted" in status_lines(refused)[0]


def test_one_host_is_told_in_full() -> None:
    lines = status_lines(status("ada"))
    assert f"{CHOSEN.llm} on xllamacpp" in lines[1]
    assert lines[-1] == "  it is what was put there"
