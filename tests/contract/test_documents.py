"""The documents and exit codes of the verbs that need no host; the lab ring holds the others to the same table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.root import VERBS, run
from tests.contract.keys import KEYS, missing

SNAPSHOT = Path(__file__).parents[1] / "fixtures/snapshots/debian12_16cpu_64gib_2x_rtx3090.json"
CARDS = ["--gpu", "RTX 3090", "--gpu", "RTX 3090", "--ram", "65536"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTRIG_STATE", str(tmp_path / "state"))


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("detect", []),
        ("plan", ["--profile", "cpu"]),
        ("plan", ["--profile", "dual-3090"]),
        ("plan", ["--profile", "dual-3090", *CARDS]),
        ("plan", ["--profile", "dual-3090", "--snapshot", str(SNAPSHOT)]),
        (
            "estimate",
            [
                "qwen3.6-27b",
                "--runtime",
                "vllm",
                "--context",
                "32768",
                "--tp",
                "2",
                "--quant",
                "AutoRound-INT4",
                *CARDS[:4],
            ],
        ),
        ("render", ["--profile", "dual-3090"]),
    ],
)
def test_the_keys_are_there(capsys: pytest.CaptureFixture[str], verb: str, arguments: list[str]) -> None:
    assert missing(document(capsys, verb, *arguments), KEYS[verb]) == []


def test_detect_gives_what_snapshot_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text(json.dumps(document(capsys, "detect")))
    pretended = document(capsys, "plan", "--profile", "cpu", "--snapshot", str(tmp_path / "here.json"))
    assert pretended["deployment"]["llm"] == "smollm2-135m"


def test_render_writes_what_it_lists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    listed = document(capsys, "render", "--profile", "cpu", "--out", str(tmp_path / "out"))["files"]
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {file["path"] for file in listed}
    again = document(capsys, "render", "--profile", "cpu", "--out", str(tmp_path / "out"), code=2)
    assert "not an empty folder" in again["error"]["what"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan", "--profile", "dual-3900"], 2, "dual-3090"),
        (["plan", "--gpu", "RTX 3099"], 2, "RTX 3090"),
        (["plan", "--profile", "dual-3090", "--llm", "no-such-llm"], 2, "no-such-llm"),
        (["plan", "--profile", "dual-3090", "--gpu", "RTX 3090", "--ram", "65536"], 2, "3090"),
        (["plan", "--snapshot", "absent.json"], 2, "absent.json"),
        (["lock", "--check"], 2, "deploy lock"),
        (["verify", "--lab"], 2, "deploy up --lab"),
        (["up", "--profile", "dual-3900"], 2, "dual-3090"),
        (["up", "--no-such-option"], 2, "--no-such-option"),
        (["no-such-verb"], 2, "no-such-verb"),
        (["estimate", "qwen3.6-27b"], 2, "--runtime"),
        (["detect", "-i", "no-such-inventory"], 2, "no-such-inventory"),
    ],
)
def test_a_mistake_is_one_line_with_its_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert run([*arguments, "--json"]) == code
    said = capsys.readouterr()
    failed = json.loads(said.out)
    assert missing(failed, KEYS["error"]) == []
    assert failed["error"]["do"], "what to do now"
    assert words in json.dumps(failed["error"])
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) <= 2


def test_each_verb_s_line_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        assert run([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert "--json" in text or "COMMAND [ARGS]" in text, text


def test_the_check_of_keys_can_fail() -> None:
    assert missing({"files": [{"path": "a", "mode": 7}]}, KEYS["render"]) == [
        ".files[0].sha256 is missing",
        ".files[0].mode is int, not str",
    ]


def test_the_doctor_s_keys_are_there_and_a_finding_is_exit_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "boot.log").write_text("OSError: [Errno 98] Address already in use\n", encoding="utf-8")
    found = document(capsys, "doctor", "--log", str(tmp_path / "boot.log"), "--runtime", "vllm", code=1)
    assert missing(found, KEYS["doctor"]) == []
    assert [one["cause"] for one in found["findings"]] == ["port_taken"]
