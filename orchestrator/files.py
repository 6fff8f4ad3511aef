"""Where the data lies that travels with the code: the one function that knows the wheel from a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from orchestrator.errors import AgentrigError

DataFolder = Literal["playbooks", "roles", "templates", "catalog"]


def data(folder: DataFolder) -> Path:
    """Give the folder of playbooks, roles, templates or catalog, in an installed wheel or in a checkout."""
    package = Path(__file__).resolve().parent
    if folder == "catalog":
        return package / "catalog"
    for candidate in (package / "data" / folder, package.parent / folder):
        if candidate.is_dir():
            return candidate
    raise AgentrigError(
        f"the folder {folder} is missing from the installation",
        where=str(package),
        do="install agentrig again: the wheel carries it",
    )
