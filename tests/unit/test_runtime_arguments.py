"""Command lines held to the runtimes' own parsers, through what was read from their published packages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.catalog.loader import load
from orchestrator.deployment import Deployment, Parallel
from orchestrator.render.runtimes import llama_cpp, parts_of, sglang, vllm
from tests.fixtures.runtimes.renew import WRONG, on_this_machine
from tests.unit.runtime_lines import ROWS, deployment_of, fixture, refusals

if TYPE_CHECKING:
    from types import ModuleType

HELD = ("vllm", "sglang", "llama_cpp")
#: How many words stand before the flags.
BEFORE = {"vllm": 3, "sglang": 2, "llama_cpp": 1}
MODULES: dict[str, ModuleType] = {"vllm": vllm, "sglang": sglang, "llama_cpp": llama_cpp}


def flags(deployment: Deployment) -> list[str]:
    return list(parts_of(deployment, ROWS).argv[BEFORE[deployment.runtime] :])


@pytest.mark.parametrize("runtime", HELD)
def test_what_was_read_is_the_version_that_the_catalog_installs(runtime: str) -> None:
    row, read = load().runtimes[runtime], fixture(runtime)
    assert read["version"] == row.version, f"python -m tests.fixtures.runtimes.renew {runtime}"
    assert re.fullmatch(r"[0-9a-f]{64}", read["sha256"])
    assert len(read["options"]) > 200


@pytest.mark.parametrize("runtime", HELD)
def test_a_line_that_says_all_is_accepted(runtime: str) -> None:
    words = flags(deployment_of(runtime))
    assert refusals(words, fixture(runtime)["options"]) == []
    assert "--trust-remote-code" not in words


@pytest.mark.parametrize("runtime", HELD)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_deployment_gives_a_line_that_is_accepted(runtime: str, data: st.DataObject) -> None:
    wishes = {
        "kv_dtype": data.draw(st.sampled_from(sorted(MODULES[runtime].KV_TYPES))),
        "context_tokens": data.draw(st.integers(1, 2**20)),
        "slots": data.draw(st.integers(1, 64)),
        "parallel": Parallel(tensor=data.draw(st.integers(1, 8)), pipeline=data.draw(st.integers(1, 4))),
        "memory_fraction": data.draw(st.none() | st.floats(0.01, 1)),
        "threads": data.draw(st.none() | st.integers(1, 128)),
        "runtime_port": data.draw(st.integers(1, 65535)),
        "gpus": data.draw(st.sampled_from(((), ("00000000:01:00.0",), deployment_of(runtime).gpus))),
    }
    words = flags(deployment_of(runtime, **wishes))
    assert refusals(words, fixture(runtime)["options"]) == []


@pytest.mark.parametrize("runtime", HELD)
def test_a_flag_that_an_upgrade_renames_is_refused(runtime: str) -> None:
    options = {name: option for name, option in fixture(runtime)["options"].items() if name != "--port"}
    assert refusals(flags(deployment_of(runtime)), options)[0] == "--port is not known"


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
def test_every_parser_that_a_row_names_is_one_that_the_runtime_has(runtime: str) -> None:
    options = fixture(runtime)["options"]
    tools, reasoning = (options[name]["choices"] for name in ("--tool-call-parser", "--reasoning-parser"))
    for row in load().llms.values():
        assert row.tool_parser.get(runtime, "hermes") in tools, row.name
        assert row.reasoning_parser.get(runtime, "qwen3") in reasoning, row.name


def test_llama_servers_own_parser_was_asked_about_this_very_line() -> None:
    verdicts = {tuple(one["words"]): one["accepted"] for one in fixture("llama_cpp")["verdicts"]}
    words = ("-m", "/llm.gguf", *flags(deployment_of("llama_cpp"))[2:])
    assert verdicts[tuple(on_this_machine(word) for word in words)] is True, (
        "python -m tests.fixtures.runtimes.renew llama_cpp"
    )
    assert [words[2:] for words, accepted in verdicts.items() if not accepted] == list(WRONG)
