"""Hosts read as a fleet is read: real systemd hosts over SSH, one of them not there."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.detect import Question, ask
from orchestrator.inventory import Host
from orchestrator.lab import Lab, as_host
from orchestrator.manifest import Before, FileItem, LinkItem, Manifest, PackageItem, UnitItem, compare
from orchestrator.snapshot import Gpu, Link, Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

CARDS = tuple(
    Gpu(
        index=index,
        vendor="nvidia",
        name="NVIDIA GeForce RTX 3090",
        vram_mib=24576,
        vram_free_mib=24000,
        compute_capability="8.6",
        bus_id=f"00000000:0{index + 1}:00.0",
        source="given",
        pcie_generation=4,
        pcie_width=16,
    )
    for index in range(2)
)

#: A unit that lies elsewhere, linked and wanted as ours are.
UNIT = """
mkdir -p /opt/agentrig/units && cd /etc/systemd/system || exit 1
unit=/opt/agentrig/units/agentrig-sleeps.service
printf '[Service]\\nExecStart=sleep 600\\n[Install]\\nWantedBy=multi-user.target\\n' >$unit
ln -sfn $unit agentrig-sleeps.service
ln -sfn /etc/systemd/system/agentrig-sleeps.service multi-user.target.wants/agentrig-sleeps.service
systemctl daemon-reload && systemctl start agentrig-sleeps.service
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("detect") / "lab")
    try:
        made.up({"h1": "debian-12", "h2": "debian-12"})
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> dict[str, Host]:
    return {made.name: as_host(made) for made in lab.hosts()}


def on(lab: Lab, name: str, command: str) -> None:
    made = next(host for host in lab.hosts() if host.name == name)
    subprocess.run([*made.ssh(), command], check=True, capture_output=True, timeout=60)


def children() -> set[str]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii")
    return set(listed.split())


def test_a_real_host_tells_what_it_is(hosts: dict[str, Host]) -> None:
    answer = ask([Question(host=hosts["h1"])])["h1"]
    assert answer.error is None
    snapshot = answer.snapshot
    assert snapshot
    assert (snapshot.os.id, snapshot.os.version_id, snapshot.systemd) == ("debian", "12", True)
    assert snapshot.container == "systemd-nspawn"
    assert snapshot.python is None or snapshot.python.version.startswith("3.11")
    assert any((one.protocol, one.port) == ("tcp", 22) and one.program for one in snapshot.listeners)
    assert {"dpkg", "systemd"} <= {package.name for package in snapshot.packages}
    assert not [problem for problem in snapshot.problems if problem.kind.startswith("probe")]


def test_an_unreachable_host_does_not_cost_the_others_their_answers(hosts: dict[str, Host], tmp_path: Path) -> None:
    there = hosts["h1"]
    closed = there.model_copy(update={"name": "closed", "port": 9})
    strangers = tmp_path / "known_hosts"
    strangers.touch()
    unknown = there.model_copy(update={"name": "unknown", "known_hosts": str(strangers)})
    keyless = there.model_copy(update={"name": "keyless", "private_key": str(tmp_path / "no-key")})
    here = Host(name="here", connection="local")
    asked = [closed, *hosts.values(), unknown, keyless, here]
    before = children()
    answers = ask([Question(host=host) for host in asked])
    assert list(answers) == [host.name for host in asked]
    assert {name for name, answer in answers.items() if answer.snapshot} == {"h1", "h2", "here"}
    errors = {name: answer.error for name, answer in answers.items() if answer.error}
    assert {name: error["kind"] for name, error in errors.items()} == dict.fromkeys(
        ("closed", "unknown", "keyless"), "unreachable"
    )
    for name, words in (("closed", "refused"), ("unknown", "host key is not known"), ("keyless", "private key")):
        assert words in errors[name]["what"]
        assert errors[name]["where"] == name
        assert errors[name]["do"]
        assert "\n" not in errors[name]["what"]
    assert children() == before


def test_make_believe_cards_are_read_through_nvidia_smi(lab: Lab, hosts: dict[str, Host]) -> None:
    lab.put_gpus("h2", CARDS)
    snapshot = ask([Question(host=hosts["h2"])])["h2"].snapshot
    assert snapshot
    assert [gpu.model_copy(update={"source": "given"}) for gpu in snapshot.gpus] == list(CARDS)
    assert {gpu.source for gpu in snapshot.gpus} == {"nvidia-smi"}
    assert (snapshot.driver, snapshot.cuda) == ("580.95.05", "13.0")
    assert all(isinstance(link, Link) for link in snapshot.links)


