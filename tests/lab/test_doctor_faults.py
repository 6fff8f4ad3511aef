"""``deploy doctor`` on a real host with made faults of driver and containers, and how cards are told there.

What prints them is a stand-in by name.

No card, no driver and no Docker are here: a make-believe nvidia-smi and dmesg print what the real ones print, a unit of
Docker's name fails as Docker's does, and the specification for containers is a file of ours.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from orchestrator.detect import Question, ask
from orchestrator.inventory import Host
from orchestrator.lab import Lab, as_host
from orchestrator.manifest import Manifest
from orchestrator.verify import Subject
from orchestrator.verify.cards import cards_check
from tests.lab.rig import Rig
from tests.lab.test_detect_hosts import CARDS
from tests.unit.test_card_health import A100, DEPLOYMENT, PLACE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

HOST = "faulty"
BOOT = Path(__file__).parents[1] / "fixtures/boot"
PROGRAMS = "/usr/local/bin"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A host of this module's own, with nothing of ours on it."""
    made = Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"))
    lab = Lab(made.state / "lab")
    try:
        lab.up({HOST: "debian-12"})
        yield made
    finally:
        lab.down()


@pytest.fixture(autouse=True)
def _well_again(rig: Rig) -> Iterator[None]:
    yield
    rig.read(
        HOST,
        f"systemctl stop docker.service; rm -rf {PROGRAMS}/nvidia-smi {PROGRAMS}/dmesg /etc/cdi"
        " /etc/systemd/system/docker.service; systemctl daemon-reload; systemctl reset-failed; :",
    )


def prints(rig: Rig, program: str, fixture: str, status: int) -> None:
    """Put a stand-in on the host: a program that prints a fixture and ends as the real one does."""
    text = yaml.safe_load((BOOT / f"{fixture}.yml").read_text(encoding="utf-8"))["log"]
    script = f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n"
    file = f"{PROGRAMS}/{program}"
    rig.read(HOST, f"printf %s {shlex.quote(script)} >{file} && chmod 755 {file}")


@pytest.fixture
def host(rig: Rig) -> Host:
    (made,) = Lab(rig.state / "lab").hosts()
    return as_host(made)


def told(rig: Rig, code: int = 1) -> dict[str, str]:
    """Cause -> what mends it, as the verb tells it."""
    return {one["cause"]: one["change"] for one in rig.document("doctor", "--lab", code=code)["findings"]}


def test_a_host_without_cards_and_containers_has_nothing_wrong(rig: Rig) -> None:
    assert told(rig, code=0) == {}


def test_a_driver_upgraded_under_a_running_module(rig: Rig) -> None:
    prints(rig, "nvidia-smi", "driver_upgraded_without_a_reboot", 18)
    found = told(rig)
    assert list(found) == ["driver_mismatch"]
    assert found["driver_mismatch"].startswith("reboot the host")


def test_a_card_that_fell_off_the_bus_is_told_by_the_kernel(rig: Rig) -> None:
    prints(rig, "dmesg", "kernel_xid_79", 0)
    assert "systemctl poweroff" in told(rig)["gpu_lost"]


def test_a_module_that_secure_boot_refused(rig: Rig) -> None:
    prints(rig, "nvidia-smi", "driver_module_not_loaded", 9)
    prints(rig, "dmesg", "kernel_module_rejected", 0)
    found = told(rig)
    assert list(found) == ["driver_refused"]
    assert "mokutil --import" in found["driver_refused"]


def test_a_docker_that_does_not_start_and_a_description_that_is_out_of_date(rig: Rig) -> None:
    unit = "[Unit]\\nDescription=Docker Application Container Engine\\n[Service]\\nExecStart=/bin/false\\n"
    rig.read(HOST, f"printf '{unit}' >/etc/systemd/system/docker.service; systemctl daemon-reload")
    rig.on(HOST, "systemctl start docker.service")
    mounts = "containerEdits:\\n  mounts:\\n  - hostPath: /etc/passwd\\n  - hostPath: /usr/lib/libcuda.so.550.54.14\\n"
    rig.read(HOST, f"mkdir -p /etc/cdi && printf '{mounts}' >/etc/cdi/nvidia.yaml; sleep 1")
    found = told(rig)
    assert set(found) == {"engine_down", "cdi_stale"}
    assert "systemctl start docker" in found["engine_down"]
    assert found["cdi_stale"] == "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def test_a_docker_that_its_owner_stopped_is_no_fault(rig: Rig) -> None:
    unit = "[Service]\\nExecStart=/bin/sleep 600\\n"
    rig.read(HOST, f"printf '{unit}' >/etc/systemd/system/docker.service; systemctl daemon-reload")
    rig.read(HOST, "systemctl start docker.service && systemctl stop docker.service")
    assert told(rig, code=0) == {}


def wellbeing(rig: Rig, told_of_cards: str) -> None:
    """Put a stand-in on the host for the one question that the make-believe nvidia-smi does not answer."""
    script = f'#!/bin/sh\ntest "$1" = -q || exec /usr/bin/nvidia-smi "$@"\ncat <<\'END\'\n{told_of_cards}END\n'
    file = f"{PROGRAMS}/nvidia-smi"
    rig.read(HOST, f"printf %s {shlex.quote(script)} >{file} && chmod 755 {file}")


def subject(host: Host) -> Subject:
    manifest = Manifest(host=HOST, release="r", deployment_id="d", lock_digest="l")
    return Subject(
        host=host, deployment=DEPLOYMENT, manifest=manifest, reading=None, base_url="http://127.0.0.1:9", token="t"
    )


def test_how_a_card_is_comes_with_the_host_and_is_held_against_its_limits(rig: Rig, host: Host) -> None:
    assert cards_check(subject(host)).result == "skipped"
    Lab(rig.state / "lab").put_gpus(HOST, CARDS)
    assert cards_check(subject(host)).result == "failed"
    wellbeing(rig, A100)
    snapshot = ask([Question(host=host)])[HOST].snapshot
    assert snapshot
    first, second = (gpu.health for gpu in snapshot.gpus)
    assert first
    assert (first.temperature_celsius, first.ecc_uncorrected, second) == (27, 0, None)
    well = cards_check(subject(host))
    assert (well.result, well.figure, DEPLOYMENT.gpus) == ("passed", 27, (PLACE,))


def test_a_hot_card_with_an_xid_is_not_accepted(rig: Rig, host: Host) -> None:
    Lab(rig.state / "lab").put_gpus(HOST, CARDS)
    wellbeing(rig, A100.replace("27 C", "90 C"))
    xid = "NVRM: Xid (PCI:0000:01:00): 48, pid=4242, name=python3, Ch 00000008"
    rig.read(HOST, f"printf '#!/bin/sh\\necho \"%s\"\\n' '{xid}' >{PROGRAMS}/dmesg && chmod 755 {PROGRAMS}/dmesg")
    found = cards_check(subject(host))
    assert found.result == "failed"
    assert "Xid 48" in found.detail
    assert "90 °C" in found.detail
