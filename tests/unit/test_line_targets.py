"""Which hosts of an inventory are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.apply.inventory import read_groups
from orchestrator.errors import InventoryError
from orchestrator.lab import Lab
from orchestrator.line.targets import Asked, already_up, chosen

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("ada", "grace", "forge-1", "forge-2")
GROUPS = {"all": NAMES, "desks": ("ada", "grace"), "racks": ("forge-1", "forge-2"), "carded": ("ada", "forge-1")}


@pytest.mark.parametrize(
    ("limit", "meant"),
    [
        (None, NAMES),
        ("ada", ("ada",)),
        ("forge-*", ("forge-1", "forge-2")),
        ("desks", ("ada", "grace")),
        ("grace,racks", ("grace", "forge-1", "forge-2")),
        ("grace:racks", ("grace", "forge-1", "forge-2")),
        ("racks:!forge-2", ("forge-1",)),
        ("!racks", ("ada", "grace")),
        ("desks:&carded", ("ada",)),
        ("forge-[2-9]", ("forge-2",)),
        ("r?cks", ("forge-1", "forge-2")),
        ("nobody", ()),
    ],
)
def test_a_limit_is_written_as_ansible_s(limit: str | None, meant: tuple[str, ...]) -> None:
    assert chosen(limit, NAMES, GROUPS) == meant


def test_a_name_with_a_sign_of_patterns_is_its_host() -> None:
    assert chosen("one,two", ("one,two", "one"), {}) == ("one,two",)


def test_a_group_has_the_hosts_of_its_children(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text("[desks]\nada\n[racks]\nforge\n[fleet:children]\ndesks\nracks\n")
    variables, groups = read_groups(path)
    assert list(variables) == ["ada", "forge"]
    assert groups["fleet"] == {"ada", "forge"}
    assert groups["desks"] == {"ada"}


def test_a_limit_that_means_nobody_names_hosts_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text("[desks]\nada\n")
    with pytest.raises(InventoryError) as caught:
        already_up(Asked(path, "racks"), Lab(tmp_path / "lab"), known_here=False)
    assert "ada" in caught.value.do
    assert "desks" in caught.value.do
    (host,) = already_up(Asked(path, "desks"), Lab(tmp_path / "lab"), known_here=False)
    assert host.name == "ada"
