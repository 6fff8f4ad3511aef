"""The table of walls: complete, without a double; its frames are what their names say; what is due by night."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator.verify.on_host import Said
from orchestrator.verify.walls import told
from tests.host_programs import program
from tests.walls.controls import FRAMES, WITHOUT, control_of
from tests.walls.rows import rows

MARK = b"agentrig-a-mark"


@pytest.fixture(scope="module")
def wire() -> ModuleType:
    return program("wire")


@pytest.fixture(scope="module")
def ends(wire: ModuleType) -> Any:
    return wire.Ends(
        "02:61:67:72:00:02", "10.87.0.2", "02:61:67:72:00:03", "10.87.0.3", "0a:00:00:00:00:01", "10.87.0.1", 8080,
        "198.18.0.1",
    )  # fmt: skip


def test_no_two_probes_push_at_the_same_place() -> None:
    for what in (lambda row: row.name, lambda row: (row.wall, row.path, row.protocol)):
        assert [each for each, count in Counter(map(what, rows())).items() if count > 1] == []


def test_every_wall_has_a_probe_and_every_probe_a_wall_that_is_described() -> None:
    assert {row.wall for row in rows()} == program("table").WALLS.keys()


def test_every_probe_has_a_control_but_those_that_no_lab_host_can_show() -> None:
    assert {row.wall for row in rows() if control_of(row) is None} == {WITHOUT}
    assert {row.arguments["frame"] for row in rows() if row.way == "wire"} == FRAMES.keys() | {"to_other"}


def test_every_way_is_there_and_takes_what_its_rows_give() -> None:
    ways, kinds = program("inside").WAYS, program("wire")._KINDS
    for row in rows():
        if row.way == "wire":
            assert row.arguments["frame"] in kinds
        elif row.way not in {"held", "canary"}:
            taken = set(ways[row.way].__code__.co_varnames[: 1 + len(row.arguments)])
            assert row.arguments.keys() <= taken, row.name


def test_nothing_of_a_row_is_sent_beyond_the_host() -> None:
    """What goes to an address that no host is given sends no packet, but on the sandbox's own wire."""
    sending = {row.way for row in rows() if row.arguments.get("address", "127.0.0.1") != "127.0.0.1"}
    assert sending == {"route", "loopback"}


def test_every_frame_bears_its_mark_and_is_as_long_as_a_frame_must_be(wire: ModuleType, ends: Any) -> None:
    for kind in wire._KINDS:
        frame = wire.frame_of(kind, ends, MARK)
        assert MARK in frame
        assert len(frame) >= 60


@pytest.mark.parametrize(
    ("kind", "source", "to"),
    [
        ("other_address", "10.87.0.3", "10.87.0.1"),
        ("to_host", "10.87.0.2", "198.18.0.1"),
        ("to_loopback", "10.87.0.2", "127.0.0.1"),
        ("to_internet", "10.87.0.2", "192.0.2.1"),
    ],
)
def test_a_packet_is_from_and_to_whom_it_says(wire: ModuleType, ends: Any, kind: str, source: str, to: str) -> None:
    frame = wire.frame_of(kind, ends, MARK)
    assert (socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])) == (source, to)
    words = struct.unpack("!10H", frame[14:34])
    assert (sum(words) & 0xFFFF) + (sum(words) >> 16) == 0xFFFF, "the sum of a head with its sum (RFC 1071)"


def test_only_one_thing_is_wrong_with_a_frame_of_another_hardware_address(wire: ModuleType, ends: Any) -> None:
    frame = wire.frame_of("other_hardware", ends, MARK)
    assert frame[6:12] != wire.mac(ends.hardware)
    assert socket.inet_ntoa(frame[26:30]) == ends.address
    assert struct.unpack("!H", frame[36:38]) == (ends.port,)


def probe(result: str) -> str:
    return json.dumps({"name": "a", "wall": "w", "severity": "high", "result": result, "detail": "d"}) + "\n"


@pytest.mark.parametrize(
    ("said", "results"),
    [
        (Said(0, probe("passed"), ""), ["passed"]),
        (Said(1, probe("failed"), ""), ["failed"]),
        (Said(1, probe("passed"), "no\n"), ["passed", "failed"]),
        (Said(0, "", ""), ["failed"]),
        (Said(127, "", "sh: not found\n"), ["failed"]),
        (Said(0, probe("fine"), ""), ["failed"]),
        (Said(0, "all is well\n", ""), ["failed"]),
    ],
)
def test_what_is_no_probe_is_a_failure(said: Said, results: list[str]) -> None:
    assert [each.result for each in told(said)] == results


@pytest.fixture(scope="module")
def door() -> ModuleType:
    return program("door")


@pytest.mark.parametrize(
    ("hour", "hours_ago", "expected"), [(3, 24, True), (3, 0.5, False), (12, 48, False), (23, 48, False), (2, 13, True)]
)
def test_the_walls_are_due_once_a_night(door: ModuleType, hour: int, hours_ago: float, *, expected: bool) -> None:
    now = time.localtime(time.mktime((2026, 3, 4, hour, 10, 0, 0, 0, -1)))
    assert door.due(now, time.mktime(now) - hours_ago * 3600) is expected


def test_what_leaked_is_read_from_what_nft_prints(door: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nft 1.0.6 printed such a set, the names apart."""
    text = (
        '{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},'
        ' {"set": {"family": "inet", "name": "leaked", "table": "agentrig", "type": ["ipv4_addr", "ipv4_addr",'
        ' "inet_proto"], "handle": 1, "size": 256, "elem": [{"concat": ["10.87.0.2", "198.18.0.1", 6]}]}}]}'
    )
    monkeypatch.setattr(sys.modules[door.Network.__module__], "run", lambda *_words, **_more: text)
    assert door.Network("agentrig0", "10.87.0.1", None).leaked() == [("10.87.0.2", "198.18.0.1", "6")]


def test_where_the_tables_are_gone_nothing_has_leaked(door: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[door.Network.__module__], "run", lambda *_words, **_more: "")
    assert door.Network("agentrig0", "10.87.0.1", None).leaked() == []


def test_an_alarm_that_cannot_be_read_keeps_no_sandbox_running_and_no_wall_down(door: ModuleType) -> None:
    """Stand-ins for network and places that write down what they are asked for."""
    done: list[str] = []

    def broken() -> list[tuple[str, str, str]]:
        done.append("listened")
        raise ValueError("what nft printed cannot be read")

    network = SimpleNamespace(stand=lambda: "gone", joined=lambda _: None, leaked=broken)
    network.put_up = lambda: done.append("put up")
    places = SimpleNamespace(network=network, all=lambda: [{"id": "0-one", "index": 2}], runs=lambda _: True)
    places.stop = lambda record, why: done.append(f"stopped {record['id']}: {why}")
    with pytest.raises(ValueError, match="cannot be read"):
        door.Door({}, places)._look({})
    assert done == ["stopped 0-one: gone", "listened", "put up"]
