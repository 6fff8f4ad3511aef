"""What a person sees: progress on standard error, and the summary of a run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from orchestrator.cli.board import MARKS, Board, Line, amount
from orchestrator.cli.changes import changes_lines
from orchestrator.line.sizes import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.live import Live
    from rich.text import Text

    from orchestrator.evidence import Check
    from orchestrator.line.sizes import Sizes
    from orchestrator.line.values import HostOutcome, Proposal
    from orchestrator.progress import Event

_MARK = {"passed": "✓", "failed": "✗", "skipped": "-"}
#: Plain lines say how far a download is at most this often, in seconds.
_QUIET_SECONDS = 5.0
_MIB = 1024 * 1024


class Screen:
    """Progress on standard error: a line a host that moves on a terminal, else a plain line an event."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.moves = not verbose and _moves()
        self.board = Board(time.monotonic())
        self._live: Live | None = None
        self._guard = threading.Lock()
        self._last: dict[tuple[str, str], float] = {}

    def tell(self, event: Event) -> None:
        """Show one event."""
        with self._guard:
            self.board.take(event, time.monotonic())
            if self.moves:
                self._open()
            elif event.done is None or event.done == event.total or self._due(event):
                click.echo(line_of(event), err=True)

    def _due(self, event: Event) -> bool:
        key, now = (event.host, event.text), time.monotonic()
        if now - self._last.get(key, float("-inf")) < _QUIET_SECONDS:
            return False
        self._last[key] = now
        return True

    def _open(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False)
            shown = lambda: _rich(self.board.lines(time.monotonic(), console.width, console.height))  # noqa: E731
            self._live = Live(get_renderable=shown, console=console, refresh_per_second=4, transient=True)
            self._live.start()

    def close(self) -> None:
        """Take the moving lines away; the next event brings them back."""
        with self._guard:
            if self._live is not None:
                self._live.stop()
                self._live = None


def _moves() -> bool:
    """Tell whether standard error is a terminal at which somebody sits: none in CI, none that knows no cursor."""
    quiet = os.environ.get("CI", "").lower() not in {"", "0", "false"} or os.environ.get("TERM") in {None, "dumb"}
    return sys.stderr.isatty() and not quiet


def _rich(lines: list[Line]) -> Text:
    from rich.text import Text

    tones = {"plain": "", "good": "green", "bad": "red", "faint": "dim"}
    whole = Text(no_wrap=True, overflow="ellipsis")
    for number, line in enumerate(lines):
        whole.append(("\n" if number else "") + line.text, style=tones[line.tone])
    return whole


def line_of(event: Event) -> str:
    """Give the plain line of an event: phase, host, what happens, how far, how long it took."""
    where = f"{event.host}: " if event.host else ""
    mark = f"{MARKS[event.state]} " if event.state == "failed" or event.seconds is not None else ""
    far = amount(event.done, event.total)
    took = "" if event.seconds is None else f" ({event.seconds:.1f} s)"
    return f"{event.phase:>7}  {where}{mark}{event.text}{' ' + far if far else ''}{took}"


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
    lines += [f"  {one.host}: {size_line(one)}" for one in proposal.sizes]
    lines += [f"  upgrades {one.name} {one.before} -> {one.after}, and keeps it" for one in proposal.upgrades]
    return lines


def size_line(one: Sizes) -> str:
    """Give what a host is sent and what its disk takes, built trees and packages estimated."""
    free = "" if one.free is None else f", of {readable(one.free)} free"
    return f"{readable(one.carry)} to carry, about {readable(one.place)} more on its disk{free}"


def fetch_lines(wanted: Sequence[Sizes]) -> list[str]:
    """Give what is about to be fetched, as far as its size is known."""
    lines = [f"About {readable(sum(one.fetch for one in wanted))} would be fetched to this machine:"]
    lines += [f"  for {one.host}: {readable(one.fetch)}; {size_line(one)}" for one in wanted]
    lines.append("  what lies in a Hugging Face cache or in Ollama's files here is copied instead, by its sha256")
    return lines


