"""Each agent of a host run once, headless: what counts is what the gateway logged for it, not how it says it ended."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.people import AGENT_USER
from orchestrator.rendered import CURRENT
from orchestrator.verify.gateway import shown
from orchestrator.verify.on_host import Unasked, ask
from orchestrator.verify.subject import Figure, check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.catalog.rows import AgentRow
    from orchestrator.evidence import Check
    from orchestrator.verify.subject import Subject

#: Seconds that one agent may take: a CPU reads a prompt of six thousand tokens in a minute, and some ask twice.
LIMIT_SECONDS = 480
#: What the connection and the repository may take beside it.
_AROUND_SECONDS = 60
_LOG_TAG = "agentrig_gateway"
#: One line of the gateway's access log, as its configuration writes it.
_LINE = re.compile(r"^(\S+) \S+ (\S+) (\S+) -> (\d{3}) in \S+ \d+ bytes in, (\d+) bytes out$")
_PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
_ANSWERED = range(200, 300)
#: Bytes sent back of the shortest answer: a stream's headers, which come before its first word, have about 200.
_LEAST_BYTES = 400

FILE = "greeting.py"
TASK = f"Change {FILE} so that greet returns 'Good morning, ' and the name in the place of 'Hello, ' and the name."
FILES = {
    FILE: 'def greet(name: str) -> str:\n    return "Hello, " + name\n',
    "README.md": "# Greeting\n\nOne function that greets.\n",
}


class Seen(NamedTuple):
    """One request that the gateway logged."""

    method: str
    path: str
    status: int
    bytes_out: int

    @property
    def answered(self) -> bool:
        """Tell whether an answer went back, not just the head of one that was cut off."""
        return self.status in _ANSWERED and self.bytes_out >= _LEAST_BYTES


def checks(subject: Subject) -> Iterator[Check]:
    """Give a check for each agent of the host, one after the other."""
    for row in subject.agents:
        yield judged(row, _tried(row, subject))


def name_of(row: AgentRow) -> str:
    """Give the name of an agent's check."""
    return f"{row.title}: its requests arrive and are answered"


def judged(row: AgentRow, outcome: dict[str, Any] | str) -> Check:
    """Tell whether requests of an agent arrived and were answered; what it made of the answers is said, not judged."""
    name = name_of(row)
    if isinstance(outcome, str):
        return check("agents", name, [outcome])
    requests = requests_of(outcome["requests"])
    wire = [one for one in requests if one.path == _PATHS[row.wire]]
    answered = [one for one in wire if one.answered]
    faults = []
    if not requests:
        faults.append(f"none reached the gateway; it ended with {outcome['exit_code']}: {_last(outcome['said'])}")
    elif not answered:
        faults.append(f"none was answered: {_counted(requests)}")
    detail = f"{_counted(requests)}; it ended with {_ended(outcome)}; {_changed(outcome)}"
    return check("agents", name, faults, detail, Figure(len(answered), "requests answered", 1))


def requests_of(lines: Sequence[str]) -> tuple[Seen, ...]:
    """Give what the lines of the gateway's log say; pure. A line of another form is none of its."""
    found = (_LINE.match(line) for line in lines)
    return tuple(Seen(match[2], match[3], int(match[4]), int(match[5])) for match in found if match)


def _tried(row: AgentRow, subject: Subject) -> dict[str, Any] | str:
    """Run an agent on its host; give what came of it, or why that is not known."""
    values = {"task": TASK, "file": FILE}
    question = {
        "command": [f"{CURRENT}/agents/{row.name}/{row.command}", *(word.format(**values) for word in row.headless)],
        "files": FILES,
        "user": AGENT_USER,
        "seconds": LIMIT_SECONDS,
        "log_tag": _LOG_TAG,
        "token": f"{CURRENT}/agents/tokens/{AGENT_USER}",
        "unit": f"agentrig-try-{row.name}-{secrets.token_hex(4)}",
    }
    text = Path(__file__).with_name("try_agent.py").read_text(encoding="utf-8")
    line = shlex.join(["/usr/bin/python3", "-I", "-c", text, json.dumps(question)])
    try:
        answer = ask(subject.host, line, LIMIT_SECONDS + _AROUND_SECONDS)
    except Unasked as error:
        return str(error)
    try:
        outcome: dict[str, Any] = json.loads(answer.stdout)
    except ValueError:
        return f"it could not be tried: {_last(answer.stderr or answer.stdout)}"
    return outcome


def _counted(requests: Sequence[Seen]) -> str:
    counted = Counter(
        f"{one.method} {one.path} -> {one.status}"
        + (", cut off before its first word" if one.status in _ANSWERED and not one.answered else "")
        for one in requests
    )
    return ", ".join(f"{count} x {what}" for what, count in counted.items()) or "no request"


def _ended(outcome: dict[str, Any]) -> str:
    limit = ", stopped at its time limit" if outcome["timed_out"] else ""
    return f"{outcome['exit_code']} after {outcome['seconds']:.0f} s{limit}"


def _changed(outcome: dict[str, Any]) -> str:
    files = [line.split("|")[0].strip() for line in outcome["diff"].splitlines() if "|" in line]
    return f"it changed {', '.join(files)}" if files else "it changed no file"


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return shown(lines[-1]) if lines else "it said nothing"
