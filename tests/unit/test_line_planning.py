"""Other cards beside these: what ``plan --what-if`` decides, shows and refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli.plan import command
from orchestrator.cli.root import run
from orchestrator.errors import UsageError
from orchestrator.line.planning import Pretended, Wishes, plan_for, side_by_side, suppose
from tests.unit.planning import catalog, machine

HERE = machine("RTX 3090")


def supposed(*others: Any, names: Any = ("auto",), **wishes: Any) -> Any:
    (planned,) = plan_for(names, Pretended(), Wishes(**wishes), catalog(), here=HERE)
    return planned, suppose(planned, others, Pretended(), Wishes(**wishes), catalog())


def test_cards_that_no_profile_names_are_planned_as_any_cards() -> None:
    (planned,) = plan_for((), Pretended(), Wishes(), catalog(), here=machine("RTX 5090", "RTX 3090"))
    assert planned.profile.name == "auto"
    assert len(planned.deployment.gpus) == 2


def test_other_cards_are_decided_with_the_same_wishes() -> None:
    _, (pair, mixed) = supposed("2x RTX 3090", "RTX 5090 + RTX 3090:24576", llm="qwen3.6-27b")
    assert (pair.outcome.llm, pair.outcome.runtime, pair.outcome.parallel.tensor) == ("qwen3.6-27b", "vllm", 2)
    assert len(mixed.outcome.gpus) == 2


def test_the_profiles_own_cards_bind_nothing() -> None:
    _, (other,) = supposed("RTX 5090", names=("single-24gb",))
    assert other.outcome.gpus


def test_a_profile_that_shows_the_line_is_tried_as_any_other() -> None:
    _, (other,) = supposed("RTX 4090", names=("cpu",))
    assert other.outcome.agentic_class == "strong"


def test_cards_on_which_nothing_fits_are_a_row_with_the_reason() -> None:
    planned, found = supposed("GTX 1650:4096", "2x RTX 3090")
    page = side_by_side(planned, found)
    assert "nothing in the catalog fits" in page
    assert page.splitlines()[1].startswith("1x RTX 3090 (now)")
    assert found[0].document()["deployment"] is None


@pytest.mark.parametrize("text", ["", "0x RTX 3090", "999x RTX 3090", "2x", "RTX 3O90", "RTX 3090 +"])
def test_what_names_no_cards_is_refused(text: Any) -> None:
    with pytest.raises(UsageError):
        supposed(text)


def test_the_document_has_an_entry_for_each(tmp_path: Any) -> None:
    file = tmp_path / "rig.json"
    file.write_text(HERE.model_dump_json())
    asked = ["--snapshot", str(file), "--what-if", "2x RTX 3090", "--what-if", "RTX 5090", "--json"]
    answer = CliRunner().invoke(command, asked, catch_exceptions=False, standalone_mode=False)
    document = json.loads(answer.stdout)
    assert [one["gpus"] for one in document["what_if"]] == ["2x RTX 3090", "RTX 5090"]
    assert {"deployment", "ledger", "confidence", "reasons", "rejections"} <= set(document["what_if"][0])


def test_where_nothing_fits_other_cards_are_compared_all_the_same(tmp_path: Any, capsys: Any) -> None:
    file = tmp_path / "rig.json"
    file.write_text(machine("RTX 3060 12GB", ram_mib=16384).model_dump_json())
    asked = ["plan", "--snapshot", str(file), "--llm", "llama-3.3-70b", "--what-if", "2x RTX 3090"]
    assert run(asked) == 3
    said = capsys.readouterr()
    assert "1x RTX 3060 12GB (now)" in said.out
    assert "2x RTX 3090 " in said.out
    assert "does not fit" in said.err
    assert run([*asked, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["kind"] == "no_fit"
    assert document["what_if"][0]["deployment"]["llm"] == "llama-3.3-70b"
