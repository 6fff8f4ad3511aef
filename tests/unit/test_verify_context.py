"""The checks of the window against a scripted runtime that counts words, in its good form and in each bad one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.verify import context
from orchestrator.verify.context import BEYOND_NAME, SLOTS_NAME, TURNS_NAME, WHOLE_NAME, Promise
from orchestrator.verify.gateway import Gateway
from tests.unit.chat_stand_in import scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.evidence import Check

PROMISE = Promise("small-llm", window=2048, output=512, slots=1)
#: What the stand-in counts for the marks around a message, and for a system prompt of its own.
MARKS, SYSTEM = 7, 23


@dataclass
class Runtime:
    """A stand-in for a runtime that counts two tokens a word; the defaults are one with nothing wrong."""

    window: int = 2048
    #: Tokens of a prompt -> those that are really read: fewer where it cuts in silence.
    reads: Callable[[int], int] = field(default=lambda tokens: tokens)
    #: Tokens that were read -> what ``usage`` says of them.
    says: Callable[[int], int] = field(default=lambda tokens: tokens)
    refuses_from: int | None = None
    refused_with: int = 400
    usage: bool = True
    forms_refused: tuple[str, ...] = ("/v1/chat/completions", "/v1/messages")
    prompts: list[int] = field(default_factory=list)

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self.answer(path, body)

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        tokens = SYSTEM + sum(2 * len(message["content"].split()) + MARKS for message in body["messages"])
        limit = self.window if self.refuses_from is None else self.refuses_from
        if tokens >= limit and path in self.forms_refused:
            return self.refused_with, {"error": {"message": f"{tokens} tokens exceed {self.window}"}}
        read = self.reads(tokens)
        self.prompts.append(read)
        usage = {"prompt_tokens": self.says(read), "completion_tokens": min(4, body["max_tokens"])}
        choices = [{"message": {"role": "assistant", "content": "a short answer"}, "finish_reason": "stop"}]
        return 200, {"choices": choices} | ({"usage": usage} if self.usage else {})


def checked(runtime: Runtime, promise: Promise = PROMISE, **options: Any) -> dict[str, Check]:
    with scripted(runtime) as url:
        return {check.name: check for check in context.checks(Gateway(url, "a token"), promise, **options)}


def red(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.result == "failed"}


@pytest.mark.parametrize("fresh_seconds", [1000.0, 0.0], ids=["read anew", "going on from the turns"])
def test_a_window_that_is_kept_is_filled_by_the_runtime_s_own_count(fresh_seconds: float) -> None:
    runtime, told = Runtime(), list[tuple[int, int]]()
    found = checked(runtime, tell=lambda done, of: told.append((done, of)), fresh_seconds=fresh_seconds)
    assert red(found) == set()
    assert list(found) == [TURNS_NAME, WHOLE_NAME, BEYOND_NAME]
    assert 2048 - 512 - context.SLACK <= runtime.prompts[7] <= 2048 - 512
    assert runtime.prompts[2:8] == sorted(runtime.prompts[2:8])
    assert 2048 - 8 - context.SLACK <= runtime.prompts[8] <= 2048 - 8
    assert told[-1] == (runtime.prompts[7], 1536)
    assert found[TURNS_NAME].figure == runtime.prompts[7]
    assert found[WHOLE_NAME].limit == 2048
    assert "decides nothing" in found[WHOLE_NAME].detail
    assert found[BEYOND_NAME].detail == "OpenAI form: HTTP 400, Anthropic form: HTTP 400"


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        pytest.param(Runtime(reads=lambda t: min(t, 1000), refuses_from=99999), {TURNS_NAME, BEYOND_NAME}, id="cuts"),
        pytest.param(Runtime(reads=lambda t: min(t, 1000)), {TURNS_NAME}, id="cuts what would fit"),
        pytest.param(Runtime(refuses_from=99999), {BEYOND_NAME}, id="takes more than its window"),
        pytest.param(Runtime(refuses_from=1000), {TURNS_NAME}, id="refuses a turn that was promised"),
        pytest.param(Runtime(refuses_from=1900), {WHOLE_NAME}, id="refuses the prompt that was promised"),
        pytest.param(Runtime(says=lambda _: 300), {TURNS_NAME}, id="counts the same whatever it reads"),
        pytest.param(Runtime(says=lambda t: t // 4), {TURNS_NAME}, id="counts too few"),
        pytest.param(Runtime(says=lambda t: t if t < 500 else t * 2), {TURNS_NAME}, id="counts too many"),
        pytest.param(Runtime(says=lambda t: t if t < 1800 else 1), {WHOLE_NAME}, id="counts one token of the whole"),
        pytest.param(Runtime(usage=False), {TURNS_NAME}, id="counts nothing"),
        pytest.param(Runtime(refused_with=500), {BEYOND_NAME}, id="breaks on what is too long"),
        pytest.param(Runtime(forms_refused=("/v1/messages",)), {BEYOND_NAME}, id="cuts in one wire form alone"),
    ],
)
def test_each_fault_turns_its_own_check_red(runtime: Runtime, expected: set[str]) -> None:
    found = checked(runtime)
    assert red(found) == expected
    if TURNS_NAME in expected:
        assert found[WHOLE_NAME].result == "skipped"


def test_a_prompt_that_was_cut_is_said_to_have_been() -> None:
    found = checked(Runtime(reads=lambda tokens: min(tokens, 1000)))
    assert "1000 counted: the prompt was cut" in found[TURNS_NAME].detail
    assert (found[WHOLE_NAME].result, found[WHOLE_NAME].detail) == ("skipped", f"{TURNS_NAME}: failed")


def test_a_runtime_that_cannot_be_asked_fails_the_first_check_and_the_rest_are_skipped_by_name() -> None:
    found = checked(Runtime(refuses_from=1, refused_with=503), replace(PROMISE, slots=3))
    assert found[TURNS_NAME].result == "failed"
    assert [found[name].result for name in (WHOLE_NAME, BEYOND_NAME, SLOTS_NAME)] == ["skipped"] * 3


def test_a_wire_form_that_is_not_spoken_is_not_asked() -> None:
    found = checked(Runtime(forms_refused=("/v1/chat/completions",)), lacking={"anthropic": "it has none"})
    assert found[BEYOND_NAME].detail == "OpenAI form: HTTP 400"
    assert found[BEYOND_NAME].result == "passed"


def test_a_window_that_nobody_could_be_asked_about_is_not_held() -> None:
    found = checked(Runtime(), lacking={"openai": "it has none", "anthropic": "it has none"})
    assert found[BEYOND_NAME].result == "failed"


def test_as_many_as_promised_are_answered_at_once_and_fewer_fail() -> None:
    promise = replace(PROMISE, slots=4)
    good = checked(Runtime(), promise)[SLOTS_NAME]
    assert (good.result, good.figure, good.limit) == ("passed", 4, 4)
    together = threading.Barrier(4)

    class Crowded(Runtime):
        """A stand-in that has room for two of the four who come together."""

        def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            if body["max_tokens"] == 8 and len(self.prompts) > 8 and together.wait(10) > 1:
                return 503, {"error": "no room"}
            return super().answer(path, body)

    bad = checked(Crowded(), promise)[SLOTS_NAME]
    assert (bad.result, bad.figure, bad.limit) == ("failed", 2, 4)
    assert "HTTP 503" in bad.detail


def test_the_window_is_one_slot_s() -> None:
    """A runtime that divides one window by its slots, told the whole of it as one slot's."""
    found = checked(Runtime(window=512), replace(PROMISE, slots=4))
    assert found[TURNS_NAME].result == "failed"
    assert "HTTP 400" in found[TURNS_NAME].detail
