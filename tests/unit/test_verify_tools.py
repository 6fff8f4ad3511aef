"""Tool round trips against a scripted runtime, in its good form and in each bad one, in both wire forms."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.verify import tools
from orchestrator.verify.gateway import Gateway
from orchestrator.verify.wire import put_together
from tests.unit.chat_stand_in import scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.evidence import Check

OPENAI, ANTHROPIC = tools.NAMES[:2], tools.NAMES[2:]
STREAMED = (tools.NAMES[1], tools.NAMES[3])
ALL = set(tools.NAMES)


@dataclass
class Script:
    """What the stand-in does; the defaults are a runtime with nothing wrong."""

    tool: str | None = "save_word"
    arguments: Callable[[str], str] = field(default=lambda word: json.dumps({"word": word}))
    ids: Iterator[str] = field(default_factory=lambda: (f"call-{number}" for number in itertools.count()))
    calls: int = 1
    called: dict[str, str] = field(default_factory=lambda: {"openai": "tool_calls", "anthropic": "tool_use"})
    answer: str = "It is saved."
    calls_again: bool = False
    streams: bool = True
    ends: bool = True
    #: The events of an Anthropic stream -> those that are sent.
    order: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = field(default=lambda events: events)
    results: list[Any] = field(default_factory=list)

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | list[str]:
        form = "anthropic" if path == "/v1/messages" else "openai"
        last = body["messages"][-1]
        back = len(body["messages"]) > 1
        if back:
            self.results.append((form, body["messages"][-2], last))
        word = re.search(r"'(\w+)'", body["messages"][0]["content"])
        assert word
        calls = [] if self.tool is None or (back and not self.calls_again) else self._calls(word[1])
        text = "" if calls else self.answer
        if not (body.get("stream") and self.streams):
            return 200, self._openai(text, calls) if form == "openai" else self._anthropic(text, calls)
        return self._openai_events(text, calls) if form == "openai" else self._anthropic_events(text, calls)

    def _calls(self, word: str) -> list[tuple[str, str, str]]:
        return [(next(self.ids), str(self.tool), self.arguments(word)) for _ in range(self.calls)]

    def _openai(self, text: str, calls: list[tuple[str, str, str]]) -> dict[str, Any]:
        told = [{"id": one, "function": {"name": name, "arguments": text}} for one, name, text in calls]
        reason = self.called["openai"] if calls else "stop"
        return {"choices": [{"message": {"content": text, "tool_calls": told}, "finish_reason": reason}]}

    def _anthropic(self, text: str, calls: list[tuple[str, str, str]]) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        blocks += [{"type": "tool_use", "id": one, "name": name, "input": loose(text)} for one, name, text in calls]
        return {"content": blocks, "stop_reason": self.called["anthropic"] if calls else "end_turn"}

    def _openai_events(self, text: str, calls: list[tuple[str, str, str]]) -> list[str]:
        deltas: list[dict[str, Any]] = [{"content": text}] if text else []
        for index, (one, name, arguments) in enumerate(calls):
            deltas.append({"tool_calls": [{"index": index, "id": one, "function": {"name": name, "arguments": ""}}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": arguments[i : i + 5]}}]}
                for i in range(0, len(arguments), 5)
            ]
        choices: list[dict[str, Any]] = [{"delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"delta": {}, "finish_reason": self.called["openai"] if calls else "stop"})
        events = [f"data: {json.dumps({'choices': [choice]})}" for choice in choices]
        return events + (["data: [DONE]"] if self.ends else [])

    def _anthropic_events(self, text: str, calls: list[tuple[str, str, str]]) -> list[str]:
        events: list[dict[str, Any]] = [{"type": "message_start", "message": {"role": "assistant"}}]
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if text:
            blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": text}]))
        for one, name, arguments in calls:
            pieces = [arguments[i : i + 5] for i in range(0, len(arguments), 5)]
            start = {"type": "tool_use", "id": one, "name": name, "input": {}}
            blocks.append((start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]))
        for index, (block, deltas) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        reason = self.called["anthropic"] if calls else "end_turn"
        events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}})
        events += [{"type": "message_stop"}] if self.ends else []
        return [f"event: {event['type']}\ndata: {json.dumps(event)}" for event in self.order(events)]


def loose(arguments: str) -> Any:
    """Give arguments as a value; what is no JSON as the text that it is."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def checked(script: Script, **options: Any) -> dict[str, Check]:
    with scripted(script) as url:
        return {check.name: check for check in tools.checks(Gateway(url, "a token"), "small-llm", **options)}


def red(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.result == "failed"}


