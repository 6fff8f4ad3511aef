"""Hosts, profiles and rights that are not there: one clear line, the right exit code, nothing begun."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.lab.refusals import inventory, refused
from tests.lab.rig import Rig

HOST = "bare"
#: User nobody of Debian; with the one capability to read any file, since a checkout may be root's alone.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+dac_read_search"),
    *("--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search"),
)


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Rig:
    """An empty folder and an empty state, without any host."""
    (tmp_path / "empty").mkdir()
    return Rig(tmp_path / "empty", tmp_path / "state", (str(installed),))


@pytest.mark.parametrize("verb", ["up", "status"])
def test_a_host_that_cannot_be_reached(elsewhere: Rig, verb: str) -> None:
    path = inventory(elsewhere.folder, "far", ansible_host="127.0.0.1", ansible_port=9)
    error = refused(elsewhere, verb, "-i", str(path), code=1, kind="unreachable")
    assert error["where"] == "far"
    assert "127.0.0.1 port 9" in error["what"]
    assert "refused" in error["what"]


def test_a_host_that_cannot_be_reached_is_told_a_person_in_two_lines(elsewhere: Rig) -> None:
    path = inventory(elsewhere.folder, "far", ansible_host="127.0.0.1", ansible_port=9)
    done = elsewhere.run("detect", "-i", str(path), stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith("far: ")
    assert "127.0.0.1 port 9" in first
    assert second.startswith("  see whether it is on")
    assert done.stderr == ""


def test_a_profile_that_is_not_there_is_answered_with_the_nearest(elsewhere: Rig) -> None:
    error = refused(elsewhere, "up", "--lab", "--profile", "dual-3900", code=2, kind="profile")
    assert "dual-3900" in error["what"]
    assert "dual-3090" in error["do"]
    assert not (elsewhere.state / "lab").exists()


def test_a_key_that_no_profile_has_is_answered_with_the_nearest(elsewhere: Rig) -> None:
    (elsewhere.folder / "profiles").mkdir()
    (elsewhere.folder / "profiles/mine.yml").write_text("extends: cpu\ngateway: {prot: 8090}\n")
    error = refused(elsewhere, "up", "--lab", "--profile", "mine", code=2, kind="profile")
    assert error["where"] == "mine.yml"
    assert "gateway.prot" in error["what"]
    assert "did you mean port?" in error["do"]
    assert not (elsewhere.state / "lab").exists()


def ours_here() -> set[Path]:
    """Give what of a rig lies on this machine itself."""
    return {path for path in (Path("/opt/agentrig"), *Path("/etc/systemd/system").glob("agentrig-*")) if path.exists()}


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine may have the very cards")
def test_hardware_that_is_not_there(elsewhere: Rig) -> None:
    """Without ``--yes``, so that a fault of ours ends at the question and not on this machine."""
    before = ours_here()
    error = refused(elsewhere, "up", "--profile", "dual-3090", code=2, kind="usage")
    assert "RTX 3090" in error["what"]
    assert "found no card" in error["what"]
    assert not (elsewhere.folder / "deploy.lock").exists()
    assert not (elsewhere.state / "store").exists()
    assert ours_here() == before


def test_this_machine_is_not_changed_unasked(elsewhere: Rig) -> None:
    before = ours_here()
    error = refused(elsewhere, "up", "--profile", "cpu", code=2, kind="usage")
    if Path("/run/systemd/system").exists():
        assert "no terminal" in error["what"]
        assert "--yes" in error["do"]
    else:
        assert "systemd does not run here" in error["what"]
        assert "--lab" in error["do"]
    assert not (elsewhere.state / "store").exists(), "it ends before anything is fetched"
    assert ours_here() == before


def test_no_right_to_make_a_lab(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    rig = Rig(home, home / "state", (*NOBODY, str(installed)), {"HOME": str(home)})
    error = refused(rig, "up", "--lab", "--profile", "cpu", code=2, kind="privilege")
    assert "root" in error["what"]
    assert "sudo" in error["what"] + error["do"]
    assert not (home / "state/lab/hosts").exists()


def test_no_right_to_become_root_on_a_host(elsewhere: Rig) -> None:
    """A user of a lab's host with a key of his own and without sudo."""
    (host,) = Lab(elsewhere.state / "lab").up({HOST: "debian-12"})
    public = shlex.quote(host.private_key.with_suffix(".pub").read_text().strip())
    make = "id plain 2>/dev/null || useradd --create-home --shell /bin/sh plain; install -d -o plain /home/plain/.ssh"
    elsewhere.read(HOST, f"{make}; echo {public} > /home/plain/.ssh/authorized_keys; chown plain /home/plain/.ssh/*")
    path = inventory(
        elsewhere.folder,
        "plain",
        ansible_host=host.address,
        ansible_port=host.ssh_port,
        ansible_user="plain",
        ansible_ssh_private_key_file=str(host.private_key),
        ansible_ssh_common_args=f"-o UserKnownHostsFile={host.known_hosts}",
    )
    error = refused(elsewhere, "up", "-i", str(path), code=2, kind="privilege")
    assert error["where"] == "plain"
    assert "root" in error["what"]
    assert "sudo" in error["do"]
    assert elsewhere.run("lab", "down").returncode == 0
