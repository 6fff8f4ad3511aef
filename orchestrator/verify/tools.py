"""A streamed tool call whose argument is a random word of this run: proof of the runtime's tool path."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.verify import streaming
from orchestrator.verify.gateway import Unanswered, shown
from orchestrator.verify.subject import Figure, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.evidence import Check
    from orchestrator.verify.gateway import Gateway

NAME = "streamed tool call with a word of this run"
TRIES = 3
_MAX_TOKENS = 96
_TOOL = "save_word"
_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_SYLLABLES = 4
_GOOD = "the word came back"


class Arguments(BaseModel):
    """What the tool takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    word: str


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call put together from its pieces."""

    name: str
    arguments: str
    pieces: int


def checks(gateway: Gateway, served_name: str) -> Iterator[Check]:
    """Give the check of the tool path."""
    outcomes = Counter(one_try(gateway, served_name, random_word()) for _ in range(TRIES))
    told = ", ".join(f"{times} of {TRIES}: {outcome}" for outcome, times in outcomes.items())
    detail = f"{told}; what is proved is the runtime's tool path, not the llm's skill"
    faults = [] if outcomes[_GOOD] else [told]
    yield check("tools", NAME, faults, detail, Figure(outcomes[_GOOD], f"of {TRIES} tries", 1))


def random_word() -> str:
    """Give a word that can be said and that no template holds: four syllables, two letters each."""
    return "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(_SYLLABLES))


def one_try(gateway: Gateway, served_name: str, word: str) -> str:
    """Ask once for a call with the word; gives what came of it, in a few words."""
    try:
        with gateway.stream(_body(served_name, word)) as pieces:
            told = streaming.read(pieces)
        calls = put_together(told.calls)
    except Unanswered as error:
        return str(error)
    except (LookupError, TypeError, AttributeError) as error:
        return f"the stream has another form than it should: {shown(repr(error))}"
    if not told.ended:
        return "the stream ended without [DONE]"
    return judge(calls, word, told.text)


def put_together(pieces: Iterable[Mapping[str, Any]]) -> tuple[Call, ...]:
    """Join the pieces of streamed calls: by index, the name said once, the arguments bit by bit."""
    calls: dict[int, Call] = {}
    for piece in pieces:
        index = piece.get("index", 0)
        function = piece.get("function") or {}
        so_far = calls.get(index, Call("", "", 0))
        calls[index] = Call(
            so_far.name or function.get("name") or "",
            so_far.arguments + (function.get("arguments") or ""),
            so_far.pieces + 1,
        )
    return tuple(calls[index] for index in sorted(calls))


def judge(calls: tuple[Call, ...], word: str, text: str) -> str:
    """Say in a few words whether the calls are the one that was asked for, or what they are instead."""
    if not calls:
        return f"text instead of a call: {shown(text)}" if text.strip() else "neither text nor a call"
    call = calls[0]
    if len(calls) > 1:
        return f"{len(calls)} calls where one was asked for"
    if call.name != _TOOL:
        return f"a call of another tool: {shown(call.name) or 'without a name'}"
    try:
        arguments = Arguments.model_validate_json(call.arguments)
    except ValidationError as error:
        malformed = error.errors()[0]["type"] == "json_invalid"
        return f"arguments that {'are not JSON' if malformed else 'break the schema'}: {shown(call.arguments)}"
    return _GOOD if arguments.word == word else f"another word: {shown(arguments.word)} for {word}"


def _body(served_name: str, word: str) -> dict[str, Any]:
    schema = Arguments.model_json_schema()
    parameters = {key: schema[key] for key in ("type", "properties", "required", "additionalProperties")}
    parameters["properties"] = {"word": {"type": "string", "description": "The word, letter for letter"}}
    function = {"name": _TOOL, "description": "Save a word.", "parameters": parameters}
    return {
        "model": served_name,
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "messages": [{"role": "user", "content": f"Call the tool {_TOOL} with the word '{word}'."}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "auto",
    }
