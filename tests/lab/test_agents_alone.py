"""Each agent run alone with the settings rendered for it, against a scripted endpoint (a stand-in for the runtime).

It asks for the known names and no other, keeps to its tree, makes the edit, and says the window's caps. What it reads
of its settings is asked of its own program, and a wrong one must be found there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.profile import Sandbox
from tests.lab.alone.cases import CASES, GRANTED, MADE, SHELL
from tests.lab.alone.parsers import PARSERS
from tests.lab.alone.stage import ANSWER, CATALOG, alone, released

if TYPE_CHECKING:
    from pathlib import Path

#: A first request may be this much longer or shorter than its row says: paths and dates are in it.
NEAR = 0.1

Staged = dict[str, "Path"]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    """A release for each agent."""
    return {agent: released(agent, tmp_path_factory.mktemp(agent)) for agent in CASES}


@pytest.fixture(scope="module")
def outcomes(releases: Staged) -> dict[str, dict[str, Any]]:
    """What came of each agent's script."""
    return {agent: alone(agent, releases[agent], case.turns) for agent, case in CASES.items()}


def asked(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the requests that an llm answers."""
    return [one for one in outcome["requests"] if "messages" in one["body"] and "count_tokens" not in one["path"]]


@pytest.mark.parametrize("agent", CASES)
def test_the_names_it_asks_for_are_the_known_ones(outcomes: dict[str, dict[str, Any]], agent: str) -> None:
    assert tuple(outcomes[agent]["names"]) == CASES[agent].names


@pytest.mark.parametrize("agent", CASES)
def test_it_makes_the_edit_and_nothing_beside_its_tree(outcomes: dict[str, dict[str, Any]], agent: str) -> None:
    found = outcomes[agent]
    assert '+    return "Good morning, " + name' in found["diff"], found["said"]
    assert found["left_of_the_script"] == 0
    assert tuple(found["outside"]) == CASES[agent].escapes


@pytest.mark.parametrize("agent", CASES)
def test_its_first_request_is_as_long_as_its_row_says(outcomes: dict[str, dict[str, Any]], agent: str) -> None:
    first, row = asked(outcomes[agent])[0], CATALOG.agents[agent]
    assert first["characters"] / 4 == pytest.approx(row.first_request_tokens, rel=NEAR)


@pytest.mark.parametrize("agent", CASES)
def test_its_requests_bear_the_callers_token_and_the_cap(outcomes: dict[str, dict[str, Any]], agent: str) -> None:
    for one in asked(outcomes[agent]):
        assert one["authorization"] == "bearer"
        if CATALOG.agents[agent].output_field:
            assert one["body"].get("max_tokens") == ANSWER
        tools = sorted(tool.get("name") or tool["function"]["name"] for tool in one["body"].get("tools", []))
        assert tuple(tools) == CASES[agent].tools


@pytest.mark.parametrize("agent", PARSERS)
def test_its_own_program_reads_its_settings_and_finds_a_wrong_one(releases: Staged, agent: str) -> None:
    parser = PARSERS[agent]
    right = alone(agent, releases[agent], [], **parser.question)
    assert parser.faults(right) == [], right["said"]
    spoiled = releases[agent] / "current/agents" / agent / parser.file
    kept = spoiled.read_text(encoding="utf-8")
    try:
        spoiled.write_text(parser.spoil(kept), encoding="utf-8")
        wrong = alone(agent, releases[agent], [], **parser.question)
    finally:
        spoiled.write_text(kept, encoding="utf-8")
    assert parser.faults(wrong) != [], wrong["said"]


@pytest.mark.parametrize("agent", [agent for agent, case in CASES.items() if case.runs])
def test_in_a_sandbox_it_runs_what_is_granted_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, agent: str
) -> None:
    case, commands = CASES[agent], Sandbox(commands=(GRANTED,))
    assert case.runs is not None
    folder = released(agent, tmp_path_factory.mktemp(agent), walled=True, sandbox=commands)
    ran = alone(agent, folder, [case.runs, {"text": "That is done."}])
    assert ran["new_files"] == [MADE], ran["said"]
    refused = alone(agent, folder, [case.longer(f"{GRANTED}; {SHELL}"), {"text": "That is done."}])
    assert (refused["outside"], refused["new_files"]) == ([], []), refused["said"]


def test_claude_code_knows_every_variable_that_it_is_told(releases: Staged) -> None:
    folder = releases["claude_code"]
    program = next(path for path in _tree(folder).rglob("claude") if path.is_file() and not path.is_symlink())
    content = program.read_bytes()
    lines = (folder / "current/agents/claude_code/claude").read_text(encoding="utf-8").splitlines()
    names = {line.split("=")[0].removeprefix("export ") for line in lines if line.startswith("export ")}
    assert len(names) > len(CASES)
    assert [name for name in sorted(names) if name.encode() not in content] == []
    assert b"CLAUDE_CODE_MAX_CONTEXT_TOKEN_COUNT" not in content, "a name that is none is found too"


def _tree(folder: Path) -> Path:
    return type(folder)((folder / "tree").read_text(encoding="utf-8"))
