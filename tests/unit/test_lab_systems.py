"""Where a base tree's packages come from: this machine's own apt sources, in either style."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import UsageError
from orchestrator.lab.systems import (
    Archive,
    archives_for,
    archives_in,
    os_release,
    parse_deb822,
    parse_one_line_style,
    sources_list,
    sources_of,
    system_named,
)

if TYPE_CHECKING:
    from pathlib import Path

BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}

DEB822 = """\
# ours
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian bookworm main contrib  # ours
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/security bookworm-security main
deb
"""


def test_both_styles_give_the_same_archives() -> None:
    deb822 = parse_deb822(DEB822)
    assert deb822 == (
        Archive("http://mirror.example/debian", ("bookworm", "bookworm-updates")),
        Archive("http://mirror.example/security", ("bookworm-security",)),
    )
    assert [archive.uri for archive in parse_one_line_style(ONE_LINE)] == [archive.uri for archive in deb822]


def test_sources_are_read_from_the_file_and_the_folder_and_others_are_left(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb cdrom:[disc]/ bookworm main\n")
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/other.list.disabled").write_text("deb http://disabled.example bookworm main\n")
    assert [archive.uri for archive in sources_of(tmp_path)] == [
        "http://mirror.example/debian",
        "http://mirror.example/security",
    ]


def test_a_machine_of_the_same_family_lends_its_mirrors_to_another_suite() -> None:
    trixie = {"ID": "debian", "VERSION_CODENAME": "trixie"}
    sources = [Archive("http://m/d", ("trixie", "trixie-updates")), Archive("http://m/s", ("trixie-security",))]
    system = system_named("debian-12")
    found = archives_for(system, trixie, sources)
    assert found == (
        Archive("http://m/d", ("bookworm", "bookworm-updates")),
        Archive("http://m/s", ("bookworm-security",)),
    )
    lines = sources_list(system, found).splitlines()
    assert [line.split()[2:] for line in lines] == [
        ["http://m/d", "bookworm", "main"],
        ["http://m/d", "bookworm-updates", "main"],
        ["http://m/s", "bookworm-security", "main"],
    ]


@pytest.mark.parametrize("own", [{"ID": "ubuntu", "VERSION_CODENAME": "noble"}, {}, {"ID": "debian"}])
def test_a_machine_of_another_family_lends_nothing(own: dict[str, str]) -> None:
    assert archives_for(system_named("debian-12"), own, [Archive("http://m/u", ("noble",))]) == ()


def test_a_machine_without_a_security_archive_lends_the_main_one() -> None:
    found = archives_for(system_named("debian-12"), BOOKWORM, [Archive("http://m/d", ("bookworm",))])
    assert [archive.uri for archive in found] == ["http://m/d"]


def test_an_unknown_system_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError) as refused:
        system_named("plan-9")
    assert "debian-12" in refused.value.do


def test_os_release_is_read_with_its_quotes() -> None:
    assert os_release('# x\nID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n\n')["PRETTY_NAME"] == "Debian GNU/Linux 12"


def test_a_tree_of_another_family_keeps_the_address_that_debootstrap_chose() -> None:
    written = [Archive("http://m/ubuntu", ("noble",))]
    assert archives_in(system_named("ubuntu-24.04"), written) == (
        Archive("http://m/ubuntu", ("noble", "noble-updates")),
        Archive("http://m/ubuntu", ("noble-security",)),
    )
    assert archives_in(system_named("debian-13"), [Archive("http://m/debian/", ("trixie",))])[1] == Archive(
        "http://m/debian-security", ("trixie-security",)
    )
    assert archives_in(system_named("debian-12"), written) == ()
