"""Inventories as Ansible reads them, and the hosts that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.apply.inventory import host_of, read_inventory
from orchestrator.errors import InventoryError


def test_an_ini_inventory_gives_hosts_with_their_groups_variables(tmp_path: Path) -> None:
    path = tmp_path / "inventory.ini"
    path.write_text("[rigs]\nb ansible_port=2222 ansible_become=false\na\n[rigs:vars]\nagentrig_profile=cpu\n")
    found = read_inventory(path)
    assert list(found) == ["b", "a"]
    host = host_of("b", found["b"])
    assert (host.address, host.port, host.user, host.become, host.profile) == ("b", 2222, "root", False, "cpu")


def test_what_deploy_keeps_in_an_inventory_s_folder_is_no_inventory(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all:\n  hosts:\n    a: {agentrig_profile: mine}\n")
    (tmp_path / "deploy.lock").write_text('{"version": 1, "hosts": {}}\n')
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/mine.yml").write_text("name: mine\nuse: solo\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("ansible_user: ada\n")
    assert read_inventory(tmp_path) == {"a": {"agentrig_profile": "mine", "ansible_user": "ada"}}


@pytest.mark.parametrize("text", ["", "all: [", "all:\n  - a host\n"])
def test_a_broken_inventory_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(text)
    with pytest.raises(InventoryError) as caught:
        read_inventory(path)
    assert "\n" not in caught.value.what
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("said", "known_hosts", "private_key"),
    [
        ("-o UserKnownHostsFile=/keys/known", "/keys/known", None),
        ("-oUserKnownHostsFile=/keys/known -i /keys/id", "/keys/known", "/keys/id"),
        ("-o 'UserKnownHostsFile /keys/a = b' -o StrictHostKeyChecking=yes", "/keys/a = b", None),
        ('-C -o ControlPersist=60s -o UserKnownHostsFile="/keys/a b"', "/keys/a b", None),
        ("-o userknownhostsfile=/first -o UserKnownHostsFile=/second", "/first", None),
        ("-o UserKnownHostsFile=~/known", str(Path.home() / "known"), None),
        ("", None, None),
    ],
)
def test_ssh_s_arguments_say_whom_to_believe(said: str, known_hosts: str | None, private_key: str | None) -> None:
    host = host_of("h", {"ansible_ssh_common_args": said})
    assert (host.known_hosts, host.private_key) == (known_hosts, private_key)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"}, "StrictHost"),
        ({"ansible_ssh_extra_args": "-oStrictHostKeyChecking=accept-new"}, "accept-new"),
        ({"ansible_host_key_checking": False}, "ansible_host_key_checking"),
        ({"ansible_ssh_host_key_checking": "no"}, "ansible_host_key_checking"),
        ({"ansible_ssh_common_args": "-o ProxyJump=gate.example"}, "proxyjump"),
        ({"ansible_ssh_common_args": "-J gate.example"}, "-J"),
        ({"ansible_ssh_args": "-o 'User"}, "quot"),
        ({"ansible_port": "ssh"}, "ansible_port"),
        ({"ansible_host": "{{ where }}"}, "template"),
        ({"ansible_connection": "docker"}, "docker"),
    ],
)
def test_what_is_not_heeded_is_refused_by_name(variables: dict[str, Any], named: str) -> None:
    with pytest.raises(InventoryError, match=named) as caught:
        host_of("h", variables)
    assert caught.value.where == "h"
    assert caught.value.do


def test_paths_with_blanks_and_percent_signs_reach_ssh_whole() -> None:
    host = host_of("h", {"ansible_private_key_file": "/a b/50%", "ansible_ssh_args": "-o UserKnownHostsFile=/known"})
    options = host.ssh_files()
    assert options["IdentityFile"] == '"/a b/50%%"'
    assert options["StrictHostKeyChecking"] == "yes"
