"""``deploy doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click

from orchestrator.cli.common import PATH, show_json, targets, verb
from orchestrator.profile import RuntimeName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.doctor import Finding
    from orchestrator.errors import AgentrigError


@click.command("doctor")
@targets
@click.option("--log", type=PATH, metavar="FILE", help="Read this log and no host; - reads standard input.")
@click.option("--runtime", type=click.Choice(get_args(RuntimeName)), help="Whose log it is.")
@verb
def command(
    inventory: Path | None,
    limit: str | None,
    lab: bool,
    log: Path | None,
    runtime: str | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Tell why what we put there does not run, and what to change; 0 where nothing is wrong, 1 where something is."""
    from orchestrator.errors import EXIT_DONE, EXIT_FAILED, UsageError, exit_code_of_many

    if runtime is not None and log is None:
        raise UsageError("--runtime says whose log a file is", where="deploy doctor", do="give the file: --log FILE")
    if log is not None:
        found: tuple[Finding, ...] = (_of_file(log, runtime),)
        errors: tuple[AgentrigError, ...] = ()
    else:
        found, errors = _of_hosts(inventory, limit, lab=lab, verbose=verbose)
    if as_json:
        document = {"findings": [one.document() for one in found]}
        show_json(document | ({"error": errors[0].document()} if errors else {}))
    else:
        click.echo("\n".join(finding_lines(found, errors)))
    if errors:
        return exit_code_of_many(one.exit_code for one in errors)
    return EXIT_FAILED if found else EXIT_DONE


def _of_file(log: Path, runtime: str | None) -> Finding:
    from orchestrator.line.doctoring import of_log

    with click.open_file(str(log), encoding="utf-8", errors="replace") as file:
        return of_log(file.read(), runtime)


def _of_hosts(
    inventory: Path | None, limit: str | None, *, lab: bool, verbose: bool
) -> tuple[tuple[Finding, ...], tuple[AgentrigError, ...]]:
    from orchestrator.cli.wired import wired
    from orchestrator.line.doctoring import examine_hosts
    from orchestrator.line.machines import with_machines
    from orchestrator.line.targets import Asked, already_up, knows

    rooms = wired(inventory, verbose=verbose)
    hosts = already_up(Asked(inventory, limit, (), lab), rooms.lab, known_here=knows(rooms.state))
    found, errors = examine_hosts(hosts, rooms.lock_of(hosts[0], inventory), rooms.ports)
    return with_machines(hosts, found, errors, rooms.ports), errors


def finding_lines(found: Sequence[Finding], errors: Sequence[AgentrigError] = ()) -> list[str]:
    """Give what was found as a person reads it."""
    lines = []
    for error in errors:
        lines += [f"{error.where}: {error.what}", f"  {error.do}"]
    for one in found:
        lines.append(f"{one.host + ': ' if one.host else ''}{one.cause.replace('_', ' ')}: {one.means}")
        lines += [f"  {line}" for line in one.lines]
        lines += [f"  -> {one.change}"] if one.change else []
    return lines or ["nothing is wrong"]
