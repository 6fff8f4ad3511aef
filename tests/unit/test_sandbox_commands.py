"""A sandbox's commands: granted to an agent inside, word for word, and to none on the host."""

from __future__ import annotations

import shlex

import pytest

from orchestrator.catalog.loader import load
from orchestrator.plan.agents import with_agents
from orchestrator.profile import Sandbox
from orchestrator.render.agents import BUILDERS, agent_files
from orchestrator.rendered import RenderedFile
from tests.unit.rendering import CPU

CATALOG = load()
COMMAND = "make 'the tests' && pytest -q $OPTIONS"
WINDOW = {"context_tokens": 65536, "output_tokens": 4096}


def texts(files: tuple[RenderedFile, ...]) -> str:
    return "\n".join(file.content for file in files)


def rendered(agent: str, *commands: str, walled: bool) -> str:
    deployment = CPU.model_copy(update={"agents": (agent,), "sandbox": Sandbox(commands=commands), **WINDOW})
    return texts(agent_files(deployment, CATALOG, walled=walled))


@pytest.mark.parametrize("agent", BUILDERS)
def test_a_command_is_granted_inside_alone_and_to_those_whose_rules_hold_it(agent: str) -> None:
    plain = rendered(agent, walled=True)
    assert rendered(agent, "pytest -q", walled=False) == plain
    assert (rendered(agent, "pytest -q", walled=True) != plain) is bool(CATALOG.agents[agent].runs_commands)


def test_a_command_of_many_words_is_one_word_of_the_program() -> None:
    line = next(line for line in rendered("aider", COMMAND, "x y", walled=True).splitlines() if "--test-cmd" in line)
    words = shlex.split(line)
    assert words[words.index("--test-cmd") + 1] == f"{COMMAND} && x y"
    assert "--no-auto-test" not in words


def test_an_agent_that_runs_none_of_them_is_named_in_the_plan() -> None:
    agents = tuple(name for name, row in CATALOG.agents.items() if row.wire == "openai")
    decided = CPU.model_copy(update={"agents": agents, "sandbox": Sandbox(commands=("pytest",)), **WINDOW})
    told = " ".join(with_agents(decided, CATALOG).reasons)
    for name in agents:
        row = CATALOG.agents[name]
        assert (f"{row.title} runs none of the sandbox's commands" in told) is (row.runs_commands is None)
