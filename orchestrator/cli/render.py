"""``deploy render``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.common import PATH, catalog_for, pretended, profiles, show_json, verb

if TYPE_CHECKING:
    from pathlib import Path


@click.command("render")
@profiles
@pretended
@click.option("--out", type=PATH, metavar="DIR", help="Write the files there, placeholders for secrets in place.")
@verb
def command(
    profiles: tuple[str, ...],
    gpus: tuple[str, ...],
    ram_mib: int | None,
    snapshot: Path | None,
    out: Path | None,
    as_json: bool,
    verbose: bool,
) -> int:
    """Show all that would be put on a host."""
    del verbose
    from orchestrator.line.planning import Pretended, Wishes, plan_for, write_tree
    from orchestrator.render import render

    catalog = catalog_for(None)
    (planned, *_) = plan_for(profiles, Pretended(gpus, ram_mib, snapshot), Wishes(), catalog)
    rendered = render(planned.deployment, catalog)
    if out is not None:
        write_tree(rendered, out)
    if as_json:
        files = [{"path": file.path, "mode": file.mode, "sha256": file.sha256} for file in rendered.files]
        show_json({"profile": planned.profile.name, "hardware": planned.hardware, "files": files})
    else:
        for file in rendered.files:
            click.echo(f"{file.mode} {file.sha256[:12]} {file.path}")
        click.echo(f"{len(rendered.files)} files for {planned.profile.name} on {planned.hardware} hardware")
    return 0