#: A stand-in for the one question that the make-believe nvidia-smi does not answer: two processes hold memory.
APPS = """
cat >/usr/local/bin/nvidia-smi <<'END'
#!/bin/sh
case $1 in --query-compute-apps=*)
echo "00000000:01:00.0, $(systemctl show --value -p MainPID agentrig-sleeps.service), 300"
echo "00000000:01:00.0, $(systemctl show --value -p MainPID ssh.service), 200"
exit;; esac
exec /usr/bin/nvidia-smi "$@"
END
chmod 755 /usr/local/bin/nvidia-smi; ln -sfn releases/one /opt/agentrig/current
mkdir -p /opt/agentrig/releases/one
"""


def test_memory_of_our_own_units_is_told_from_a_strangers(lab: Lab, hosts: dict[str, Host]) -> None:
    lab.put_gpus("h2", CARDS)
    on(lab, "h2", UNIT + APPS)
    snapshot = ask([Question(host=hosts["h2"])])["h2"].snapshot
    assert snapshot
    assert [gpu.vram_ours_mib for gpu in snapshot.gpus] == [300, 0]


def test_a_manifest_is_held_against_its_host(lab: Lab, hosts: dict[str, Host]) -> None:
    content = "a secret: s3cret\n"
    on(
        lab,
        "h1",
        f"install -d /opt/agentrig && printf '{content}' >'/opt/agentrig/a file' && chmod 640 '/opt/agentrig/a file'",
    )
    on(lab, "h1", "ln -sfn releases/one /opt/agentrig/current; apt-mark hold dpkg")
    on(lab, "h1", UNIT)
    snapshot = ask([Question(host=hosts["h1"])])["h1"].snapshot
    assert snapshot
    version = next(package.version for package in snapshot.packages if package.name == "dpkg")
    manifest = Manifest(
        host="h1",
        release="one",
        deployment_id="one",
        lock_digest="sha256:0",
        files=(
            FileItem(
                path="/opt/agentrig/a file",
                mode="0640",
                owner="root",
                group="root",
                sha256=sha256(content.encode()).hexdigest(),
            ),
        ),
        links=(LinkItem(path="/opt/agentrig/current", target="releases/one"),),
        packages=(PackageItem(name="dpkg", version=version),),
        units=(
            UnitItem(name="ssh.service", enabled=True, active=True),
            UnitItem(name="agentrig-sleeps.service", enabled=True, active=True),
        ),
        users=("root", "daemon"),
        groups=("daemon",),
        before=Before(listeners=snapshot.listeners),
    )
    question = Question(host=hosts["h1"], snapshot=False, manifest=manifest)
    answer = ask([question])["h1"]
    assert answer.snapshot is None
    assert answer.reading
    assert compare(manifest, answer.reading) == ()

    on(lab, "h1", "chmod 600 '/opt/agentrig/a file'; rm /opt/agentrig/current; apt-mark unhold dpkg")
    on(lab, "h1", "rm /etc/systemd/system/multi-user.target.wants/agentrig-sleeps.service; systemctl daemon-reload")
    on(lab, "h1", "systemd-run --quiet --socket-property=ListenStream=127.0.0.1:9999 --unit=stranger true")
    wanted = manifest.model_copy(
        update={"listeners": (Listener(protocol="tcp", address="127.0.0.1", port=18080),), "users": ("nobody-else",)}
    )
    reading = ask([Question(host=hosts["h1"], snapshot=False, manifest=wanted)])["h1"].reading
    assert reading
    drift = {(one.kind, one.name): (one.expected, one.found) for one in compare(wanted, reading)}
    assert drift["file", "/opt/agentrig/a file"] == ("mode 0640", "mode 0600")
    assert drift["link", "/opt/agentrig/current"] == ("-> releases/one", "absent")
    assert drift["hold", "dpkg"] == ("held", "not held")
    assert drift["user", "nobody-else"] == ("present", "absent")
    assert drift["unit", "agentrig-sleeps.service"] == ("enabled, active", "disabled, active")
    assert drift["listener", "tcp 127.0.0.1:9999"][0] == "not listening"
    assert drift["listener", "tcp 127.0.0.1:18080"] == ("listening", "not listening")
