"""The templates that travel with the code, read once: jinja2's only door."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from orchestrator.files import data

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - loaded when something is rendered

    return Environment(
        loader=FileSystemLoader(data("templates")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - units and nginx configuration, never HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def filled(name: str, **values: Any) -> str:
    """Give a template of ``templates/`` with its values put in; raises jinja2's error where one is missing."""
    return _environment().get_template(name).render(**values)


@cache
def verbatim(name: str) -> str:
    """Give a file of ``templates/`` as it is."""
    return (data("templates") / name).read_text(encoding="utf-8")
