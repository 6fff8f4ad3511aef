"""Apply on a throwaway systemd host: real SSH, real dpkg, real units; runtime, gateway and packages are stand-ins."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.apply import Applied, activate, apply, remove, stop
from orchestrator.errors import ApplyError, PrivilegeError
from orchestrator.inventory import Host
from orchestrator.lab import Lab, LabHost, as_host
from orchestrator.lockfile import Lock
from orchestrator.manifest import Manifest
from orchestrator.progress import Event, silent
from orchestrator.rendered import Rendered
from tests.apply_parts import GATEWAY, RUNTIME, SECRETS, Parts, nginx_deb, pip_deb, rendered

pytestmark = pytest.mark.lab

#: What the distribution itself writes when packages come and go, users are made and units run.
HOUSEKEEPING = (
    *("/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/subgid-", "/etc/subuid-", "/etc/.pwd.lock"),
    *("/etc/ld.so.cache", "/var/cache/", "/var/log/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/systemd/"),
    *("/run/", "/tmp/", "/var/tmp/", "/root/.ansible"),  # noqa: S108 - folders of the host
)


@dataclass
class Rig:
    """A host of the lab and what is applied to it."""

    made: LabHost
    parts: Parts
    lock: Lock
    work: Path

    @property
    def host(self) -> Host:
        return as_host(self.made)

    def ssh(self, command: str, *, fine: bool = True) -> str:
        done = subprocess.run([*self.made.ssh(), command], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not fine, done.stderr
        return done.stdout

    def apply(self, what: Rendered | None = None, *, check: bool = False, former: Manifest | None = None) -> Applied:
        return apply(
            self.host, what or rendered(), self.lock, self.made.name, self.parts.store, SECRETS, self.work, silent,
            check=check, former=former,
        )  # fmt: skip

    def listing(self) -> set[str]:
        """Everything on the host: files, users, groups, units, packages, holds; without the housekeeping."""
        paths = self.ssh("find / -xdev -printf '%p %y %m %u %g %l\\n'").splitlines()
        kept = {path for path in paths if not path.startswith(HOUSEKEEPING)}
        asked = "getent passwd; getent group; systemctl list-unit-files --no-legend --no-pager; apt-mark showhold"
        return kept | set(
            self.ssh(f"{asked}; dpkg-query -W -f '${{Package}} ${{Version}} ${{Status}}\\n'").splitlines()
        )

    def serves(self, port: int) -> str:
        ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/health').read().decode())"
        return self.ssh(f"python3 -c {shlex.quote(ask)}").strip()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.down()


@pytest.fixture
def rig(lab: Lab, tmp_path: Path) -> Iterator[Rig]:
    name = "apply"
    made = lab.up({name: "debian-12"})[0]
    parts = Parts(tmp_path)
    debs = (pip_deb(parts), nginx_deb(parts))
    lock = parts.lock({"runtime": parts.venv(parts.wheel()), "llm": parts.weights()}, debs, name)
    yield Rig(made, parts, lock, tmp_path / "work")
    lab.remove(name)


def test_a_host_is_brought_up_once_found_unchanged_and_left_as_it_was(rig: Rig) -> None:
    before = rig.listing()
    would = rig.apply(check=True)
    assert rig.listing() == before

    did = rig.apply()
    assert (did.changed, set(did.changes)) == (would.changed, set(would.changes))
    assert rig.serves(18080) == "hello stand-in for weights"
    assert rig.serves(8080) == f"Bearer {SECRETS['gateway_token']}"
    assert rig.ssh("systemctl is-enabled agentrig-runtime agentrig-gateway").split() == ["enabled", "enabled"]
    assert rig.ssh("systemctl is-active nginx", fine=False).strip() == "inactive"
    assert_is_as_declared(rig, did.manifest)
    assert_keeps_no_secret(rig, did)

    again = rig.apply(former=did.manifest)
    assert (again.changed, again.changes) == (0, ())
    assert again.manifest == did.manifest

    removed = remove(rig.host, [did.manifest], rig.work, silent, purge=True)
    assert removed.changed
    assert removed.left == ()
    left = rig.listing()
    assert sorted(left - before) == []
    assert sorted(before - left) == []


def assert_is_as_declared(rig: Rig, manifest: Manifest) -> None:
    for item in manifest.files:
        about = rig.ssh(f"stat -c '%04a %U %G' {item.path}; sha256sum {item.path}").split()
        assert about[:3] == [item.mode, item.owner, item.group], item.path
        assert item.secrets or about[3] == item.sha256, item.path
    for link in manifest.links:
        assert rig.ssh(f"readlink {link.path}").strip() == link.target
    for tree in manifest.trees:
        assert rig.ssh(f"head -1 {tree.path}/.agentrig-complete").strip() == tree.digest
        assert rig.ssh(f"find {tree.path}/ -name '*.pyc'") == ""
    for package in manifest.packages:
        assert (
            rig.ssh(f"dpkg-query -W -f '${{Version}} ${{Status}}' {package.name}")
            == f"{package.version} hold ok installed"
        )
    for user in manifest.users:
        assert rig.ssh(f"getent passwd {user}").strip().endswith(":/nonexistent:/usr/sbin/nologin")


def assert_keeps_no_secret(rig: Rig, did: Applied) -> None:
    assert did.log.read_text()
    assert not list(rig.work.glob("run-*"))
    for path in [path for path in rig.work.rglob("*") if path.is_file()]:
        for secret in SECRETS.values():
            assert secret.encode() not in path.read_bytes(), path


def test_a_new_release_a_drift_a_rollback_and_a_stop(rig: Rig) -> None:
    first = rig.apply()
    pid = rig.ssh(f"systemctl show -P MainPID {GATEWAY}")

    second = rig.apply(rendered(greeting="good day "), former=first.manifest)
    assert rig.serves(18080) == "good day stand-in for weights"
    assert rig.ssh(f"systemctl show -P MainPID {GATEWAY}") != pid, "a gateway of before stood in front of a new runtime"

    rig.ssh("echo GREETING=drifted > /opt/agentrig/current/runtime/environment; systemctl restart agentrig-runtime")
    rig.ssh(
        "rm /etc/systemd/system/multi-user.target.wants/agentrig-gateway.service;echo x >> /opt/agentrig/store/*/*.gguf"
    )
    mended = rig.apply(rendered(greeting="good day "), former=second.manifest)
    assert mended.manifest == second.manifest
    assert rig.serves(18080) == "good day stand-in for weights"
    assert_is_as_declared(rig, mended.manifest)

    activate(rig.host, first.manifest, rig.work, silent)
    assert rig.serves(18080) == "hello stand-in for weights"
    assert rig.ssh("readlink /opt/agentrig/current").strip() == f"releases/{first.release}"

    stop(rig.host, rig.work, silent)
    assert rig.ssh("systemctl is-active agentrig-runtime agentrig-gateway", fine=False).split() == ["inactive"] * 2

    assert rig.ssh("ls /etc/systemd/system/multi-user.target.wants | grep agentrig || :") == "", "not at the next boot"

    remove(rig.host, [first.manifest], rig.work, silent, purge=False)
    assert rig.ssh("ls /etc/systemd/system/multi-user.target.wants | grep agentrig || :") == ""
    assert rig.ssh("test -e /opt/agentrig/current && echo there || echo gone").strip() == "gone"
    assert rig.apply(former=first.manifest).manifest == first.manifest
    assert rig.serves(18080) == "hello stand-in for weights"


def test_what_was_there_before_stays(rig: Rig) -> None:
    greeting = rig.parts.deb("agentrig-test-greeting", {"usr/share/greeting": b"old\n"}, version="1.0")
    nginx = next(artefact for artefact in rig.lock.artefacts if artefact.name == "nginx")
    for deb in (greeting, nginx):
        content = (rig.parts.store / "sha256" / deb.key[:2] / deb.key).read_bytes()
        subprocess.run([*rig.made.ssh(), "cat > /root/old.deb && dpkg -i /root/old.deb"], input=content, check=True)
    assert rig.ssh("systemctl is-active nginx").strip() == "active"
    newer = rig.parts.deb("agentrig-test-greeting", {"usr/share/greeting": b"new\n"}, version="2.0")
    host_lock = rig.lock.hosts[rig.made.name]
    lock = rig.lock.model_copy(update={
        "hosts": {rig.made.name: host_lock.model_copy(update={"debs": (*host_lock.debs, newer.id)})},
        "artefacts": (*rig.lock.artefacts, newer),
    })  # fmt: skip
    rig.lock = lock
    did = rig.apply()
    assert rig.ssh("cat /usr/share/greeting").strip() == "new"
    assert "agentrig-test-greeting" not in rig.ssh("apt-mark showhold")
    assert "agentrig-test-greeting" not in {package.name for package in did.manifest.packages}
    assert did.manifest.before.packages == {"agentrig-test-greeting": "1.0", "nginx": "1.0"}
    assert rig.ssh("systemctl is-active nginx").strip() == "active"
    removed = remove(rig.host, [did.manifest], rig.work, silent, purge=True)
    assert set(removed.left) == {
        "package agentrig-test-greeting 2.0 was there before, upgraded from 1.0",
        "package nginx 1.0 was there before",
    }
    assert rig.ssh("systemctl is-active nginx").strip() == "active"
    assert rig.ssh("cat /usr/share/greeting").strip() == "new"


def test_what_failed_leaves_what_served(rig: Rig) -> None:
    first = rig.apply()
    broken = rendered(greeting="never ")
    unit = next(file for file in broken.files if file.path == f"units/{RUNTIME}")
    files = tuple(
        file.model_copy(update={"content": unit.content.replace("stand-in.gguf", "missing.gguf").replace("18080", "x")})
        if file is unit
        else file
        for file in broken.files
    )
    with pytest.raises(ApplyError, match=r"agentrig-runtime\.service does not stay up"):
        rig.apply(broken.model_copy(update={"files": files}), former=first.manifest)
    assert rig.ssh("readlink /opt/agentrig/current").strip() == f"releases/{first.release}"
    assert rig.serves(18080) == "hello stand-in for weights"

    rig.ssh("systemd-run -q --unit squatter python3 -m http.server 18099; sleep 1")
    taken = rendered(runtime_port=18099)
    host_lock = rig.lock.hosts[rig.made.name]
    deployment = host_lock.deployment.model_copy(update={"runtime_port": 18099})
    rig.lock = rig.lock.model_copy(update={
        "hosts": {rig.made.name: host_lock.model_copy(update={"deployment": deployment})}})  # fmt: skip
    with pytest.raises(ApplyError, match=r"port 18099, meant for agentrig-runtime\.service, is taken by python3"):
        rig.apply(taken, former=first.manifest)
    assert rig.serves(18080) == "hello stand-in for weights"


def test_a_wrong_hash_is_refused_and_leaves_nothing_half_installed(rig: Rig) -> None:
    weights = next(artefact for artefact in rig.lock.artefacts if artefact.kind == "file")
    blob = rig.parts.store / "sha256" / weights.key[:2] / weights.key
    content = blob.read_bytes()
    blob.write_bytes(content[::-1])
    with pytest.raises(ApplyError, match=rf"{weights.key} was damaged"):
        rig.apply()
    assert rig.ssh(f"ls -A /opt/agentrig/store | grep -c {weights.key} || :").strip() == "0"
    assert rig.ssh("test -e /opt/agentrig/current && echo there || echo gone").strip() == "gone"
    blob.write_bytes(content)
    rig.apply()
    assert rig.serves(18080) == "hello stand-in for weights"


KILLED_AT = (
    "Install the packages",
    "Build the artefacts",
    "Make the release current",
    "Run the gateway and wait until it answers",
)


@pytest.mark.parametrize("task", KILLED_AT)
def test_killed_at_any_moment_it_converges(rig: Rig, task: str) -> None:
    code = f"""
