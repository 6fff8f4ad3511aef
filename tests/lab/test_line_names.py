"""Names with blanks, quotes, newlines and letters of any script, and names that look like commands, on real hosts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.inventory import ssh_quoted
from orchestrator.lab import Lab
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A folder may be called so: every sign that a shell, ssh, Ansible, apt or a terminal takes for its own.
FOLDER = "a \"b' ü\nc $(touch was-run) `touch was-run` ;touch was-run %h #\\ {{ 7*7 }} ~"
#: A file and a host too, but for what cannot be shown.
NAME = 'Räuber "1" o\'n $(touch was-run) {{ 7*7 }}'
PROFILE = "größer's $(touch was-run)"
USER = "Jörg Müller"
#: A window that is soon filled: what is tried here are names.
SMALL = "extends: cpu\nllm: {context_tokens: 1024}\n"


@pytest.fixture(scope="module")
def odd(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """State, current folder and profile with every sign in their names."""
    base = tmp_path_factory.mktemp("odd") / FOLDER
    for name in ("state", "current/profiles"):
        (base / name).mkdir(parents=True)
    (base / f"current/profiles/{PROFILE}.yml").write_text(SMALL)
    rig = Rig(base / "current", base / "state", (str(installed),))
    yield rig
    assert rig.run("lab", "down").returncode == 0
    assert os.listdir(base.parent) == [FOLDER], "nothing was made under half a name"  # noqa: PTH208


@pytest.fixture(scope="module")
def rehearsed(odd: Rig) -> dict[str, Any]:
    """The one host of a rehearsal of the profile."""
    found: dict[str, Any] = odd.document("up", "--lab", "--profile", PROFILE)["hosts"][0]
    return found


def test_a_rehearsal_is_accepted(odd: Rig, rehearsed: dict[str, Any]) -> None:
    assert (rehearsed["result"], rehearsed["error"]) == ("changed", None)
    assert Path(rehearsed["endpoint"]["token_file"]).is_relative_to(odd.state)
    (again,) = odd.document("up", "--lab", "--profile", PROFILE)["hosts"]
    assert (again["result"], again["name"]) == ("unchanged", rehearsed["name"])
    (status,) = odd.document("status", "--lab", "--check")["hosts"]
    assert (status["serving"], status["drift"]) == (True, [])


def test_the_line_to_try_next_works_in_a_shell(odd: Rig, rehearsed: dict[str, Any]) -> None:
    header = Path(rehearsed["endpoint"]["token_file"]).with_name("header")
    line = f"curl -sf -H @{shlex.quote(str(header))} {rehearsed['endpoint']['openai']}/models"
    done = subprocess.run(["sh", "-c", line], cwd=odd.folder, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["data"]


def test_nothing_was_run_by_a_shell(odd: Rig, rehearsed: dict[str, Any]) -> None:
    made = "find / -xdev -path /proc -prune -o -name was-run -print"
    assert odd.read(rehearsed["name"], made) == ""
    assert [path for path in odd.state.parents[1].rglob("was-run*") if path.name == "was-run"] == []


@pytest.fixture(scope="module")
def person(odd: Rig, rehearsed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A person who reaches the same host by an inventory, as a user with a name of two words, who may use sudo."""
    odd.document("down", "--lab")
    (host,) = Lab(odd.state / "lab").hosts()
    made = f"""
grep -q '^{USER}:' /etc/passwd || echo '{USER}:x:1234:1234::/home/odd:/bin/sh' >> /etc/passwd
grep -q '^odd:' /etc/group || echo 'odd:x:1234:' >> /etc/group
echo '{USER}:*:19000::::::' >> /etc/shadow
install -d -m 700 -o 1234 -g 1234 /home/odd /home/odd/.ssh
install -o 1234 -g 1234 -m 600 /root/.ssh/authorized_keys /home/odd/.ssh/authorized_keys
echo '#1234 ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/odd
"""
    odd.read(rehearsed["name"], made)
    folder = tmp_path_factory.mktemp("person") / FOLDER
    (folder / "inventory/profiles").mkdir(parents=True)
    (folder / f"inventory/profiles/{PROFILE}.yml").write_text(SMALL)
    for name, file in (("key", host.private_key), ("known", host.known_hosts)):
        (folder / name).write_bytes(file.read_bytes())
        (folder / name).chmod(0o600)
    about = {
        "ansible_host": "127.0.0.1",
        "ansible_port": host.ssh_port,
        "ansible_user": USER,
        "ansible_ssh_private_key_file": {"__ansible_unsafe": str(folder / "key")},
        "ansible_ssh_common_args": {
            "__ansible_unsafe": shlex.join(["-o", f"UserKnownHostsFile={ssh_quoted(str(folder / 'known'))}"])
        },
        "agentrig_profile": {"__ansible_unsafe": PROFILE},
    }
    (folder / "inventory/hosts.json").write_text(json.dumps({"all": {"hosts": {NAME: about}}}))
    return Rig(folder / "inventory", folder / "state", odd.command)


