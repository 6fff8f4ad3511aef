"""How cards are: what nvidia-smi and NVML tell, garbled or not at all, and what a deployment's limits make of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.card_health import (
    CardHealth,
    CardProcess,
    in_words,
    parse_health,
    parse_xids,
    shortcomings,
    with_xids,
)
from orchestrator.catalog.loader import load, profile
from orchestrator.cli.status import card_lines
from orchestrator.detect.nvml_health import nvml_health
from orchestrator.errors import ProbeGarbled
from orchestrator.line.values import HostStatus
from orchestrator.plan import plan
from orchestrator.profile import Limits
from orchestrator.snapshot import Gpu, HostSnapshot
from orchestrator.verify.cards import judged
from orchestrator.verify.on_host import Said
from tests.unit.test_line_up import SNAPSHOT

FOLDER = Path(__file__).parents[1] / "fixtures/health"
RTX, A100, T4 = (
    (FOLDER / f"{name}.xml").read_text(encoding="utf-8")
    for name in ("rtx_3090_driver_590", "a100_driver_535", "t4_driver_515")
)
PLACE = "00000000:01:00.0"
NO_LIMITS = Limits()
CATALOG = load()
PLANNED = plan(SNAPSHOT, profile(CATALOG, "cpu"), CATALOG)
DEPLOYMENT = PLANNED.model_copy(update={"gpus": (PLACE,)})
HOT = CardHealth(temperature_celsius=91, slows_at_celsius=85, slowed_by=("hw_thermal_slowdown",), ecc_uncorrected=2)


def test_a_card_of_today_that_lacks_ecc() -> None:
    assert parse_health(RTX) == {
        "00000000:09:00.0": CardHealth(
            temperature_celsius=32,
            slows_at_celsius=93,
            slowed_by=("sw_power_cap",),
            power_watts=35.15,
            power_limit_watts=350,
            graphics_mhz=210,
            memory_mhz=405,
        )
    }


def test_a_card_with_ecc_and_programs() -> None:
    card = parse_health(A100)[PLACE]
    assert (card.temperature_celsius, card.slows_at_celsius, card.memory_temperature_celsius) == (27, 85, 44)
    assert (card.ecc_corrected, card.ecc_uncorrected, card.slowed_by) == (0, 0, ())
    assert card.processes == (
        CardProcess(pid=4242, program="python3", mib=71680),
        CardProcess(pid=4300, program="", mib=None),
    )


def test_an_older_driver_has_other_names() -> None:
    card = parse_health(T4)["00000000:00:1e.0"]
    assert (card.slowed_by, card.power_watts, card.power_limit_watts) == ((), 26.78, 70)


def test_errors_of_memory_are_added_up_by_kind() -> None:
    told = A100.replace("<sram_uncorrectable>0", "<sram_uncorrectable>2").replace(
        "<dram_correctable>0", "<dram_correctable>7"
    )
    card = parse_health(told.replace("<dram_uncorrectable>0", "<dram_uncorrectable>1"))[PLACE]
    assert (card.ecc_corrected, card.ecc_uncorrected) == (7, 3)


def test_cards_before_turing_count_errors_by_bits() -> None:
    begin, end = A100.index("<volatile>"), A100.index("</volatile>")
    old = "<volatile><single_bit><total>4</total></single_bit><double_bit><total>1</total></double_bit>"
    card = parse_health(A100[:begin] + old + A100[end:])[PLACE]
    assert (card.ecc_corrected, card.ecc_uncorrected) == (4, 1)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "Invalid combination of input arguments: the make-believe nvidia-smi does not know -q",
    ],
)
def test_a_tool_that_tells_of_no_card_is_no_card(said: str) -> None:
    assert parse_health(said) == {}


@pytest.mark.parametrize("word", ["N/A", "[Unknown Error]", "Requested functionality has been deprecated", "", "-"])
def test_what_is_no_number_is_unknown(word: str) -> None:
    card = parse_health(A100.replace("27 C", word).replace("67.03 W", word))[PLACE]
    assert (card.temperature_celsius, card.power_watts) == (None, None)


def test_an_answer_that_was_cut_off_or_garbled_is_told() -> None:
    with pytest.raises(ProbeGarbled, match="cut off"):
        parse_health(A100[: len(A100) // 2])
    with pytest.raises(ProbeGarbled, match="not understood"):
        parse_health(A100.replace("</temperature>", ""))


def test_an_answer_that_declares_entities_grows_to_nothing() -> None:
    bomb = '<!DOCTYPE nvidia_smi_log [<!ENTITY a "aaaa">]>' + A100[A100.index("<nvidia_smi_log>") :].replace(
        "27 C", "&a;"
    )
    with pytest.raises(ProbeGarbled):
        parse_health(bomb)


@given(st.integers(0, len(A100)), st.integers(0, len(A100)), st.text(max_size=8))
def test_no_disturbed_answer_breaks_the_parse(first: int, last: int, between: str) -> None:
    try:
        parse_health(A100[:first] + between + A100[last:])
    except ProbeGarbled:
        return


def test_xids_by_card_each_once() -> None:
    said = (
        "NVRM: Xid (PCI:0000:01:00): 31, pid=4242, name=python3, Ch 00000008\n"
        "NVRM: Xid (PCI:0000:01:00): 31, pid=4242, name=python3, Ch 00000008\n"
        "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.\n"
        "NVRM: Xid (PCI:0001:C1:00): 63, pid=1896, Row Remapper: New row marked for remapping\n"
        "NVRM: Xid (PCI:garbled): 79,\n"
    )
    assert parse_xids(said) == {PLACE: (31, 79), "00000001:c1:00.0": (63,)}
    joined = with_xids({PLACE: HOT}, parse_xids(said))
    assert joined[PLACE].xids == (31, 79)
    assert joined["00000001:c1:00.0"] == CardHealth(xids=(63,))


def test_a_card_is_held_against_its_own_heat_the_profiles_or_the_lowest_known() -> None:
    at = CardHealth(temperature_celsius=86)
    assert shortcomings(at, NO_LIMITS) == ("it is at 86 °C, and 85 °C is what it may be",)
    assert shortcomings(at.model_copy(update={"slows_at_celsius": 93}), NO_LIMITS) == ()
    strict = Limits(gpu_temperature_celsius=80)
    assert "80 °C" in shortcomings(at.model_copy(update={"slows_at_celsius": 93}), strict)[0]


def test_what_is_wrong_is_told_in_sentences() -> None:
    found = shortcomings(HOT.model_copy(update={"xids": (31, 48)}), NO_LIMITS)
    assert len(found) == 4
    assert found[0].startswith("Xid 48: ")
    assert shortcomings(HOT, Limits(gpu_temperature_celsius=95, gpu_uncorrected_errors=2)) == (
        "its heat halves its clocks",
    )


def test_a_program_s_own_xid_and_a_power_limit_are_no_shortcoming() -> None:
    card = CardHealth(temperature_celsius=60, slowed_by=("sw_power_cap", "sw_thermal_slowdown"), xids=(13, 31, 43))
    assert shortcomings(card, NO_LIMITS) == ()
    assert in_words(card) == "60 °C, slowed by sw_power_cap, sw_thermal_slowdown, Xid 13, 31, 43"
    assert in_words(CardHealth()) == "its driver tells nothing of how it is"


def check(health: str, xids: str = "", *, code: int = 0) -> Any:
    return judged(DEPLOYMENT, Said(code, health, ""), Said(0, xids, ""))


def test_the_check_passes_with_what_was_read_and_its_hottest_card() -> None:
    found = check(A100)
    assert (found.result, found.figure, found.unit) == ("passed", 27, "°C")
    assert "67 of 500 W" in found.detail
    assert "python3 holds 71680 MiB" in found.detail


def test_the_check_fails_with_each_reason() -> None:
    found = check(A100.replace("27 C", "90 C"), "NVRM: Xid (PCI:0000:01:00): 64, Row Remapper: failed")
    assert found.result == "failed"
    assert "Xid 64" in found.detail
    assert "90 °C" in found.detail


@pytest.mark.parametrize(
    ("health", "code", "result", "why"),
    [
        ("", 127, "skipped", "nvidia-smi is not there"),
        ("Failed to initialize NVML: Driver/library version mismatch", 18, "failed", "version mismatch"),
        ("", 124, "failed", "tells of no card"),
        (A100[:500], 0, "failed", "cut off"),
        (RTX, 0, "failed", f"nothing was told of the card at {PLACE}"),
        (A100.replace("27 C", "N/A").replace(">Not Active<", ">N/A<"), 0, "skipped", "neither heat nor clocks of 1"),
    ],
)
def test_the_check_never_passes_without_having_read(health: str, code: int, result: str, why: str) -> None:
    found = check(health, code=code)
    assert found.result == result
    assert why in found.detail


def test_a_card_that_only_the_kernel_speaks_of_was_not_read() -> None:
    found = check(RTX, "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.")
    assert found.result == "failed"


class NVMLError(Exception):
    """As pynvml's."""


