from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.plan import plan
from orchestrator.plan.interpreters import cannot_interpret, python_of, require_interpreters
from orchestrator.snapshot import OperatingSystem, Python
from tests.unit.planning import catalog, machine


def host(system: str, version: str, python: str | None) -> Any:
    return machine().model_copy(
        update={
            "os": OperatingSystem(id=system, version_id=version),
            "python": Python(version=python) if python else None,
        }
    )


def with_agents(*names: str) -> Any:
    return catalog().profiles["cpu"].model_copy(update={"agents": names})


def test_a_host_without_python_counts_with_its_distributions() -> None:
    assert python_of(host("ubuntu", "24.04", None)) == "3.12"
    assert python_of(host("debian", "13", "3.12.9")) == "3.12.9"
    assert python_of(host("gentoo", "2", None)) is None


@pytest.mark.parametrize("python", ["3.13.5", None])
def test_an_agent_that_the_host_cannot_run_is_refused_with_what_runs_there(python: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        require_interpreters(host("debian", "13", python), with_agents("opencode", "aider"), catalog())
    row = catalog().agents["aider"]
    assert refused.value.exit_code == 2
    assert refused.value.what == f"Aider {row.version} needs Python {row.install.python}, and the host has " + (
        python or "3.13"
    )
    assert "OpenCode" in refused.value.do
    assert "Debian 12 or Ubuntu 24.04" in refused.value.do
    assert "Debian 13" not in refused.value.do


def test_agents_that_the_host_runs_and_hosts_of_which_nothing_is_known_are_not_refused() -> None:
    require_interpreters(host("debian", "13", "3.13.5"), with_agents("opencode"), catalog())
    require_interpreters(host("ubuntu", "24.04", "3.12.3"), with_agents("aider"), catalog())
    require_interpreters(host("gentoo", "2", None), with_agents("aider"), catalog())


def test_the_plan_refuses_before_it_decides() -> None:
    with pytest.raises(UsageError, match="needs Python"):
        plan(host("debian", "13", "3.13.5"), with_agents("aider"), catalog())


def test_a_runtime_whose_interpreters_leave_out_the_hosts_gives_way_to_another() -> None:
    profile = catalog().profiles["dual-3090"].model_copy(update={"agents": ()})
    two = machine("RTX 3090", "RTX 3090")
    newer = two.model_copy(update={"python": Python(version="3.14.0")})
    reason = cannot_interpret(catalog().runtimes["vllm"], newer)
    assert reason
    assert "3.14.0" in reason
    decided = plan(newer, profile, catalog(), runtime=None)
    assert decided.runtime != "vllm"
    assert any(one.runtime == "vllm" and "needs Python" in one.reason for one in decided.rejections)
