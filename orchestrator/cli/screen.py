"""What a person sees: progress on standard error, and the summary of a run."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orchestrator.evidence import Check
    from orchestrator.line.values import HostOutcome, Proposal
    from orchestrator.progress import Event

_MARK = {"passed": "✓", "failed": "✗", "skipped": "-", "ok": "✓", "changed": "+", "running": "·"}
#: Plain lines say how far a download is at most this often, in seconds.
_QUIET_SECONDS = 5.0
_MIB = 1024 * 1024


class Screen:
    """Progress: one line that moves on a terminal, a line an event where there is none."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self.terminal = sys.stderr.isatty()
        self._status: Any = None
        self._guard = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}

    def tell(self, event: Event) -> None:
        """Show one event."""
        with self._guard:
            text = line_of(event)
            if self.terminal and not self.verbose:
                self._move(text)
            elif event.total is None or event.done == event.total or self._due(event):
                click.echo(text, err=True)

    def _due(self, event: Event) -> bool:
        key, now = (event.phase, event.text), time.monotonic()
        if now - self._last.get(key, float("-inf")) < _QUIET_SECONDS:
            return False
        self._last[key] = now
        return True

    def _move(self, text: str) -> None:
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status(text, spinner="dots")
            self._status.start()
        from rich.markup import escape

        self._status.update(escape(text))

    def close(self) -> None:
        """Take the moving line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def line_of(event: Event) -> str:
    """Give the line of an event: phase, host, what happens, how far."""
    where = f"{event.host}: " if event.host else ""
    far = ""
    if event.total is not None and event.done is not None:
        far = (
            f" {event.done / _MIB:.0f} of {event.total / _MIB:.0f} MiB"
            if event.total > _MIB
            else f" {event.done} of {event.total}"
        )
    return f"{event.phase:>7}  {where}{event.text}{far}"


def check_lines(checks: tuple[Check, ...]) -> list[str]:
    """Give the checks as lines: mark, area, name, figure against its limit."""
    lines = []
    for check in checks:
        figure = "" if check.figure is None else f"  {check.figure:g} {check.unit or ''}".rstrip()
        limit = "" if check.limit is None or check.figure is None else f" (limit {check.limit:g})"
        detail = f"  {check.detail}" if check.detail and check.result != "passed" else ""
        lines.append(f"  {_MARK[check.result]} {check.area:8} {check.name}{figure}{limit}{detail}")
    return lines


def proposal_lines(proposal: Proposal) -> list[str]:
    """Give what is about to be done to real hosts."""
    lines = [f"This will change {', '.join(one.host.name for one in proposal.drafts)}:"]
    for one in proposal.drafts:
        chosen = one.deployment
        lines.append(
            f"  {one.host.name}: {chosen.llm} as {chosen.quant} on {chosen.runtime}, "
            f"{chosen.context_tokens} tokens, gateway on port {chosen.gateway_port}"
        )
    lines.append(f"  {proposal.bytes_to_place / _MIB:.0f} MiB of artefacts are placed under /opt/agentrig")
    lines += [f"  upgrades {one.name} {one.before} -> {one.after}, and keeps it" for one in proposal.upgrades]
    return lines


def outcome_lines(host: HostOutcome) -> list[str]:
    """Give how it ended for one host."""
    lines = [f"{host.name}: {host.result} in {host.seconds:.1f} s ({host.changed} changes)"]
    if host.phases:
        lines.append("  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in host.phases.items()))
    if host.evidence is not None:
        lines.append(f"  checks of {host.evidence.began} ({host.evidence.seconds:.0f} s):")
        lines += ["  " + line for line in check_lines(host.evidence.checks)]
    if host.stand_ins:
        lines.append("  stand-ins:")
        lines += [f"    {one.what} -> {one.instead}: {one.why}" for one in host.stand_ins]
    lines += [f"  {note}" for note in host.notes]
    lines += [f"  stays: {one}" for one in host.left]
    if host.endpoint is not None:
        lines += [f"  OpenAI form     {host.endpoint.openai}"]
        lines += [f"  Anthropic form  {host.endpoint.anthropic}"] if host.endpoint.anthropic else []
        lines += [f"  token           {host.endpoint.token_file}"]
    if host.error is not None:
        lines += [f"  error: {host.error.what}", f"  {host.error.do}"]
    lines += [f"  log             {host.log}"] if host.log else []
    return lines


def try_next(hosts: tuple[HostOutcome, ...], for_real: str | None) -> list[str]:
    """Give two or three lines to try once a rig serves in the lab, and the one for this machine's own cards."""
    served = next((host.endpoint for host in hosts if host.endpoint and not host.error), None)
    if served is None:
        return []
    called = os.path.relpath(sys.argv[0]) if os.sep in sys.argv[0] else sys.argv[0]
    deploy = ("sudo -E " if "SUDO_UID" in os.environ else "") + shlex.quote(min(called, sys.argv[0], key=len))
    lines = [
        "Try next:",
        f"  curl -H @{shlex.quote(str(served.token_file.with_name('header')))} {served.openai}/models",
        f"  {deploy} status  # what runs, and whether it is still what was put there",
        f"  {deploy} up --lab --profile dual-3090  # the same for two cards that nobody needs to have",
        f"  {deploy} lab down  # all of it away again",
    ]
    if for_real:
        lines.append("For real, on this machine's own cards; it asks before it changes anything:")
        lines.append(f"  {deploy} up --profile {for_real}")
    return lines
