"""Every wall of a host's sandboxes, pushed at from inside two of them: the host's own program does it, and tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.evidence import Check
from orchestrator.rendered import CURRENT
from orchestrator.verify.gateway import shown
from orchestrator.verify.on_host import Unasked, ask
from orchestrator.verify.subject import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.verify.on_host import Said
    from orchestrator.verify.subject import Subject

NAME = "the walls of the sandboxes"
PROGRAM = f"{CURRENT}/sandbox/walls.py"
#: Seconds for all probes of a host; two sandboxes are made and taken away in them.
LIMIT_SECONDS = 180


def checks(subject: Subject) -> Iterator[Check]:
    """Give a check for each probe; none for a deployment without sandboxes."""
    if subject.deployment.sandbox is None:
        return
    command = f"/usr/bin/python3 -I {PROGRAM}" + (" --lab" if subject.host.lab else "")
    try:
        yield from told(ask(subject.host, command, LIMIT_SECONDS))
    except Unasked as error:
        yield check("walls", NAME, [str(error)])


def told(said: Said) -> tuple[Check, ...]:
    """Read what the program said, a probe a line; what is no probe is one failed check. Pure."""
    try:
        found = tuple(_check(json.loads(line)) for line in said.stdout.splitlines())
    except (ValueError, KeyError, TypeError):
        return (check("walls", NAME, [f"they answered what is no probe: {shown(said.stdout)}"]),)
    if not found or (said.exit_code and all(one.result != "failed" for one in found)):
        last = next((line for line in reversed(said.stderr.splitlines()) if line.strip()), "no reason was given")
        return (*found, check("walls", NAME, [f"they broke off: {shown(last)}"]))
    return found


def _check(line: dict[str, str]) -> Check:
    detail = f"{line['wall']} ({line['severity']}): {line['detail']}"
    return Check.model_validate({"area": "walls", "name": line["name"], "result": line["result"], "detail": detail})
