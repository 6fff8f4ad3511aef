"""``deploy catalog``: the rows that decisions rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import catalog_for, folder_beside, show_json, verb

if TYPE_CHECKING:
    from orchestrator.line.catalog_rows import Found
    from orchestrator.line.cataloguing import Added

#: As in ``line.catalog_rows``, which the help must not load.
KINDS = ("llms", "quants", "runtimes", "agents", "gpus", "profiles")

BESIDE = click.option(
    "-i",
    "--inventory",
    type=click.Path(exists=True, path_type=Path),
    metavar="INV",
    help="Whose own llms and profiles count too.",
)


@click.group("catalog")
def command() -> None:
    """Rows that decisions rest on: llms, quants, runtimes, agents, gpus, profiles.

    Rows of your own lie in llms/ and profiles/ beside deploy.lock and go before those of the catalog.
    """


@command.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@BESIDE
@verb
def listing(kind: str | None, inventory: Path | None, as_json: bool, verbose: bool) -> int:
    """List rows, of one kind or of all."""
    del verbose
    from orchestrator.line.catalog_rows import KINDS as KNOWN
    from orchestrator.line.catalog_rows import listed

    catalog = catalog_for(inventory)
    found: dict[str, Any] = {one: listed(catalog, one) for one in KNOWN if kind in (None, one)}
    if as_json:
        show_json(found)
        return 0
    for one, entries in found.items():
        click.echo(one)
        for line in _columns([[_cell(value) for value in entry.values()] for entry in entries]):
            click.echo(f"  {line}")
    return 0


@command.command("show")
@click.argument("name")
@BESIDE
@verb
def show(name: str, inventory: Path | None, as_json: bool, verbose: bool) -> int:
    """Show one row by its name or an alias, however spelled."""
    del verbose
    from orchestrator.line.catalog_rows import find

    found = find(name, catalog_for(inventory))
    if as_json:
        show_json(found.document())
    else:
        click.echo("\n".join(_shown(found)))
    return 0


@command.command("add")
@click.argument("repository", metavar="ORG/NAME")
@click.option("--revision", default="main", show_default=True, metavar="R", help="A branch, tag or commit.")
@click.option("--name", metavar="N", help="The row's name; without it the repository's.")
@click.option("--yes", is_flag=True, help="Replace a row of that name, or go before the catalog's.")
@BESIDE
@verb
def add(
    repository: str, revision: str, name: str | None, yes: bool, inventory: Path | None, as_json: bool, verbose: bool
) -> int:
    """Read an llm from a hub, or from a mirror that HF_ENDPOINT names, and write its row.

    Configuration, sizes and the headers of weight files are read, weights never. What a repository does not say is
    left out and named. The row lies in llms/ beside deploy.lock.
    """
    from orchestrator.cli.screen import Screen
    from orchestrator.line.cataloguing import Asked
    from orchestrator.line.cataloguing import add as add_row

    asked = Asked(repository, folder_beside(inventory) / "llms", revision, name, yes)
    screen = Screen(verbose=verbose)
    try:
        added = add_row(asked, catalog_for(inventory), screen.tell)
    finally:
        screen.close()
    if as_json:
        show_json(added.document())
    else:
        click.echo("\n".join(_said(added)))
    return 0


@command.command("check")
@BESIDE
@verb
def check(inventory: Path | None, as_json: bool, verbose: bool) -> int:
    """Check that all rows load, no two share a name, and every llm is planned on some card."""
    from orchestrator.cli.root import fail
    from orchestrator.errors import EXIT_DONE, CatalogError
    from orchestrator.line.catalog_rows import check as check_rows

    document = check_rows(catalog_for(inventory))
    faults = document["faults"]
    if as_json and not faults:
        show_json(document)
    elif not as_json:
        counted = ", ".join(f"{count} {kind}" for kind, count in document["rows"].items())
        click.echo(f"{counted}: {len(faults)} faults")
        for one in document["plans"]:
            if verbose or one["unknown"]:
                click.echo(f"  {one['llm']}: {_plan_line(one)}")
    if not faults:
        return EXIT_DONE
    what = "; ".join(f"{one['kind']} {one['name']}: {one['what']}" for one in faults)
    error = CatalogError(what, where="catalog", do="correct these rows")
    if as_json:
        click.echo(f"error: {error}", err=True)
        show_json(document | {"error": error.document()})
        return error.exit_code
    return fail(error, as_json=False)


def _plan_line(one: dict[str, Any]) -> str:
    if one["on"] is None:
        return f"not planned: {one['reason']}"
    return f"{one['quant']} on {one['runtime']}, {one['context_tokens']} tokens, on {one['on']}"


def _shown(found: Found) -> list[str]:
    """Give a row as a person reads it."""
    import yaml

    lines = [found.note] if found.note else []
    lines.append(f"{found.kind.removesuffix('s')} {found.name}")
    fields = found.row.model_dump(mode="json", exclude_defaults=True, exclude={"name", "note"})
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110)
    return [*lines, *(f"  {line}" for line in text.rstrip().splitlines())]


def _said(added: Added) -> list[str]:
    row = added.row
    sizes = ", ".join(f"{one.quant} ({one.weights_bytes / 1e9:.1f} GB)" for one in row.quants)
    return [
        f"{added.file}: {row.name}, {row.parameters:g} billion weights, {sizes}",
        f"  class {row.agentic_class} ({row.evidence}), window {row.max_context_tokens} tokens",
        *(f"  left out: {one}" for one in added.left_out),
        f"  deploy plan --profile auto --llm {row.name}  # where it would run",
    ]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _columns(table: list[list[str]]) -> list[str]:
    """Give rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
