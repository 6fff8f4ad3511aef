"""Two cards that nobody has: planned, locked, rendered and kept as for the real ones, with what stands in named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lab.rig import Rig

HOST = "lab-dual-3090"


@pytest.fixture(scope="module")
def host(rig: Rig) -> dict[str, Any]:
    (host,) = rig.document("up", "--lab", "--profile", "dual-3090")["hosts"]
    return host


def test_it_ends_accepted_with_every_substitution_listed(rig: Rig, host: dict[str, Any]) -> None:
    assert host["error"] is None
    whole = " ".join(f"{one['what']} -> {one['instead']}" for one in host["stand_ins"])
    for word in ("RTX 3090", "NVML", "vLLM", "xllamacpp", "smollm2-135m"):
        assert word.lower() in whole.lower(), f"{word} is not among the stand-ins: {whole}"
    assert all(one["why"] for one in host["stand_ins"])
    verified = rig.document("verify", "--lab", "--limit", HOST, "--only", "tools")
    assert verified["stand_ins"] == host["stand_ins"]


def test_the_lock_holds_the_real_decision_and_nothing_that_was_not_read(rig: Rig, host: dict[str, Any]) -> None:
    del host
    lock = json.loads((rig.state / "lab/deploy.lock").read_text())
    locked = lock["hosts"][HOST]
    assert locked["deployment"]["runtime"] == "vllm"
    assert locked["deployment"]["parallel"]["tensor"] == 2
    assert locked["rehearsal"]["runtime"] == "xllamacpp"
    unresolved = [one for one in lock["artefacts"] if one["digest"] is None]
    assert unresolved, "no hub is in reach of this test"
    assert all(one["why"] for one in unresolved)


def test_the_real_argv_is_rendered_and_kept(rig: Rig, host: dict[str, Any]) -> None:
    kept = rig.state / "lab/rigs" / HOST / "asked"
    unit = (kept / "units/agentrig-runtime.service").read_text()
    assert "--tensor-parallel-size 2" in unit
    assert host["deployment_id"]
    assert rig.read(HOST, "nvidia-smi -L").count("RTX 3090") == 2


def test_a_real_host_is_refused_what_is_not_resolved(rig: Rig) -> None:
    """On this machine there are no such cards, so the line ends before anything is asked of it."""
    document = rig.document("up", "--profile", "dual-3090", "--yes", code=2)
    assert "3090" in document["error"]["what"] + document["error"]["where"] + document["error"]["do"]
    assert document["hosts"] == [] or document["hosts"][0]["result"] == "failed"
