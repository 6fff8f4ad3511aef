"""The worked examples are read as a person's own would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.apply.inventory import host_of, read_inventory
from orchestrator.catalog.loader import load, profile

EXAMPLES = sorted((Path(__file__).parents[2] / "inventories").iterdir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_host_has_a_profile_that_is_there(example: Path) -> None:
    catalog = load(example / "profiles")
    variables = read_inventory(example)
    assert variables
    for name, values in variables.items():
        host = host_of(name, values)
        assert host.profile
        assert profile(catalog, host.profile).name == host.profile
