"""What is wrong under the runtimes of hosts: driver, cards and container engine, read and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.catalog.loader import causes
from orchestrator.detect import Question
from orchestrator.machine_doctor import machine_findings, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.doctor import Finding
    from orchestrator.errors import AgentrigError
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports


def with_machines(
    hosts: Sequence[Host], found: Sequence[Finding], errors: Sequence[AgentrigError], ports: Ports
) -> tuple[Finding, ...]:
    """Give findings of hosts with what their machines tell; hosts that could not be read are not asked again."""
    silent = {error.where for error in errors}
    asked = [Question(host=host, snapshot=False, machine=True) for host in hosts if host.name not in silent]
    answers = ports.ask(asked) if asked else {}
    more: list[Finding] = []
    for one in asked:
        logs = answers[one.host.name].machine
        state = ports.state_of(one.host)
        secrets = state.secrets().values() if state.token_file.exists() else ()
        more += machine_findings(logs, causes(), one.host.name, secrets) if logs else ()
    return together(found, more, causes())
