"""What is decided about the cards' driver: five machines as detection found them, and every distribution's archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalog.driver_rows import DriverRow
from orchestrator.errors import NoFit, UsageError
from orchestrator.nouns import digest_of
from orchestrator.plan import plan, rehearse
from orchestrator.profile import DriverWish, Profile
from orchestrator.snapshot import HostSnapshot, OperatingSystem, Package, Problem
from tests.unit.planning import catalog, machine

PROBES = Path(__file__).parents[1] / "fixtures/probes"
AUTO = Profile(name="auto")
UBUNTU = ("ubuntu", "24.04")
KERNEL = "6.8.0-60-generic"


def found(name: str, **changes: Any) -> HostSnapshot:
    """Give a machine as detection read it from a fixture."""
    document = json.loads((PROBES / name / "expected.json").read_text())
    return HostSnapshot.model_validate(document | changes)


def bare(
    *names: str, os: tuple[str, str] = UBUNTU, source: str = "pci", kernel: str = KERNEL, **changes: Any
) -> HostSnapshot:
    """Give a machine whose cards were seen on the bus, with no driver."""
    system = OperatingSystem(id=os[0], version_id=os[1])
    update = {"os": system, "kernel": kernel, **changes}
    return machine(*names, source=source).model_copy(update=update)


def decide(snapshot: HostSnapshot, runtime: str | None = None, **wish: Any) -> Any:
    profile = AUTO.model_copy(update={"driver": DriverWish.model_validate(wish)})
    return plan(snapshot, profile, catalog(), runtime=runtime)


def test_no_driver_the_distributions_branch_is_installed_with_open_modules_that_the_host_builds() -> None:
    decision = decide(found("two-rtx-3090-driver-missing", kernel=KERNEL))
    assert decision.runtime == "vllm"
    assert decision.driver.document() == {
        "branch": "580",
        "modules": "open",
        "kernel": "dkms",
        "packages": [
            "libnvidia-cfg1-580-server",
            "libnvidia-compute-580-server",
            f"linux-headers-{KERNEL}",
            "nvidia-compute-utils-580-server",
            "nvidia-dkms-580-server-open",
            "nvidia-utils-580-server",
        ],
        "components": ["restricted"],
        "persistence": True,
        "power_limit_watts": None,
    }
    assert any("NVIDIA driver 580" in reason and "none is there" in reason for reason in decision.reasons)


def test_the_right_driver_is_left_alone() -> None:
    decision = decide(found("ubuntu-24.04-two-rtx-3090"))
    assert decision.driver is None
    assert "driver" not in decision.decision()


def test_a_driver_too_old_gives_way_where_its_owner_says_so_and_not_before() -> None:
    old = found("ubuntu-24.04-two-rtx-3090", driver="535.261.03", packages=[])
    assert decide(old, packages="distribution").driver.branch == "580"
    assert any("535.261.03 is there" in reason for reason in decide(old, packages="distribution").reasons)
    decision = decide(old)
    assert (decision.runtime, decision.driver) == ("llama_cpp", None)
    assert any("packages: distribution" in one.reason for one in decision.rejections)


@pytest.mark.parametrize("wish", ["auto", "distribution"])
def test_a_branch_of_the_distribution_that_is_too_old_is_named_with_the_command_that_takes_it_away(wish: str) -> None:
    package = {"name": "libnvidia-compute-535", "version": "535.261.03-0ubuntu0.24.04.1", "architecture": "amd64"}
    old = found("ubuntu-24.04-two-rtx-3090", driver="535.261.03", packages=[package])
    with pytest.raises(NoFit) as refused:
        decide(old, runtime="vllm", packages=wish)
    reasons = {str(getattr(one, "reason", "")) for one in refused.value.rejections}
    (why,) = {one for one in reasons if "driver" in one}
    assert "the host has 535.261.03" in why
    assert "libnvidia-compute-535 is installed, and excludes 580: apt purge '*nvidia*'" in why


def test_a_driver_too_old_on_debian_is_told_with_where_a_newer_one_comes_from() -> None:
    old = bare("RTX 3090", "RTX 3090", os=("debian", "12"), source="nvml", driver="535.261.03")
    decision = decide(old)
    (why,) = {one.reason for one in decision.rejections if one.runtime == "vllm"}
    assert "580 or newer, and the host has 535.261.03" in why
    assert "carries 535. NVIDIA's own archive" in why
    assert (decision.runtime, decision.driver) == ("llama_cpp", None)


@pytest.mark.parametrize(("version", "branch"), [("12", "535"), ("13", "550")])
def test_debian_without_a_driver_gets_its_own_for_what_needs_no_newer(version: str, branch: str) -> None:
    decision = decide(bare("RTX 3090", "RTX 3090", os=("debian", version), kernel="6.1.0-40-amd64"))
    assert (decision.runtime, decision.driver.branch) == ("llama_cpp", branch)
    assert decision.driver.components == ("contrib", "non-free", "non-free-firmware")
    assert "linux-headers-6.1.0-40-amd64" in decision.driver.packages
    assert any(one.startswith("untried: ") for one in decision.reasons)


@pytest.mark.parametrize("name", ["driver-upgraded-not-rebooted", "module-mismatch", "module-on-disk-newer"])
def test_a_library_that_is_not_its_modules_asks_for_a_reboot_and_installs_nothing(name: str) -> None:
    decision = decide(found(f"two-rtx-3090-{name}"))
    assert decision.driver is None
    assert any("must be rebooted" in reason for reason in decision.reasons)


def test_under_secure_boot_modules_of_our_own_making_are_refused_before_anything_is_installed() -> None:
    snapshot = bare("RTX 3090", os=("debian", "13"), kernel="6.12.38+deb13-amd64", secure_boot=True)
    with pytest.raises(UsageError) as refused:
        decide(snapshot)
    assert "Secure Boot" in refused.value.what
    assert "nothing was installed" in refused.value.what
    assert all(word in refused.value.do for word in ("mokutil --import", "Enroll MOK", "module_key: enrolled"))
    assert decide(snapshot, module_key="enrolled").driver.kernel == "dkms"


def test_under_secure_boot_a_distribution_that_signs_modules_needs_no_key() -> None:
    decision = decide(bare("RTX 3090", secure_boot=True))
    assert decision.driver.kernel == "signed"
    assert "linux-modules-nvidia-580-server-open-generic" in decision.driver.packages
    assert not any("dkms" in name for name in decision.driver.packages)


def test_a_module_that_was_not_let_in_is_its_owners_where_it_is_not_the_distributions() -> None:
    with pytest.raises(UsageError) as refused:
        decide(found("two-rtx-3090-secure-boot-module-not-signed"), runtime="llama_cpp")
    assert "excludes 580" in refused.value.what
    with pytest.raises(UsageError, match="under Secure Boot sign it") as refused:
        decide(found("two-rtx-3090-secure-boot-module-not-signed", packages=[]), runtime="llama_cpp")
    assert "not one of the distribution's packages" in refused.value.what


def test_packages_that_are_there_and_not_loaded_are_chosen_again() -> None:
    problem = Problem(kind="driver_not_loaded", what="the NVIDIA driver is installed and its module is not loaded")
    names = ("libnvidia-cfg1-580-server", "libnvidia-compute-580-server")
    packages = tuple(Package(name=name, version="580.178.04-0ubuntu0.24.04.1", architecture="amd64") for name in names)
    again = decide(bare("RTX 3090", problems=(problem,), packages=packages))
    assert again.driver == decide(bare("RTX 3090")).driver


@pytest.mark.parametrize(("held", "stays"), [(True, True), (False, False)])
def test_what_an_earlier_run_installed_and_held_stays_ours_once_it_serves(*, held: bool, stays: bool) -> None:
    before = decide(bare("RTX 3090", os=("ubuntu", "26.04")), branch="595").driver
    packages = tuple(Package(name=one, version="595.91", architecture="amd64", held=held) for one in before.packages)
    after = bare("RTX 3090", os=("ubuntu", "26.04"), source="nvidia-smi", driver="595.91", packages=packages)
    assert decide(after).driver == (before if stays else None)
    assert decide(after, packages="none").driver is None


@pytest.mark.parametrize(
    ("cards", "modules"),
    [
        (("T4",), "open"),
        (("RTX 3090", "RTX 3090"), "open"),
        (("RTX 5090",), "open"),
        (("Tesla P40:24576",), "closed"),
        (("Tesla P40:24576", "RTX 3090"), "closed"),
    ],
)
def test_modules_are_open_from_turing_on(cards: tuple[str, ...], modules: str) -> None:
    snapshot = bare(*cards)
    gpus = tuple(
        gpu.model_copy(update={"compute_capability": "6.1"}) if "P40" in gpu.name else gpu for gpu in snapshot.gpus
    )
    decision = decide(snapshot.model_copy(update={"gpus": gpus}), runtime="llama_cpp")
    assert decision.driver.modules == modules
    assert any(name.endswith("-open") for name in decision.driver.packages) is (modules == "open")


@pytest.mark.parametrize(
    ("cards", "os", "why"),
    [
        (("RTX 5090",), ("debian", "13"), "Blackwell needs 570 or newer"),
        (("RTX 5090", "Tesla P40:24576"), UBUNTU, "no one module drives"),
        (("Unheard of:24576",), UBUNTU, "unknown compute capability"),
        (("RTX 3090",), ("fedora", "44"), "akmod-nvidia"),
        (("RTX 3090",), ("rhel", "9.6"), "RHEL 9"),
        (("RTX 3090",), ("void", ""), "nothing is known of the driver's packages of void"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(cards: Any, os: Any, why: str) -> None:
    snapshot = bare(*cards, os=os)
    gpus = tuple(
        gpu.model_copy(update={"compute_capability": "6.1"}) if "P40" in gpu.name else gpu for gpu in snapshot.gpus
    )
    with pytest.raises(UsageError) as refused:
        decide(snapshot.model_copy(update={"gpus": gpus}), runtime="llama_cpp")
    assert why in refused.value.what
    assert refused.value.do


def test_the_profile_has_the_last_word() -> None:
    serves = found("ubuntu-24.04-two-rtx-3090", packages=[])
    assert decide(serves, packages="distribution").driver.branch == "580"
    assert decide(serves, packages="none").driver is None
    limited = decide(serves, power_limit_watts=280).driver
    assert (limited.branch, limited.packages, limited.power_limit_watts) == (None, (), 280)
    with pytest.raises(UsageError, match="leaves the driver to its owner"):
        decide(bare("RTX 3090"), runtime="llama_cpp", packages="none")
    with pytest.raises(UsageError, match="asks for 595"):
        decide(bare("RTX 3090"), runtime="llama_cpp", branch="595")
    assert decide(bare("RTX 3090", os=("ubuntu", "26.04")), branch="595").driver.branch == "595"


def test_a_container_gets_no_module_and_a_windows_its_own() -> None:
    contained = decide(bare("RTX 3090", container="systemd-nspawn"))
    assert contained.driver.kernel == "none"
    assert not any("dkms" in name or "linux-" in name for name in contained.driver.packages)
    with pytest.raises(UsageError, match="under WSL"):
        decide(bare("RTX 3090", wsl=True), runtime="llama_cpp")


def test_a_pretended_machine_is_asked_for_no_driver() -> None:
    assert decide(machine("RTX 3090", "RTX 3090")).driver is None


def test_a_rehearsal_keeps_the_drivers_choice() -> None:
    snapshot = bare("RTX 3090", "RTX 3090")
    decision = decide(snapshot)
    assert rehearse(decision, snapshot, catalog())[0].driver == decision.driver


def test_a_profile_that_says_nothing_of_drivers_keeps_its_fingerprint() -> None:
    plain = AUTO.document()
    del plain["driver"]
    assert AUTO.fingerprint() == digest_of(plain)
    assert AUTO.model_copy(update={"driver": DriverWish(power_limit_watts=200)}).fingerprint() != digest_of(plain)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"library": ["a-{release}"]}, "leaves {release} open"),
        ({"open": []}, "names its library"),
        ({"branches": []}, "says of which branches"),
    ],
)
def test_a_row_that_could_not_be_installed_is_refused(changes: dict[str, Any], why: str) -> None:
    row = catalog().drivers["ubuntu-24.04"].document()
    with pytest.raises(ValueError, match="DriverRow") as refused:
        DriverRow.model_validate(row | changes)
    assert why in str(refused.value)
