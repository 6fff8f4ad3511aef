"""Names and paths with every sign in them: told apart, quoted as others read them, or refused."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.apply.inventory import host_of
from orchestrator.catalog.loader import load
from orchestrator.cli.root import run
from orchestrator.errors import InventoryError, ProfileError, UsageError
from orchestrator.inventory import ssh_quoted
from orchestrator.lab.hosts import _NAME as LAB_NAMES
from orchestrator.line.targets import lab_name
from orchestrator.lock import Store, hub
from orchestrator.state import State, file_name
from tests.unit.lock_stand_ins import serving

ANY = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=300)
ODD = "a \"b' ü\nc $(touch x) %h #\\ ;&|`id` {{ 7*7 }}"


@given(ANY, ANY)
def test_two_names_are_never_one_file(one: str, other: str) -> None:
    assume(one != other)
    assert file_name(one) != file_name(other)


@pytest.mark.parametrize(("one", "other"), [("\u02fa", "/a"), (".", ""), ("a/b", "a%2fb"), ("x" * 400, "x" * 401)])
def test_names_that_were_one_file(one: str, other: str) -> None:
    assert file_name(one) != file_name(other)


@given(ANY)
def test_a_name_s_file_lies_in_its_folder(name: str) -> None:
    made = file_name(name)
    assert (Path("/hosts") / made).parent == Path("/hosts")
    assert made not in {"", ".", ".."}
    assert "/" not in made
    assert len(made.encode()) < 200


@given(st.text(min_size=1, max_size=80))
def test_every_profile_has_a_lab_host(profile: str) -> None:
    assert LAB_NAMES.fullmatch(lab_name(profile))


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_profiles_never_share_a_lab_host(one: str, other: str) -> None:
    assume(one != other)
    assert lab_name(one) != lab_name(other)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh reads it")
@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60))
def test_ssh_reads_a_quoted_path_as_it_is(name: str) -> None:
    assume("${" not in name)
    assert read_by_ssh(f"/k/{name}/e") == f"/k/{name}/e"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh reads it")
def test_ssh_reads_the_oddest_path() -> None:
    assert read_by_ssh(f"/k/{ODD}") == f"/k/{ODD}"


def read_by_ssh(path: str) -> str:
    """Give the path that ssh says it would look in; it shows its own doubled per cent sign."""
    option = f"UserKnownHostsFile={ssh_quoted(path)}"
    done = subprocess.run(["ssh", "-G", "-F", "none", "-o", option, "x"], capture_output=True, check=True)
    return done.stdout.decode().partition("\nuserknownhostsfile ")[2].partition("\nlogverbose ")[0].replace("%%", "%")


def test_a_path_that_ssh_would_fill_in_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\$\{"):
        ssh_quoted("/home/${HOME}/key")


@given(ANY)
def test_a_host_is_called_as_the_inventory_says_or_is_refused(name: str) -> None:
    if name.isprintable() and name.strip():
        assert host_of(name, {"ansible_host": "127.0.0.1"}).name == name
    else:
        assert refusal(name, {"ansible_host": "127.0.0.1"}).isprintable()


@given(ANY)
def test_no_user_and_no_address_is_an_option_or_for_a_shell(text: str) -> None:
    for variables in ({"ansible_host": "h", "ansible_user": text}, {"ansible_host": text}):
        if text.startswith("-") or set(text) & set("\n\r\t'\"`$;&|<>(){}*?!#=,/"):
            assert refusal("one", variables).isprintable()


def refusal(name: str, variables: dict[str, str]) -> str:
    """Give the line with which a host is refused."""
    with pytest.raises(InventoryError) as refused:
        host_of(name, variables)
    return str(refused.value)


@pytest.mark.parametrize("user", ["root", "jörg.müller", "Jörg Müller", "DOMAIN\\ann", "ann@domain", "svc_1", "a-b"])
def test_users_of_every_kind_of_directory_are_taken(user: str) -> None:
    assert host_of("one", {"ansible_host": "h", "ansible_user": user}).user == user


@pytest.mark.parametrize("address", ["host", "10.0.0.1", "fe80::1%eth0", "::1", "räuber.example", "a_b"])
def test_addresses_of_every_kind_are_taken(address: str) -> None:
    assert host_of("one", {"ansible_host": address}).address == address


@pytest.mark.parametrize("value", [f"/k/{ODD}", ssh_quoted(f"/k/{ODD}")])
def test_a_file_with_every_sign_is_read_out_of_ssh_s_arguments(value: str) -> None:
    arguments = shlex.quote(f"-oUserKnownHostsFile={value}").replace("{{", "{")
    host = host_of("one", {"ansible_host": "h", "ansible_ssh_common_args": arguments})
    assert host.known_hosts == f"/k/{ODD}".replace("{{", "{")


def test_a_hub_s_file_may_be_called_anything_and_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the llm is made of is found under its own name; a name that climbs out of its folder is none of it."""
    odd = f"{ODD.replace('/', '')} ü.json"
    files = {"model.safetensors": b"\x08" * 64, odd: b"{}", "../../climbs.json": b"{}", "/etc/whole.json": b"{}"}
    store = Store(tmp_path / "store")
    with serving(files) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        found = hub.resolve_repository("large", "maker/large", ["model.safetensors"], store)
        hub.fetch_files(found, store)
    assert {one.filename for one in found} == {"model.safetensors", odd}
    assert {store.path(str(one.digest)).read_bytes() for one in found} == {b"\x08" * 64, b"{}"}
    assert [path for path in tmp_path.iterdir() if path.name != "store"] == []


@pytest.mark.parametrize("name", ["two\nlines", "bell\a", "\x1b[31mred"])
def test_a_profile_that_cannot_be_shown_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.yml").write_text("extends: cpu\n")
    with pytest.raises(ProfileError) as refusal:
        load(tmp_path)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["mine's", "ein Profil", "größer", "$(touch x)", "a%b", "{{ 7*7 }}"])
def test_a_profile_may_be_called_anything_that_can_be_shown(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.yml").write_text("extends: cpu\n")
    assert load(tmp_path).profiles[name].name == name


@pytest.mark.parametrize("named", ["/a/${HOME}/state", "/a/$HOME/state", "/a/\udcff/state"])
def test_a_state_that_others_would_read_as_another_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRIG_STATE", named)
    with pytest.raises(UsageError, match="state folder"):
        State.here()


def test_a_refusal_is_one_line_and_its_advice_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTRIG_STATE", str(tmp_path))
    assert run(["status", "-i", "no\nsuch\x1b[31m"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert "\x1b" not in said
    assert "no\\nsuch" in said
