from __future__ import annotations

import pytest

from orchestrator.errors import LockError
from orchestrator.lock import apt_parse, apt_reach
from orchestrator.snapshot import AptSource, Package
from tests.unit.lock_stand_ins import snapshot

SIMULATION = """\
NOTE: This is only a simulation!
Reading package lists...
Inst libpython3.11-minimal [3.11.2-6+deb12u6] (3.11.2-6+deb12u9 Debian-Security:12/oldstable-security [amd64]) []
Inst python3 [3.11.2-1+b1] (3.11.2-1+b1 Debian:12.15/oldstable [amd64])
Inst nginx-common (1.22.1-9+deb12u11 Debian:12.15/oldstable [all])
Inst libnl:amd64 (1:3.7.0-0.2+b1 Debian:12.15/oldstable [amd64])
Conf nginx-common (1.22.1-9+deb12u11 Debian:12.15/oldstable [all])
"""
SHA = "0dd9b6bf7a0bd11af2d68a52ec44c2a223fa7c11f9104c36ce1047e1137d4a8f"
URIS = f"""\
'http://mirror/pool/c/curl_7.88.1-10%2bdeb12u15_amd64.deb' curl_7.88.1-10+deb12u15_amd64.deb 315764 SHA256:{SHA}
'http://mirror/pool/a/adduser_3.134_all.deb' adduser_3.134_all.deb 118736 MD5Sum:725a2c5ecc62b45561f7cb22f180e1f8
'http://mirror/pool/l/libnl_3.7.0-0.2%2bb1_amd64.deb' libnl_1%3a3.7.0-0.2+b1_amd64.deb 63088 SHA256:{SHA}
"""


def package(name: str, depends: str = "", **more: object) -> Package:
    fields = {"name": name, "version": "1.0", "architecture": "amd64", "depends": depends, **more}
    return Package.model_validate(fields)


def test_a_simulation_is_read_and_what_is_put_over_itself_left_out() -> None:
    assert apt_parse.planned(SIMULATION) == (
        ("libnl", "1:3.7.0-0.2+b1", ""),
        ("libpython3.11-minimal", "3.11.2-6+deb12u9", "3.11.2-6+deb12u6"),
        ("nginx-common", "1.22.1-9+deb12u11", ""),
    )
    assert apt_parse.planned("garbage\n\0") == ()


def test_only_a_sha256_counts_as_a_digest() -> None:
    found = apt_parse.located(URIS)
    assert [(one.name, one.version) for one in found] == [("curl", "7.88.1-10+deb12u15"), ("libnl", "1:3.7.0-0.2+b1")]
    assert found[0].bytes == 315764
    assert found[0].sha256 == SHA
    assert found[1].filename == "libnl_1%3a3.7.0-0.2+b1_amd64.deb"


def test_the_status_file_holds_what_apt_resolves_against() -> None:
    text = apt_parse.status_of([package("dpkg", "tar", essential=True, multi_arch="foreign"), package("z", held=True)])
    first, second, rest = text.split("\n\n")
    assert first.splitlines() == [
        "Package: dpkg",
        "Essential: yes",
        "Status: install ok installed",
        "Architecture: amd64",
        "Multi-Arch: foreign",
        "Version: 1.0",
        "Depends: tar",
    ]
    assert "Status: hold ok installed" in second
    assert not rest


def test_a_host_counts_as_it_was_before_us_but_for_what_others_need_now() -> None:
    host = [package("base"), package("nginx", "nginx-common (>= 1), base"), package("nginx-common"), package("zlib")]
    ours = ["nginx", "nginx-common", "zlib"]
    assert [one.name for one in apt_parse.without(host, ours)] == ["base"]
    theirs = [*host, package("munin", "cron | nginx:any")]
    assert [one.name for one in apt_parse.without(theirs, ours)] == ["base", "nginx", "nginx-common", "munin"]