def test_an_inventory_s_host_is_brought_up_and_told_of(person: Rig) -> None:
    inventory = str(person.folder)
    (host,) = person.document("up", "-i", inventory, "--limit", NAME, "--yes")["hosts"]
    assert (host["name"], host["result"], host["error"]) == (NAME, "changed", None)
    assert any(shlex.quote(f"{USER}@127.0.0.1") in note for note in host["notes"])
    (status,) = person.document("status", "-i", inventory, "--check")["hosts"]
    assert (status["name"], status["serving"], status["drift"]) == (NAME, True, [])
    assert list(json.loads((person.folder / "deploy.lock").read_text())["hosts"]) == [NAME]
    assert person.run("down", "-i", inventory, "--yes").returncode == 0
    assert [path for path in person.folder.parents[1].rglob("was-run*") if path.name == "was-run"] == []


# ---------------------------------------------------------------- what cannot be


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Rig:
    """An empty folder and an empty state, without any host."""
    (tmp_path / "empty").mkdir()
    return Rig(tmp_path / "empty", tmp_path / "state", (str(installed),))


def refused(rig: Rig, *arguments: str) -> str:
    """Run a verb that must be refused, exit 2, in a line and its advice; give the line."""
    done = rig.run(*arguments, stdin=subprocess.DEVNULL)
    assert done.returncode == 2, done.stderr
    line, advice = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert advice.startswith("  ")
    assert (line + advice).isprintable()
    return line


@pytest.mark.parametrize("verb", ["up", "status", "detect"])
@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("two\nlines", {}),
        ("bell\a", {}),
        ("one", {"ansible_user": "-oProxyCommand=touch was-run"}),
        ("one", {"ansible_user": "$(touch was-run)"}),
        ("one", {"ansible_host": "-oProxyCommand=touch was-run"}),
        ("one", {"ansible_host": "h; touch was-run"}),
    ],
)
def test_a_host_that_cannot_be(elsewhere: Rig, verb: str, name: str, about: dict[str, str]) -> None:
    path = elsewhere.folder / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": {name: {"agentrig_profile": "cpu", **about}}}}))
    assert repr(next(iter(about.values()), name))[1:-1] in refused(elsewhere, verb, "-i", str(path))
    assert [one.name for one in elsewhere.folder.iterdir()] == ["hosts.json"]


@pytest.mark.parametrize("name", ["a/b", "../cpu", "two\nlines", "$(touch was-run)", "-x"])
def test_a_profile_that_cannot_be(elsewhere: Rig, name: str) -> None:
    assert "profile" in refused(elsewhere, "up", "--lab", f"--profile={name}")
    assert list(elsewhere.folder.iterdir()) == []
    assert not (elsewhere.state / "lab").exists()


def test_a_state_that_ssh_would_read_as_another(elsewhere: Rig) -> None:
    rig = Rig(elsewhere.folder, elsewhere.state / "${HOME}", elsewhere.command)
    assert "state folder" in refused(rig, "up", "--lab", "--profile", "cpu")
    assert not elsewhere.state.exists()
