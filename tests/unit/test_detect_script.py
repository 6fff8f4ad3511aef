"""One script for many commands: run by a real shell here, and every way in which its output can be spoilt."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator.detect.script import NOT_FOUND, Output, compose, decode
from orchestrator.errors import DetectError, PrivilegeError


def run(script: str) -> str:
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout


def test_each_command_gives_its_output_and_status() -> None:
    commands = {
        "plain": "echo one; echo two",
        "silent": ":",
        "failed": "echo half; exit 3",
        "missing": "surely-no-such-command",
        "complains": "echo no >&2",
        "hungry": "cat; echo fed",
        "language": 'printf %s "$LC_ALL"',
        "quotes": """printf '%s' "it's \\"so\\"" """,
    }
    assert decode(run(compose(commands))) == {
        "plain": Output("one\ntwo\n"),
        "silent": Output(""),
        "failed": Output("half\n", 3),
        "missing": Output("", NOT_FOUND),
        "complains": Output(""),
        "hungry": Output("fed\n"),
        "language": Output("C"),
        "quotes": Output('it\'s "so"'),
    }


def test_bytes_of_no_encoding_and_zeros_come_through() -> None:
    found = decode(run(compose({"odd": "printf 'a\\377b\\000c\\n'"})))
    assert found["odd"].text == "a\ufffdb\0c\n"


def test_what_a_login_shell_prints_around_it_does_no_harm() -> None:
    said = run(compose({"one": "echo 1"}))
    assert decode(f"Welcome!\n{said}Goodbye\n") == {"one": Output("1\n")}


def test_the_script_and_its_output_are_ascii() -> None:
    script = compose({"one": "echo 'é'"})
    assert script.isascii()
    assert run(script).isascii()


@pytest.mark.parametrize(
    "spoilt", ["", "bash: sh: not found\n", "agentrig-open\nH4sI", "agentrig-open\n%%%\nagentrig-close\n"]
)
def test_an_answer_that_is_no_answer_is_an_error_with_a_way_out(spoilt: str) -> None:
    with pytest.raises(DetectError) as caught:
        decode(spoilt, "h1")
    assert caught.value.where == "h1"
    assert caught.value.do


def test_a_section_that_was_cut_off_is_left_out() -> None:
    said = run(compose({"whole": "echo 1", "killed": "kill -9 $$"}))
    assert decode(said) == {"whole": Output("1\n")}


def test_sudo_that_would_ask_is_refused_in_one_sentence() -> None:
    with pytest.raises(PrivilegeError, match="may not become root"):
        decode("agentrig-refused sudo\n", "h1")