class StandIn:
    """An NVML of one hot card that tells no errors of memory and no power limit."""

    NVMLError = NVMLError

    def __getattr__(self, name: str) -> Any:
        """Any other function is one that this driver does not have."""

        def absent(*_: Any) -> Any:
            raise NVMLError(name)

        return absent

    def nvmlDeviceGetTemperature(self, *_: Any) -> int:  # noqa: N802 - the library's own names
        return 91

    def nvmlDeviceGetTemperatureThreshold(self, _: int, kind: int) -> int:  # noqa: N802
        return {3: 85, 1: 89}[kind]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: int) -> int:  # noqa: N802
        return 0x1 | 0x4 | 0x40

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:  # noqa: N802
        return 67030

    def nvmlDeviceGetComputeRunningProcesses(self, _: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=7, usedGpuMemory=1 << 30), SimpleNamespace(pid=8, usedGpuMemory=None)]


def test_nvml_tells_the_same_and_leaves_unknown_what_it_does_not_answer() -> None:
    assert nvml_health(StandIn(), 0) == CardHealth(
        temperature_celsius=91,
        slows_at_celsius=85,
        slowed_by=("sw_power_cap", "hw_thermal_slowdown"),
        power_watts=67.03,
        processes=(CardProcess(pid=7, mib=1024), CardProcess(pid=8)),
    )


