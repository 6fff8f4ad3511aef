"""``make soak`` runs matrices and writes their evidence; ``make soak-check`` holds the evidence to the checkout."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import click

from tests.soak import files
from tests.soak.core import Evidence, differences, drawn, objections, page, recount
from tests.soak.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.core import Line, Row


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; gives the exit code: 1 where a case failed or evidence does not hold, 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("verb", choices=("run", "check", "case"))
    parser.add_argument("names", nargs="*", help="matrices; for case a matrix and its case")
    parser.add_argument("--as-root", default="", help="what a command is put behind to run as root")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "check":
            return check(given.as_root)
        if given.verb == "case":
            matrix, case = given.names
            return 1 if recount([shown(_named([matrix])[0], case, given.as_root)]).failed else 0
        return run(_named(given.names), given.as_root)
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        return 2


def _named(names: Sequence[str]) -> tuple[Row, ...]:
    """Give the rows of these names, all for none."""
    table = {row.name: row for row in files.rows()}
    if unknown := [name for name in names if name not in table]:
        raise ValueError(f"no such matrix: {', '.join(unknown)}; there are {', '.join(table) or 'none'}")
    return tuple(table[name] for name in names or table)


def run(rows: Sequence[Row], as_root: str) -> int:
    """Run whole matrices and write their evidence, whatever came out, then the page."""
    made = []
    for row in rows:
        if loose := files.untracked(row):
            raise ValueError(f"{row.name} covers files that Git does not track yet: {', '.join(loose)}")
        content = files.covered(row)
        lines = tuple(shown(row, case, as_root) for case in Runner(row, as_root).cases())
        if files.covered(row) != content:
            raise ValueError(f"what {row.name} covers was changed while it ran; nothing was written")
        made.append(Evidence(row.name, content, row.covers, row.command, row.seed, lines))
        files.keep(made[-1])
    files.write(files.ROOT / files.PAGE, page(files.rows(), files.evidence()))
    counted = recount([line for one in made for line in one.lines])
    click.echo(f"{counted.cases} cases, {counted.passed} passed, {counted.failed} failed")
    return 1 if counted.failed else 0


def shown(row: Row, case: str, as_root: str) -> Line:
    """Run a case and show how it went."""
    line = Runner(row, as_root).run(case)
    click.echo(f"{line.result:<8} {line.start} {line.end}  {row.name} {case}  {dict(line.says)} {dict(line.figures)}")
    return line


def check(as_root: str) -> int:
    """Hold all evidence to the checkout, count it again, and run the cases again that the commit's hash draws."""
    table, kept = {row.name: row for row in files.rows()}, files.evidence()
    found = [f"{name}: evidence of no matrix in the table" for name in kept if name not in table]
    for row in table.values():
        found += objections(row, kept.get(row.name), files.covered(row), Runner(row, as_root).cases())
    shows = files.ROOT / files.PAGE
    if not shows.exists() or shows.read_text(encoding="utf-8") != page(tuple(table.values()), kept):
        found.append(f"{files.PAGE} is not what the lines count up to")
    if not found:
        found = again(table, kept, as_root)
    for one in found:
        click.echo(f"error: {one}", err=True)
    return 1 if found else 0


def again(table: dict[str, Row], kept: dict[str, Evidence], as_root: str) -> list[str]:
    """Run the drawn cases again; gives what came out otherwise."""
    lines = {(name, line.case): line for name, one in kept.items() for line in one.lines}
    found = []
    for name, case in drawn(lines, files.commit()):
        found += [f"{name}: {one}" for one in differences(lines[name, case], shown(table[name], case, as_root))]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
