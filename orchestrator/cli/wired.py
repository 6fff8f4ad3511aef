"""The rooms wired for a verb: state, catalog, lab, ports, progress."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import catalog_for
from orchestrator.cli.screen import Screen, fetch_lines, proposal_lines
from orchestrator.errors import UsageError
from orchestrator.lab import Lab
from orchestrator.line.ports import Way
from orchestrator.line.wiring import Questions, real
from orchestrator.state import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.catalog.rows import Catalog
    from orchestrator.inventory import Host
    from orchestrator.line.ports import Ports
    from orchestrator.line.sizes import Sizes
    from orchestrator.line.values import Proposal
    from orchestrator.lockfile import Lock


@dataclass(frozen=True)
class Wired:
    """What a verb works with."""

    state: State
    catalog: Catalog
    lab: Lab
    ports: Ports
    screen: Screen

    @property
    def way(self) -> Way:
        """Give the effects and the screen that is told."""
        return Way(self.ports, self.screen.tell)

    def lock_of(self, host: Host, inventory: Path | None) -> Lock | None:
        """Give the lock that a host's decision stands in."""
        return self.ports.read_lock(self.state.lock_file(lab=host.lab, inventory=inventory))


def wired(inventory: Path | None = None, *, yes: bool = False, verbose: bool = False) -> Wired:
    """Wire the rooms."""
    state, catalog = State.here(), catalog_for(inventory)
    lab = Lab(state.lab)
    screen = Screen(verbose=verbose)

    def confirm(proposal: Proposal) -> bool:
        for line in proposal_lines(proposal):
            click.echo(line, err=True)
        screen.close()
        return ask_terminal("Go on?", yes=yes)

    def confirm_fetch(wanted: Sequence[Sizes]) -> bool:
        screen.close()
        for line in fetch_lines(wanted):
            click.echo(line, err=True)
        return ask_terminal("Fetch it?", yes=yes)

    questions = Questions(confirm, confirm_fetch, lambda: somebody_to_ask(yes=yes))
    return Wired(state, catalog, lab, real(state, catalog, lab, questions), screen)


def ask_terminal(question: str, *, yes: bool) -> bool:
    """Ask a person; raises UsageError where there is none to ask."""
    somebody_to_ask(yes=yes)
    return yes or click.confirm(question, err=True)


def somebody_to_ask(*, yes: bool) -> None:
    """Raise UsageError where a question would have nobody to answer it."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this asks before it changes a host, and there is no terminal to ask at", do="add --yes")