import json, os, signal, sys
from pathlib import Path
from orchestrator.apply import apply
from orchestrator.inventory import Host
from orchestrator.lockfile import Lock
from tests.apply_parts import SECRETS, rendered
def die(event):
    if event.text == {task!r}:
        os.kill(os.getpid(), signal.SIGKILL)
host, lock, name, store, work = sys.argv[1:]
lock = Lock.from_json(Path(lock).read_text())
apply(Host.from_json(host), rendered(), lock, name, Path(store), SECRETS, Path(work), die)
"""
    file = rig.parts.root / "lock.json"
    file.write_text(rig.lock.to_json())
    arguments = [rig.host.to_json(), str(file), rig.made.name, str(rig.parts.store), str(rig.work)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -9
    did = rig.apply()
    assert not list(rig.work.glob("run-*")), "the killed run's variables are gone"
    assert rig.serves(18080) == "hello stand-in for weights"
    assert_is_as_declared(rig, did.manifest)
    assert {package.name for package in did.manifest.packages} == {"nginx", "agentrig-test-pip-whl"}
    assert rig.apply(former=did.manifest).changed == 0


def test_an_unreachable_host_and_a_user_who_may_not_become_root(rig: Rig) -> None:
    gone = rig.host.model_copy(update={"port": 1})
    with pytest.raises(ApplyError, match="cannot be reached") as caught:
        apply(gone, rendered(), rig.lock, rig.made.name, rig.parts.store, SECRETS, rig.work, silent)
    assert caught.value.exit_code == 1

    rig.ssh(
        "useradd -m -s /bin/sh guest; mkdir ~guest/.ssh; cp ~/.ssh/authorized_keys ~guest/.ssh;chown -R guest ~guest"
    )
    guest = rig.host.model_copy(update={"user": "guest"})
    with pytest.raises(PrivilegeError, match="no right to become root") as refused:
        apply(guest, rendered(), rig.lock, rig.made.name, rig.parts.store, SECRETS, rig.work, silent)
    assert refused.value.exit_code == 2

    rig.ssh("echo 'guest ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/guest")
    did = apply(guest, rendered(), rig.lock, rig.made.name, rig.parts.store, SECRETS, rig.work, silent)
    assert rig.serves(18080) == "hello stand-in for weights"
    assert_is_as_declared(rig, did.manifest)
    assert_leaves_no_process(rig)


def assert_leaves_no_process(rig: Rig) -> None:
    time.sleep(0.5)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        assert not ("ControlPath=/tmp/agentrig-ssh-" in words and str(rig.work) in words), words


def test_events_tell_what_is_done_and_a_tampered_tree_is_built_again(rig: Rig) -> None:
    seen: list[Event] = []
    did = apply(rig.host, rendered(), rig.lock, rig.made.name, rig.parts.store, SECRETS, rig.work, seen.append)
    texts = [event.text for event in seen if event.state == "running"]
    assert texts[:2] == ["See who signed the lock", "Make folders and users"]
    assert texts[-1] == "Put the agents' commands in place"
    assert "Run the gateway and wait until it answers" in texts
    assert {event.host for event in seen} == {rig.made.name}

    same_look = "f=$(echo /opt/agentrig/store/*/*.gguf); touch -r $f /root/t; sed -i s/for/FOR/ $f; touch -r /root/t $f"
    rig.ssh(same_look)
    mended = rig.apply(former=did.manifest)
    assert "build stand-in-llm 1" in mended.changes
    assert_is_as_declared(rig, mended.manifest)
    assert rig.ssh("cat /opt/agentrig/current/artefacts/llm/*.gguf") == "stand-in for weights"