def test_a_closure_leans_on_the_hosts_own_packages_by_name_or_by_what_they_provide() -> None:
    shown = (
        "Package: nginx\nDepends: libc6 (>= 2.34), libssl3 | libressl\nPre-Depends: debconf-2.0\nSuggests: fcgiwrap\n"
    )
    host = [package("libc6"), package("debconf", provides="debconf-2.0"), package("fcgiwrap"), package("bash")]
    assert apt_parse.leans_on(shown, host) == ("debconf", "libc6")


@pytest.mark.parametrize(
    ("installed", "present", "found"),
    [
        ({"python3.11-minimal": "3.11.2-6+deb12u9"}, None, "3.11.2"),
        ({"python3.11-minimal": "3.11.4-1"}, "3.11.2", "3.11.4"),
        ({"python3.11-minimal": "3.11.2-6", "python3.13-minimal": "3.13.1-1"}, "3.11.2", "3.11.2"),
        ({"python3.11-minimal": "3.11.2-6", "python3.13-minimal": "3.13.1-1"}, None, None),
        ({}, "3.12.3", "3.12.3"),
        ({}, None, None),
    ],
)
def test_the_interpreter_is_what_the_packages_leave(
    installed: dict[str, str], present: str | None, found: str | None
) -> None:
    assert apt_parse.interpreter(installed, present) == found


def test_sources_of_both_forms_are_read() -> None:
    old = (
        "# a comment\ndeb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main contrib # why\n"
        "deb-src http://m x main\n"
    )
    new = (
        "Types: deb deb-src\n# why\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
        "Signed-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://off\nSuites: bookworm\nComponents: main\n"
    )
    assert apt_parse.read_sources(old) == (
        AptSource(uri="http://m/debian", suite="bookworm", components=("main", "contrib"), signed_by="/k.gpg"),
    )
    assert [one.suite for one in apt_parse.read_sources(new)] == ["bookworm", "bookworm-updates"]
    assert apt_parse.read_sources("") == ()


def test_other_releases_and_vendors_are_left_out() -> None:
    sources = [
        AptSource(uri="http://m", suite=suite, components=("main",)) for suite in ("bookworm", "nodistro", "sid")
    ]
    sources.append(AptSource(uri="http://s", suite="bookworm-security", components=("main",)))
    assert [one.suite for one in apt_parse.of_suite(sources, "bookworm")] == ["bookworm", "bookworm-security"]


def test_a_source_is_signed_by_a_keyring_of_this_machine() -> None:
    source = AptSource(uri="http://m", suite="bookworm", components=("main", "contrib"), signed_by="/their/k.gpg")
    assert apt_parse.source_lines([source, source], "amd64", {"/their/k.gpg": "/our/k.gpg"}) == (
        "deb [arch=amd64 signed-by=/our/k.gpg] http://m bookworm main contrib\n"
    )


def test_the_mirror_of_the_environment_comes_first_and_then_the_hosts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = AptSource(uri="http://own", suite="bookworm", components=("main",))
    host = snapshot(apt_sources=(own, own.model_copy(update={"suite": "nodistro"})))
    monkeypatch.delenv(apt_reach.MIRROR, raising=False)
    assert apt_reach.archives(host) == (own,)
    monkeypatch.setenv(apt_reach.MIRROR, "http://m/debian http://m/debian-security")
    assert [(one.uri, one.suite) for one in apt_reach.archives(host)] == [
        ("http://m/debian", "bookworm"),
        ("http://m/debian", "bookworm-updates"),
        ("http://m/debian-security", "bookworm-security"),
    ]


def test_a_release_whose_archives_nobody_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(apt_reach.MIRROR, raising=False)
    strange = snapshot(os=snapshot().os.model_copy(update={"codename": "lenny", "pretty": "Debian 5"}))
    with pytest.raises(LockError, match="no archive is known for Debian 5"):
        apt_reach.archives(strange)