def without(kind: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Give what leaves the events of one kind out."""
    return lambda events: [event for event in events if event["type"] != kind]


def moved_to_the_front(kind: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Give what sends the events of one kind first."""
    return lambda events: sorted(events, key=lambda event: event["type"] != kind)


def other_block(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tell every piece of a block as one of the block after it."""
    return [{**event, "index": 1} if event["type"] == "content_block_delta" else event for event in events]


def test_a_good_runtime_closes_a_round_trip_in_each_form() -> None:
    script = Script()
    found = checked(script)
    assert red(found) == set()
    assert tuple(found) == tools.NAMES
    assert {check.area for check in found.values()} == {"tools"}
    assert all((check.figure, check.limit) == (1, tools.TRIES) for check in found.values())
    assert all("not the llm's skill" in check.detail for check in found.values())
    forms = [form for form, _, _ in script.results]
    assert forms == ["openai", "openai", "anthropic", "anthropic"]


def test_a_result_goes_back_under_the_call_s_id() -> None:
    script = Script()
    checked(script)
    _, asked, answered = script.results[0]
    assert asked["tool_calls"][0]["id"] == answered["tool_call_id"] == "call-0"
    assert answered["role"] == "tool"
    _, asked, answered = script.results[2]
    (block,) = answered["content"]
    assert asked["content"][-1]["type"] == "tool_use"
    assert asked["content"][-1]["id"] == block["tool_use_id"] == "call-2"
    assert (block["type"], answered["role"]) == ("tool_result", "user")


@pytest.mark.parametrize(
    ("script", "expected", "words"),
    [
        pytest.param(Script(tool=None), ALL, "text instead of a call: It is saved.", id="text in place of a call"),
        pytest.param(Script(tool=None, answer=" "), ALL, "neither text nor a call", id="nothing"),
        pytest.param(Script(tool="other"), ALL, "a call of another tool: other", id="another tool"),
        pytest.param(Script(calls=2), ALL, "2 calls where one was asked for", id="two calls"),
        pytest.param(Script(arguments=lambda _: '{"word": "fixed"}'), ALL, "another word: fixed for ", id="other word"),
        pytest.param(Script(arguments=lambda _: "{"), ALL, "arguments that ", id="arguments cut off"),
        pytest.param(Script(arguments=lambda word: json.dumps([word])), ALL, "break the schema", id="a list"),
        pytest.param(Script(arguments=lambda _: "{}"), ALL, "arguments that break the schema: {}", id="no argument"),
        pytest.param(
            Script(arguments=lambda w: json.dumps({"word": w, "x": 1})), ALL, "break the schema", id="one more argument"
        ),
        pytest.param(Script(ids=itertools.repeat("same")), set(STREAMED), "the id of one before: same", id="same ids"),
        pytest.param(Script(ids=itertools.repeat("")), ALL, "a call without an id", id="no ids"),
        pytest.param(
            Script(called={"openai": "stop", "anthropic": "tool_use"}),
            set(OPENAI),
            "a call that ends with stop, not with tool_calls",
            id="the wrong reason, OpenAI",
        ),
        pytest.param(
            Script(called={"openai": "tool_calls", "anthropic": "end_turn"}),
            set(ANTHROPIC),
            "a call that ends with end_turn, not with tool_use",
            id="the wrong reason, Anthropic",
        ),
        pytest.param(Script(answer=" "), ALL, "no text in answer to the result", id="no answer to the result"),
        pytest.param(Script(calls_again=True), ALL, "another call in answer to the result", id="calls for ever"),
        pytest.param(Script(streams=False), set(STREAMED), "the answer was not streamed", id="not streamed"),
        pytest.param(Script(ends=False), set(STREAMED), "the stream ended ", id="a stream without its end"),
        pytest.param(
            Script(order=moved_to_the_front("message_delta")),
            {STREAMED[1]},
            "the event message_delta came after nothing",
            id="the end before the beginning",
        ),
        pytest.param(
            Script(order=without("content_block_start")),
            {STREAMED[1]},
            "the event content_block_delta came after message_start",
            id="a block that never began",
        ),
        pytest.param(
            Script(order=without("content_block_stop")),
            {STREAMED[1]},
            "the event message_delta came after content_block_delta",
            id="a block that never ended",
        ),
        pytest.param(
            Script(order=other_block), {STREAMED[1]}, "of block 1 came while block 0 was open", id="another block"
        ),
    ],
)
def test_each_fault_turns_its_own_checks_red_and_says_what_came(script: Script, expected: set[str], words: str) -> None:
    found = checked(script)
    assert red(found) == expected
    assert all(words in found[name].detail for name in expected)


def test_a_wire_form_that_is_not_spoken_is_skipped_with_the_reason_and_never_passes() -> None:
    found = checked(Script(), lacking={"anthropic": "it has none"})
    assert [found[name].result for name in ANTHROPIC] == ["skipped", "skipped"]
    assert {found[name].detail for name in ANTHROPIC} == {"not spoken: it has none"}
    assert [found[name].result for name in OPENAI] == ["passed", "passed"]


def test_one_good_try_of_three_is_enough_and_those_before_are_told() -> None:
    forms = itertools.chain(("{", "{"), itertools.repeat("WORD"))

    def arguments(word: str) -> str:
        return next(forms).replace("WORD", json.dumps({"word": word}))

    check = checked(Script(arguments=arguments))[OPENAI[0]]
    assert (check.result, check.figure) == ("passed", 3)
    assert "2 of 3: arguments that are not JSON" in check.detail


def test_words_differ_from_run_to_run() -> None:
    assert len({tools.random_word() for _ in range(50)}) > 45


def test_a_call_is_put_together_from_interleaved_pieces() -> None:
    pieces = [
        {"index": 1, "id": "y", "function": {"name": "b", "arguments": "{"}},
        {"index": 0, "id": "x", "function": {"name": "a"}},
        {"index": 1, "function": {"arguments": "}"}},
    ]
    assert [(call.id, call.name, call.arguments) for call in put_together(pieces)] == [("x", "a", ""), ("y", "b", "{}")]
