"""What lies under a runtime: the commands against stand-in programs, and which findings a machine's words give."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.catalog.loader import causes
from orchestrator.detect.faults import COMMANDS, parse
from orchestrator.detect.script import Output
from orchestrator.doctor import Finding
from orchestrator.machine_doctor import MachineLogs, machine_findings, together

BOOT = Path(__file__).parents[1] / "fixtures/boot"
CAUSES = causes()
#: A machine where all is well, and one that has neither cards nor containers.
WELL = MachineLogs(
    driver_answers=True,
    kernel="NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05",
    driver="NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0",
)


def told(logs: MachineLogs) -> list[str]:
    return [one.cause for one in machine_findings(logs, CAUSES, "one")]


def log(name: str) -> str:
    return str(yaml.safe_load((BOOT / f"{name}.yml").read_text(encoding="utf-8"))["log"])


def test_a_machine_that_is_well_or_has_no_cards_tells_nothing() -> None:
    assert told(WELL) == []
    assert told(MachineLogs()) == []


@pytest.mark.parametrize(
    ("kernel", "driver", "cause"),
    [
        ("kernel_api_mismatch", "driver_upgraded_without_a_reboot", "driver_mismatch"),
        ("kernel_module_rejected", "driver_module_not_loaded", "driver_refused"),
        ("kernel_nouveau_holds_the_card", "driver_module_not_loaded", "card_held"),
        ("kernel_xid_79", "driver_module_not_loaded", "gpu_lost"),
        ("gpu_forbidden", "driver_dkms_build_failed", "gpu_forbidden"),
    ],
)
def test_the_narrower_cause_is_told_of_a_driver_that_does_not_answer(kernel: str, driver: str, cause: str) -> None:
    (found,) = machine_findings(MachineLogs(kernel=log(kernel), driver=log(driver)), CAUSES, "one")
    assert (found.cause, found.host, found.change) == (cause, "one", CAUSES[cause].do)
    assert found.lines


def test_what_the_kernel_said_of_a_driver_that_answers_now_is_past_but_for_a_lost_card() -> None:
    past = WELL.model_copy(update={"kernel": log("kernel_nouveau_holds_the_card") + log("kernel_api_mismatch")})
    assert told(past) == []
    assert told(past.model_copy(update={"kernel": past.kernel + log("kernel_xid_79")})) == ["gpu_lost"]


def test_several_faults_of_one_machine_are_all_told() -> None:
    logs = MachineLogs(
        kernel=log("kernel_xid_79"),
        engine=log("docker_daemon_failed"),
        disk="/var/lib/docker has 12 MiB left\n",
        cdi="/etc/cdi/nvidia.yaml names /usr/lib/libcuda.so.550.54.14, which is not there\n",
        devices="/dev/nvidia0 is 660 root:video, and the account agentrig of agentrig-runtime is not in video\n",
    )
    assert told(logs) == ["gpu_lost", "engine_down", "containers_disk_full", "cdi_stale", "gpu_forbidden"]


def test_what_else_a_machine_logs_is_no_finding_of_ours() -> None:
    assert told(MachineLogs(kernel="Out of memory: Killed process 77 (firefox)", engine="address already in use")) == []


def test_no_secret_of_the_host_comes_out_of_its_logs() -> None:
    engine = "docker.service: Failed with result 'topmost'"
    (found,) = machine_findings(MachineLogs(engine=engine), CAUSES, "one", ["topmost"])
    assert "topmost" not in found.lines[0]


def finding(cause: str, *lines: str, host: str = "one") -> Finding:
    return Finding(host=host, cause=cause, means="", change="", lines=lines)


def test_a_cause_is_told_once_and_the_wider_gives_way() -> None:
    snapshot = [finding("driver_not_loaded"), finding("driver_mismatch", host="two"), finding("clock")]
    machine = [finding("driver_refused", "Key was rejected"), finding("driver_mismatch", "NVRM: API", host="two")]
    assert [(one.host, one.cause) for one in together(snapshot, machine, CAUSES)] == [
        ("one", "clock"),
        ("one", "driver_refused"),
        ("two", "driver_mismatch"),
    ]


def test_what_a_unit_told_with_its_lines_is_not_told_again() -> None:
    units = [finding("driver_mismatch", "Failed to initialize NVML: Driver/library version mismatch")]
    assert together(units, [finding("driver_mismatch", "NVRM: API mismatch")], CAUSES) == tuple(units)


def run(folder: Path, section: str, **programs: str) -> Output:
    """Run a section's command where only stand-in programs and those of the shell are found."""
    for name, text in programs.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        program.chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh"], input=COMMANDS[section], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    return Output(done.stdout, done.returncode)


def test_a_driver_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    answers = run(tmp_path, "smi", nvidia_smi="echo well")
    assert parse({"smi": answers}).driver_answers
    words = "Failed to initialize NVML: Driver/library version mismatch"
    fails = parse({"smi": run(tmp_path, "smi", nvidia_smi=f"echo '{words}' >&2; exit 18")})
    assert not fails.driver_answers
    assert told(fails) == ["driver_mismatch"]


def test_the_kernels_ring_is_read_where_the_journal_has_nothing(tmp_path: Path) -> None:
    xid = "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus"
    of_ring = run(tmp_path, "kernel", journalctl="exit 1", dmesg=f"echo 'usb 1-1: new device'; echo '{xid}'")
    assert of_ring.text.strip() == xid
    of_journal = run(tmp_path, "kernel", journalctl=f"echo '{xid}'", dmesg="echo NVRM: other")
    assert of_journal.text.strip() == xid


@pytest.mark.parametrize(
    ("status", "causes_told"),
    [
        ("nvidia/550.90.07: added", ["driver_unbuilt"]),
        ("nvidia, 470.86, 5.13.18, x86_64: installed", ["driver_unbuilt"]),
        ("nvidia/550.90.07, 6.8.0-45-generic, x86_64: installed", []),
        ("zfs/2.2.2, 6.8.0-44-generic, x86_64: installed", []),
    ],
)
def test_dkms_is_held_against_the_kernel_that_runs(tmp_path: Path, status: str, causes_told: list[str]) -> None:
    found = run(tmp_path, "dkms", dkms=f"echo '{status}'", uname="echo 6.8.0-45-generic")
    assert told(MachineLogs(driver=found.text)) == causes_told


@pytest.mark.parametrize(
    ("stands", "causes_told"),
    [
        ("LoadState=loaded ActiveState=failed SubState=failed", ["engine_down"]),
        ("LoadState=loaded ActiveState=activating SubState=auto-restart", ["engine_down"]),
        ("LoadState=loaded ActiveState=inactive SubState=dead", []),
        ("LoadState=loaded ActiveState=active SubState=running", []),
        ("LoadState=not-found ActiveState=inactive SubState=dead", []),
    ],
)
def test_docker_is_told_where_it_failed_and_not_where_its_owner_stopped_it(
    tmp_path: Path, stands: str, causes_told: list[str]
) -> None:
    found = run(tmp_path, "engine", systemctl=f"echo '{stands}'", journalctl="echo 'Starting docker.service'")
    assert told(MachineLogs(engine=found.text)) == causes_told


@pytest.mark.parametrize("section", sorted(COMMANDS))
def test_a_machine_without_any_of_the_programs_says_nothing_wrong(tmp_path: Path, section: str) -> None:
    gone = dict.fromkeys(("journalctl", "dmesg", "dkms", "systemctl", "nvidia_smi"), "exit 127")
    assert told(parse({section: run(tmp_path, section, **gone)})) == []