def outcome_lines(host: HostOutcome, slow: Sequence[tuple[str, float]] = (), width: int = 80) -> list[str]:
    """Give how it ended for one host, with every check. ``slow`` are its longest tasks with their seconds."""
    lines = [f"{host.name}: {host.result} in {host.seconds:.1f} s ({host.changed} changes)"]
    lines += _spent(host, slow)
    if host.evidence is not None:
        lines.append(f"  checks of {host.evidence.began} ({host.evidence.seconds:.0f} s):")
        lines += ["  " + line for line in check_lines(host.evidence.checks)]
    if host.stand_ins:
        lines.append("  stand-ins:")
        lines += [f"    {one.what} -> {one.instead}: {one.why}" for one in host.stand_ins]
    return lines + _ended(host, width)


def short_lines(host: HostOutcome, slow: Sequence[tuple[str, float]] = (), width: int = 80) -> list[str]:
    """Give how it ended for one host of several: of its checks those that did not pass."""
    lines = [f"{host.name}: {host.result} in {host.seconds:.1f} s ({host.changed} changes)"]
    lines += _spent(host, slow)
    if host.evidence is not None:
        checks = host.evidence.checks
        passed = sum(check.result == "passed" for check in checks)
        lines.append(f"  {passed} of {len(checks)} checks passed, {host.evidence.began}")
        lines += ["  " + line for line in check_lines(tuple(one for one in checks if one.result != "passed"))]
    if host.stand_ins:
        lines.append("  stand-ins: " + "; ".join(f"{one.what} -> {one.instead}" for one in host.stand_ins))
    return lines + _ended(host, width)


def _spent(host: HostOutcome, slow: Sequence[tuple[str, float]]) -> list[str]:
    lines = []
    if host.phases:
        lines.append("  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in host.phases.items()))
    if slow:
        lines += [f"  took long: {task}, {seconds:.0f} s" for task, seconds in slow]
    return lines


def _ended(host: HostOutcome, width: int) -> list[str]:
    lines = [f"  {line}" for line in changes_lines(host.changes, width - 2)]
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


def run_lines(hosts: Sequence[HostOutcome], slowest: Callable[[str], Sequence[tuple[str, float]]]) -> list[str]:
    """Give how a run ended: one host with every check; of several each in short, those that failed last."""
    width = shutil.get_terminal_size().columns
    if len(hosts) == 1:
        return outcome_lines(hosts[0], slowest(hosts[0].name), width)
    ordered = sorted(hosts, key=lambda host: host.error is not None)
    lines = [line for host in ordered for line in short_lines(host, slowest(host.name), width)]
    counted = Counter(host.result.replace("_", " ") for host in hosts)
    return [*lines, f"{len(hosts)} hosts: " + ", ".join(f"{count} {result}" for result, count in counted.items())]


def try_next(hosts: tuple[HostOutcome, ...], for_real: str | None, inventory: Path | None = None) -> list[str]:
    """Give two or three lines to try once a rig serves in the lab, and the one for this machine's own cards."""
    served = next((host.endpoint for host in hosts if host.endpoint and not host.error), None)
    if served is None:
        return []
    called = os.path.relpath(sys.argv[0]) if os.sep in sys.argv[0] else sys.argv[0]
    deploy = ("sudo -E " if "SUDO_UID" in os.environ else "") + shlex.quote(min(called, sys.argv[0], key=len))
    lines = [
        "Try next:",
        f"  curl -H @{shlex.quote(str(served.token_file.with_name('header')))} {served.openai}/models",
        f"  {deploy} status{_of(inventory)}  # what runs, and whether it is still what was put there",
        f"  {deploy} up --lab --profile dual-3090  # the same for two cards that nobody needs to have",
        f"  {deploy} lab down  # all of it away again",
    ]
    if for_real:
        lines.append("For real, on this machine's own cards; it asks before it changes anything:")
        lines.append(f"  {deploy} up --profile {for_real}")
    return lines


def _of(inventory: Path | None) -> str:
    return f" -i {shlex.quote(str(inventory))} --lab" if inventory else ""
