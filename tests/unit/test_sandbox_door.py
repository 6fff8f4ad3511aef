"""What the door to the sandboxes decides without a host: what a container may do, what was used, what it tells."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from orchestrator.render.sandbox import LIMITS
from orchestrator.sandbox import reached
from tests.host_programs import program

RECORD = {"id": "1000-one", "container": "agentrig-1000-one", "release": "0123456789abcdef", "uid": 0x70000002}


@pytest.fixture(scope="module")
def programs() -> dict[str, ModuleType]:
    """The door's own parts."""
    return {name: program(name) for name in ("network", "engine", "places", "door")}


def test_both_sides_know_where_a_copy_lies(programs: dict[str, ModuleType]) -> None:
    assert programs["engine"].REPOSITORY == reached.REPOSITORY


def test_a_container_gets_no_right_and_no_network(programs: dict[str, ModuleType]) -> None:
    words = programs["engine"].arguments(RECORD, LIMITS, [("/there", "/here", False), ("/there/work", "/agent", True)])
    assert {"--network=none", "--read-only", "--cap-drop=ALL", "--pull=never", "--ipc=private"} <= set(words)
    assert [word for word in words if word.startswith("--security-opt=")] == [
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=/opt/agentrig/current/sandbox/seccomp.json",
    ]
    assert f"--user={0x70000002}:{0x70000002}" in words
    mounts = [word for word in words if word.startswith("--mount=")]
    assert mounts == [
        "--mount=type=bind,source=/there,target=/here,readonly",
        "--mount=type=bind,source=/there/work,target=/agent",
    ]
    assert not [
        word for word in words if "privileged" in word.replace("no-new-privileges", "") or "docker.sock" in word
    ]


def test_every_limit_reaches_the_container(programs: dict[str, ModuleType]) -> None:
    plain = programs["engine"].arguments(RECORD, LIMITS, [])
    for name, value in LIMITS.items():
        assert programs["engine"].arguments(RECORD, LIMITS | {name: value * 2}, []) != plain, name


def test_a_quota_is_a_share_of_its_period(programs: dict[str, ModuleType]) -> None:
    words = programs["engine"].arguments(RECORD, LIMITS | {"cpus": 1.5}, [])
    told = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--cpu-"))
    assert int(told["cpu-quota"]) / int(told["cpu-period"]) == 1.5


@pytest.mark.parametrize("terminal", [True, False])
def test_a_command_bears_its_session(programs: dict[str, ModuleType], *, terminal: bool) -> None:
    words = programs["engine"].command(RECORD, ["echo", "--tty"], "abcd", terminal=terminal, where="/agent")
    assert words[-3:] == ["agentrig-1000-one", "echo", "--tty"]
    assert "--env=AGENTRIG_SESSION=abcd" in words
    assert ("--tty" in words[:-1]) is terminal


def test_what_was_used_is_of_one_client(programs: dict[str, ModuleType]) -> None:
    about = {"client": "sandbox-0-one", "prompt_tokens": "7", "output_tokens": "2", "seconds": "0.25"}
    lines = [json.dumps(about | more) for more in ({}, {"client": "other"}, {"prompt_tokens": "-", "seconds": "1"})]
    assert programs["door"].used([*lines, "not JSON"], "sandbox-0-one") == {
        "requests": 2, "prompt_tokens": 7, "output_tokens": 4, "seconds": 1.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("docker: Error: no image\nSee 'docker run --help'.\n", "Error: no image"),
        ("WARNING: discarded\nit failed\n\n", "it failed"),
        ("", ""),
        ("See 'docker run --help'.\n", ""),
    ],
)  # fmt: skip
def test_the_last_words_say_something(programs: dict[str, ModuleType], said: str, told: str) -> None:
    assert programs["network"].last_words(said) == told


def test_walls_are_the_same_with_whoever_is_in_them(programs: dict[str, ModuleType]) -> None:
    empty = "table bridge agentrig {\n\tset places {\n\t\ttype ifname\n\t}\n\tchain input {\n\t\tdrop\n\t}\n}\n"
    with_two = empty.replace("type ifname\n", 'type ifname\n\t\telements = { "agr2",\n\t\t\t     "agr3" }\n')
    lines_of = programs["network"].lines_of
    assert lines_of(with_two) == lines_of(empty)
    assert lines_of(empty.replace("drop", "accept")) != lines_of(empty), "the control: a changed rule is seen"


def test_no_two_sandboxes_share_a_place(programs: dict[str, ModuleType]) -> None:
    network = programs["network"]
    indices = range(network.FIRST, network.LAST + 1)
    for name in (network.port_of, network.hardware_of, lambda index: network.address_of("10.87.0.1", index)):
        assert len({name(index) for index in indices}) == len(indices)
    assert all(len(network.port_of(index)) < 16 for index in indices), "IFNAMSIZ of linux/if.h"


@pytest.mark.parametrize("name", ["a", "0-a", "a" * 30])
def test_names_that_may_be(programs: dict[str, ModuleType], name: str) -> None:
    assert programs["places"].NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a\n", "ü", "a" * 31, "a_b"])
def test_names_that_may_not(programs: dict[str, ModuleType], name: str) -> None:
    assert not programs["places"].NAME.fullmatch(name)
