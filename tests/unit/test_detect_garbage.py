"""Whatever a probe prints: no crash, and never a card that is not there."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.detect import amd, ours, smi
from orchestrator.detect.cards import parse_pci
from orchestrator.detect.probes import COMMANDS
from orchestrator.detect.script import Output
from orchestrator.detect.snapshots import snapshot_of
from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import HostSnapshot
from tests.unit.test_detect_fixtures import MACHINES, NAMES, outputs

PLACE = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])")
#: What tells of cards; the rest of a host has none to invent.
OF_CARDS = ("pci", "rocm_smi", "nvidia_smi", "mac_cards")
#: Characters that the real outputs are made of, beside all the others.
LIKELY = st.text(alphabet='0123456789abcdefxGPUMIN:.,{}[]"/ \t\n=-_', max_size=300)
TEXT = st.one_of(st.text(max_size=300), LIKELY)
FOLDERS = st.sampled_from(MACHINES)


def whole(snapshot: HostSnapshot) -> None:
    """What holds of every snapshot: it can be written and read, and its cards and links are numbered."""
    assert HostSnapshot.from_json(snapshot.to_json()) == snapshot
    assert [gpu.index for gpu in snapshot.gpus] == list(range(len(snapshot.gpus)))
    places = [gpu.bus_id for gpu in snapshot.gpus]
    assert places == sorted(set(places))
    for link in snapshot.links:
        assert 0 <= link.first < link.second < len(snapshot.gpus)
    for gpu in snapshot.gpus:
        assert gpu.vram_free_mib is None or 0 <= gpu.vram_ours_mib <= gpu.vram_mib - gpu.vram_free_mib


def places(found: dict[str, Output]) -> set[str]:
    """Every place on the bus that stands anywhere in what was printed."""
    text = "\n".join(found[name].text for name in OF_CARDS if name in found)
    return {f"{int(domain, 16):08x}:{rest.lower()}" for domain, rest in PLACE.findall(text)}


@given(FOLDERS, st.sampled_from(sorted(COMMANDS)), TEXT, st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_garbage_from_one_probe_neither_crashes_nor_invents(machine: str, name: str, text: str, status: int) -> None:
    found = outputs(machine) | {name: Output(text, status)}
    snapshot = snapshot_of("any", found, NAMES)
    whole(snapshot)
    assert {gpu.bus_id for gpu in snapshot.gpus if gpu.vendor != "apple"} <= places(found)


@given(st.dictionaries(st.sampled_from(sorted(COMMANDS)), st.builds(Output, TEXT, st.integers(0, 255))))
@settings(deadline=None, max_examples=300)
def test_garbage_from_every_probe_gives_no_card(found: dict[str, Output]) -> None:
    snapshot = snapshot_of("any", found, NAMES)
    whole(snapshot)
    assert {gpu.bus_id for gpu in snapshot.gpus} <= places(found)


def spoilt(text: str, cut: int, drop: int, twice: int) -> str:
    """Lines left out and said twice, and the end cut off."""
    lines = text.splitlines(keepends=True)
    if lines:
        lines.insert(twice % len(lines), lines[twice % len(lines)])
        del lines[drop % len(lines)]
    return "".join(lines)[:cut]


@given(FOLDERS, st.sampled_from(OF_CARDS), st.integers(0, 2000), st.integers(0, 50), st.integers(0, 50))
@settings(deadline=None, max_examples=300)
def test_what_is_left_of_a_real_answer_tells_of_real_cards_alone(
    machine: str, name: str, cut: int, drop: int, twice: int
) -> None:
    whole_one = outputs(machine)
    if name not in whole_one:
        return
    found = whole_one | {name: Output(spoilt(whole_one[name].text, cut, drop, twice), whole_one[name].status)}
    expected = {gpu.bus_id: gpu for gpu in snapshot_of("any", whole_one, NAMES).gpus}
    snapshot = snapshot_of("any", found, NAMES)
    whole(snapshot)
    on_bus = places(whole_one)
    for gpu in snapshot.gpus:
        real = expected.get(gpu.bus_id)
        assert gpu.vendor == "apple" or gpu.bus_id in on_bus
        if real and gpu.source == real.source:
            assert (gpu.vram_mib, gpu.pcie_width) == (real.vram_mib, real.pcie_width)
    assert snapshot.driver in {None, snapshot_of("any", whole_one, NAMES).driver}


@given(TEXT)
@settings(deadline=None, max_examples=200)
def test_parses_refuse_in_their_own_words_or_give_what_they_can(text: str) -> None:
    for parse in (parse_pci, smi.parse_smi, amd.parse_rocm, smi.parse_module):
        with contextlib.suppress(ProbeGarbled):
            parse(text)
    smi.parse_topology(text)
    smi.parse_parts(text)
    smi.parse_cuda(text)
    smi.parse_installed(text, {})
    ours.held(text, ours.parse_apps(text))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"card0": ' * 50_000, '{"card0": {"PCI Bus": 1e999}}', "{}", "null"])
def test_json_that_is_none_of_a_cards(text: str) -> None:
    found = outputs("rx-7900-xt-with-rocm-smi") | {"rocm_smi": Output(text)}
    assert [gpu.source for gpu in snapshot_of("any", found, NAMES).gpus] == ["sysfs"]
    mac = outputs("mac-studio-m2-ultra-192gb") | {"mac_cards": Output(text)}
    assert not snapshot_of("any", mac, NAMES).gpus


def test_a_card_that_rocm_smi_alone_tells_of_is_there_once() -> None:
    found = outputs("four-mi300x-xgmi")
    told = json.loads(found["rocm_smi"].text)
    told["card9"] = told["card0"]
    alone = found | {"pci": Output(""), "rocm_smi": Output(json.dumps(told))}
    snapshot = snapshot_of("any", alone, NAMES)
    assert [gpu.source for gpu in snapshot.gpus] == ["rocm-smi"] * 4
    assert [gpu.vram_mib for gpu in snapshot.gpus] == [196592] * 4
    assert len(snapshot.links) == 6
