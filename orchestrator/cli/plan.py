"""``deploy plan``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import catalog_for, pretended, profiles, show_json, verb

if TYPE_CHECKING:
    from pathlib import Path


@click.command("plan")
@profiles
@pretended
@click.option("--llm", metavar="L", help="Fix the llm.")
@click.option("--quant", metavar="Q", help="Fix the quantisation.")
@click.option("--runtime", metavar="R", help="Fix the runtime.")
@click.option("--context", type=click.IntRange(1), metavar="TOKENS", help="Fix the window.")
@click.option("--users", type=click.IntRange(1), metavar="N", help="How many people use it at once.")
@click.option("--autocomplete", is_flag=True, help="Also place a 14B or smaller beside it, where it fits.")
@click.option("--what-if", "others", multiple=True, metavar="GPUS", help='Other cards beside these: "2x RTX 3090".')
@click.option("--explain", is_flag=True, help="A page one would send to a colleague.")
@verb
def command(
    profiles: tuple[str, ...],
    gpus: tuple[str, ...],
    ram_mib: int | None,
    snapshot: Path | None,
    llm: str | None,
    quant: str | None,
    runtime: str | None,
    context: int | None,
    users: int | None,
    autocomplete: bool,
    others: tuple[str, ...],
    explain: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Decide what a machine should run, and say why not the others."""
    del verbose
    from orchestrator.errors import NoFit
    from orchestrator.line.planning import (
        Pretended,
        Wishes,
        explained,
        plan_for,
        side_by_side,
        side_by_side_instead,
        suppose,
        suppose_instead,
    )

    catalog = catalog_for(None)
    wishes = Wishes(llm, quant, runtime, context, users, autocomplete)
    machine = Pretended(gpus, ram_mib, snapshot)
    try:
        plans = plan_for(profiles, machine, wishes, catalog)
    except NoFit as nothing:
        instead = suppose_instead(profiles, others, machine, wishes, catalog) if others else ()
        for _, outcomes in () if as_json else instead:
            click.echo(side_by_side_instead(outcomes))
        if instead:
            nothing.more["what_if"] = [one.document() for _, outcomes in instead for one in outcomes[1:]]
        raise
    supposed = [suppose(planned, others, machine, wishes, catalog) for planned in plans] if others else []
    if as_json:
        documents = [planned.document() for planned in plans]
        for document, found in zip(documents, supposed, strict=False):
            document["what_if"] = [one.document() for one in found]
        show_json(documents[0] | ({"plans": documents} if len(documents) > 1 else {}))
        return 0
    for place, planned in enumerate(plans):
        click.echo(_folded(explained(planned, catalog, wishes) if explain else "\n".join(planned.lines())))
        if others:
            click.echo("\n" + side_by_side(planned, supposed[place]), nl=False)
    return 0


def _folded(page: str) -> str:
    """Fold the long lines of a page to the width of the person's terminal; a pipe gets them whole."""
    if not sys.stdout.isatty():
        return page
    from shutil import get_terminal_size
    from textwrap import fill

    width = get_terminal_size().columns
    lines = []
    for line in page.split("\n"):
        lead = " " * (len(line) - len(line.lstrip(" -")))
        lines.append(
            line
            if len(line) <= width
            else fill(line, width, subsequent_indent=lead, break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(lines)
