"""Real driver packages on lab hosts: installed from the store, held, still there after upgrades; a reboot that mends.

The cards are make-believe, and no module can be loaded: a lab host is a container. What is offered as a newer branch is
a stand-in, and so is the mismatch that a reboot takes away.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.detect import Question, ask
from orchestrator.lab import Lab, LabHost, as_host
from orchestrator.lock import Store
from orchestrator.lock.apt import fetch_debs, resolve_debs
from tests.apply_parts import deb_bytes
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

INVENTORY = ("-i", "driven.yml", "--lab", "--yes")
#: Host -> the lab's system, the branch of its archive, a package of it with the driver's version, one of its library.
HOSTS = {
    "noble": ("ubuntu-24.04", "580", "nvidia-utils-580-server", "libnvidia-compute-580-server"),
    "trixie": ("debian-13", "550", "nvidia-smi", "libcuda1"),
}
NEWER = "9999.1-0test1"
#: Offers packages of this machine to a host's own apt; a stand-in for the distribution that brings out a newer branch.
ARCHIVE = "/root/newer"
SOURCE = f"deb [trusted=yes] file:{ARCHIVE} ./\n"
ORIGIN = "agentrig-test"
CONTROL = "agentrig-test-control"
#: Complains of a mismatch until the next start: /run is empty then.
COMPLAINS = """#!/bin/sh
test -e /run/agentrig-test-mismatch || exec /usr/bin/nvidia-smi "$@"
echo 'Failed to initialize NVML: Driver/library version mismatch'
exit 18
"""


@pytest.fixture(scope="module")
def driven(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("driven"), tmp_path_factory.mktemp("state"), (str(installed),))
    rig.small(
        "driven",
        extends="single-24gb",
        agents=[],
        runtime={"name": "llama_cpp"},
        driver={"packages": "distribution", "power_limit_watts": 280},
    )
    hosts = {name: {"lab_os": system} for name, (system, *_) in HOSTS.items()}
    inventory = {"rigs": {"hosts": hosts, "vars": {"agentrig_profile": "driven"}}}
    (rig.folder / "driven.yml").write_text(json.dumps(inventory), encoding="utf-8")
    yield rig
    assert rig.run("lab", "down").returncode == 0


@pytest.fixture(scope="module")
def first(driven: Rig) -> dict[str, dict[str, Any]]:
    """The run that makes the hosts and brings them up, by host."""
    done = driven.document("up", *INVENTORY)
    return {host["name"]: host for host in done["hosts"]}


@pytest.fixture(scope="module")
def lock(driven: Rig, first: dict[str, dict[str, Any]]) -> dict[str, Any]:
    assert {name: (host["result"], host["error"]) for name, host in first.items()} == dict.fromkeys(
        HOSTS, ("changed", None)
    )
    (path,) = (
        driven.state.glob("lab/deploy.lock")
        if not (driven.folder / "deploy.lock").exists()
        else (driven.folder / "deploy.lock",)
    )
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def versions(rig: Rig, name: str, *packages: str) -> dict[str, str]:
    told = rig.read(name, f"dpkg-query -W -f '${{Package}} ${{Version}}\\n' {' '.join(packages)}")
    return dict(line.split(" ", 1) for line in told.splitlines())


@pytest.mark.parametrize("name", HOSTS)
def test_the_real_packages_are_installed_as_locked_and_held(driven: Rig, lock: dict[str, Any], name: str) -> None:
    _, branch, *packages = HOSTS[name]
    chosen = lock["hosts"][name]["rehearsal"]["driver"]
    assert (chosen["branch"], chosen["kernel"]) == (branch, "none")
    known = {one["name"]: one for one in lock["artefacts"] if _id(one) in lock["hosts"][name]["debs"]}
    there = versions(driven, name, *packages)
    assert there == {package: known[package]["version"] for package in packages}
    assert all(version.startswith(f"{branch}.") for version in there.values())
    held = set(driven.read(name, "apt-mark showhold").split())
    assert {*chosen["packages"]} <= held
    library = driven.read(name, "ls -d /usr/lib/x86_64-linux-gnu/nvidia/*/libcuda.so.* /usr/lib/*/libcuda.so.* || :")
    assert branch in library, "the library that CUDA loads is there"


@pytest.mark.parametrize("name", HOSTS)
def test_what_the_module_cannot_do_here_is_said(driven: Rig, first: dict[str, dict[str, Any]], name: str) -> None:
    (note,) = (one for one in first[name]["notes"] if "NVIDIA module" in one)
    assert "not loaded: this host is a container" in note
    assert driven.read(name, "cat /etc/modprobe.d/agentrig-nouveau.conf").splitlines()[1] == "blacklist nouveau"
    unit = driven.read(name, "systemctl show --property=UnitFileState,ActiveState,Result agentrig-gpu.service")
    assert set(unit.split()) == {"UnitFileState=enabled", "ActiveState=inactive", "Result=success"}


def test_make_believe_cards_serve_what_follows_and_a_second_run_changes_nothing(driven: Rig, lock: Any) -> None:
    assert lock["hosts"]
    for mode in ("--full", "--check"):
        again = driven.document("up", *INVENTORY, mode)
        assert {(host["result"], host["changed"]) for host in again["hosts"]} == {("unchanged", 0)}, mode
    assert "make-believe" in driven.read("noble", "cat /etc/agentrig-make-believe-gpus")
    assert "580." in driven.read("noble", "nvidia-smi --query-gpu=driver_version --format=csv,noheader")


def test_a_newer_branch_moves_nothing_by_apt_nor_unattended(driven: Rig, lock: Any, tmp_path: Path) -> None:
    """The newer branch bears the names that are installed; the control shows that it would come, were it let."""
    assert lock["hosts"]
    host = lab_host(driven, "noble")
    _, _, package, library = HOSTS["noble"]
    before = versions(driven, "noble", package, library)
    upgrader = unattended_upgrades(host, tmp_path)
    put(host, ARCHIVE, newer_archive(tmp_path, (package, library, CONTROL)))
    driven.read(
        "noble",
        "set -e; mkdir -p /root/kept; mv /etc/apt/sources.list /root/kept/; "
        f"printf %s {shlex.quote(SOURCE)} > /etc/apt/sources.list.d/newer.list; "
        f"dpkg --install {ARCHIVE}/{CONTROL}_1.0_all.deb; apt-get -qq update; "
        "DEBIAN_FRONTEND=noninteractive apt-get -q -y upgrade",
    )
    after = versions(driven, "noble", package, library, CONTROL)
    assert after == {**before, CONTROL: NEWER}, "the control was upgraded, the driver was not"

    put(host, "/root/debs", upgrader)
    driven.read("noble", "DEBIAN_FRONTEND=noninteractive dpkg --install /root/debs/*.deb")
    driven.read("noble", f"apt-mark unhold {package} {library}")
    allowed = f'Unattended-Upgrade::Origins-Pattern {{ "origin={ORIGIN}"; }};\n'
    driven.read("noble", f"printf %s {shlex.quote(allowed)} > /etc/apt/apt.conf.d/99agentrig-test")
    driven.read("noble", "unattended-upgrade --verbose")
    assert versions(driven, "noble", package, library) == before, "the holds were off, the names kept it away"
    kept = "/etc/apt/apt.conf.d/52agentrig /etc/apt/apt.conf.d/53agentrig-driver"
    driven.read("noble", f"mv {kept} /root/kept/")
    would = driven.read("noble", "unattended-upgrade --dry-run --verbose")
    assert package in would.split("will be upgraded:")[-1], "without our files it would be upgraded"
    driven.read(
        "noble",
        f"cd /root/kept && mv 52agentrig 53agentrig-driver /etc/apt/apt.conf.d/ && mv sources.list /etc/apt/ && "
        f"rm -r /etc/apt/sources.list.d/newer.list /etc/apt/apt.conf.d/99agentrig-test {ARCHIVE} /root/debs",
    )
    (healed,) = driven.document("up", *INVENTORY, "--limit", "noble")["hosts"]
    assert (healed["error"], healed["result"]) == (None, "changed")
    assert {package, library} <= set(driven.read("noble", "apt-mark showhold").split()), "the holds are back"


def test_a_mismatch_says_reboot_and_with_leave_it_is_done_and_gone_on_from(driven: Rig, lock: Any) -> None:
    assert lock["hosts"]
    put(lab_host(driven, "noble"), "/usr/local/bin", {"nvidia-smi": COMPLAINS.encode()})
    driven.read("noble", "chmod 755 /usr/local/bin/nvidia-smi && touch /run/agentrig-test-mismatch")
    started = "systemctl show --property=UserspaceTimestamp --value"
    before = {name: driven.read(name, started) for name in HOSTS}

    told = driven.document("up", *INVENTORY, code=2)
    noble, trixie = told["hosts"]
    assert (noble["error"]["kind"], trixie["error"]) == ("reboot", None)
    assert "must be rebooted" in noble["error"]["what"]
    assert "--reboot" in noble["error"]["do"]
    assert driven.read("noble", started) == before["noble"]

    done = driven.document("up", *INVENTORY, "--reboot")
    assert [(host["result"], host["error"]) for host in done["hosts"]] == [("unchanged", None)] * 2
    after = {name: driven.read(name, started) for name in HOSTS}
    assert (after["noble"] != before["noble"], after["trixie"] == before["trixie"]) == (True, True)
    assert driven.read("noble", "systemctl is-active agentrig-runtime agentrig-gateway").split() == ["active"] * 2
    driven.read("noble", "rm /usr/local/bin/nvidia-smi")


def test_down_takes_packages_holds_and_files_away(driven: Rig, lock: Any) -> None:
    assert lock["hosts"]
    done = driven.document("down", *INVENTORY, "--purge")
    assert [host["error"] for host in done["hosts"]] == [None, None]
    for name in HOSTS:
        left = driven.read(name, "dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' | grep -E 'nvidia|libcuda' || :")
        assert [line for line in left.splitlines() if line.split()[1] != "un"] == []
        files = (
            "/etc/modprobe.d/agentrig-nouveau.conf /etc/apt/apt.conf.d/53agentrig-driver /etc/systemd/system/agentrig*"
        )
        assert driven.read(name, f"ls -d {files} 2>/dev/null || :") == ""
        assert driven.read(name, "apt-mark showhold") == ""


def _id(artefact: dict[str, Any]) -> str:
    head = (artefact["digest"] or "sha256:unresolved").removeprefix("sha256:")[:12]
    return f"{artefact['kind']}/{artefact['name']}/{artefact['version']}/{head}"


def lab_host(rig: Rig, name: str) -> LabHost:
    return next(host for host in Lab(rig.state / "lab").hosts() if host.name == name)


def put(host: LabHost, folder: str, files: dict[str, bytes]) -> None:
    """Put files into a folder of a host."""
    for name, content in files.items():
        command = f"mkdir -p {folder} && cat > {folder}/{name}"
        subprocess.run([*host.ssh(), command], input=content, check=True, capture_output=True)


def newer_archive(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Give an archive of stand-in packages that sort after the real ones, and the control in two versions."""
    files = {f"{name}_{NEWER}_all.deb": deb_bytes(folder / name, name, NEWER, {}, {}) for name in names}
    index = "".join(
        f"Package: {file.split('_')[0]}\nVersion: {NEWER}\nArchitecture: all\nMaintainer: tests <root@localhost>\n"
        f"Filename: ./{file}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        "Description: a stand-in package of the tests\n\n"
        for file, content in files.items()
    ).encode()
    digest = hashlib.sha256(index).hexdigest()
    release = f"Origin: {ORIGIN}\nSuite: newer\nSHA256:\n {digest} {len(index)} Packages\n".encode()
    own = {f"{CONTROL}_1.0_all.deb": deb_bytes(folder / "own", CONTROL, "1.0", {}, {})}
    return files | own | {"Packages": index, "Release": release}


def unattended_upgrades(host: LabHost, folder: Path) -> dict[str, bytes]:
    """Give the distribution's unattended-upgrades with what the host lacks of it, from its own archive."""
    snapshot = ask([Question(host=as_host(host), snapshot=True, manifest=None)])[host.name].snapshot
    assert snapshot is not None
    store = Store(folder / "store")
    closure = resolve_debs(snapshot, ["unattended-upgrades"], store)
    fetch_debs(closure.debs, snapshot, store)
    return {deb.filename: store.path(str(deb.digest)).read_bytes() for deb in closure.debs}