def test_an_nvml_that_answers_nothing_tells_nothing() -> None:
    assert nvml_health(SimpleNamespace(NVMLError=NVMLError, **Silent().functions), 0) is None


class Silent(StandIn):
    """An NVML without any of these functions."""

    @property
    def functions(self) -> dict[str, Any]:
        names = [name for name in dir(StandIn) if name.startswith("nvml")]
        more = ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetClockInfo", "nvmlDeviceGetTotalEccErrors")
        return {name: self.__getattr__(name) for name in (*names, *more)}


def test_status_tells_how_each_card_is() -> None:
    gpu = Gpu(index=0, vendor="nvidia", name="A100", vram_mib=81920, bus_id=PLACE, source="nvidia-smi", health=HOT)
    snapshot: HostSnapshot = SNAPSHOT.model_copy(update={"gpus": (gpu,)})
    host = HostStatus(
        name="one",
        deployment_id="d",
        manifest_digest="m",
        drift=(),
        serving=True,
        snapshot=snapshot,
        evidence=None,
        endpoint=None,
        deployment=DEPLOYMENT.model_copy(update={"limits": Limits(gpu_temperature_celsius=90)}),
    )
    assert card_lines(host)[:2] == [
        "  card 0, A100: 91 °C (slows at 85), slowed by hw_thermal_slowdown, 2 uncorrected errors",
        "    not well: it is at 91 °C, and 90 °C is what it may be",
    ]
    assert host.document()["gpus"][0]["health"]["temperature_celsius"] == 91


def test_limits_of_a_profile_reach_the_deployment_and_change_no_release() -> None:
    wish = profile(CATALOG, "cpu").model_copy(update={"limits": Limits(gpu_temperature_celsius=70)})
    planned = plan(SNAPSHOT, wish, CATALOG)
    assert planned.limits.gpu_temperature_celsius == 70
    assert planned.decision() == PLANNED.decision()
