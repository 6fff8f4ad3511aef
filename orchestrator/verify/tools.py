"""Tool round trips in both wire forms: a call with a random word of this run, its result sent back, an answer."""

from __future__ import annotations

import secrets
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.verify.gateway import Unanswered, shown
from orchestrator.verify.subject import Figure, check, skipped
from orchestrator.verify.wire import WIRES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.evidence import Check
    from orchestrator.verify.gateway import Form, Gateway
    from orchestrator.verify.wire import Call, Message, Reply, Wire

#: A small llm does not call each time that it is asked to; the first round trip that closes is enough.
TRIES = 3
_MAX_TOKENS = 96
_TOOL = "save_word"
_ABOUT = "Save a word."
_RESULT = "saved"
_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_SYLLABLES = 4
_GOOD = "the word came back, and an answer to its result"


class Arguments(BaseModel):
    """What the tool takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    word: str


def name_of(wire: Wire, *, streamed: bool) -> str:
    """Give the name of the check of one form."""
    return f"{'streamed' if streamed else 'plain'} tool call and its result, {wire.title} form"


#: All checks of this area.
NAMES = tuple(name_of(wire, streamed=streamed) for wire in WIRES for streamed in (False, True))


def checks(gateway: Gateway, served_name: str, lacking: Mapping[Form, str] = MappingProxyType({})) -> Iterator[Check]:
    """Give a check for each wire form, plain and streamed. ``lacking``: a wire form that is not spoken -> why."""
    for wire in WIRES:
        ids: set[str] = set()
        for streamed in (False, True):
            if wire.form in lacking:
                yield skipped("tools", name_of(wire, streamed=streamed), f"not spoken: {lacking[wire.form]}")
            else:
                yield one_form(gateway, wire, served_name, ids, streamed=streamed)


def one_form(gateway: Gateway, wire: Wire, served_name: str, ids: set[str], *, streamed: bool) -> Check:
    """Try round trips in one form until one closes. ``ids``: those of calls so far, the new ones are put in."""
    outcomes: Counter[str] = Counter()
    while outcomes.total() < TRIES and not outcomes[_GOOD]:
        outcomes[round_trip(gateway, wire, served_name, random_word(), ids, streamed=streamed)] += 1
    told = ", ".join(f"{times} of {outcomes.total()}: {outcome}" for outcome, times in outcomes.items() if times)
    detail = f"{told}; what is proved is the runtime's tool path, not the llm's skill"
    faults = [] if outcomes[_GOOD] else [told]
    figure = Figure(outcomes.total(), "tries", TRIES)
    return check("tools", name_of(wire, streamed=streamed), faults, detail, figure)


def random_word() -> str:
    """Give a word that can be said and that no template holds: four syllables, two letters each."""
    return "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(_SYLLABLES))


def round_trip(  # noqa: PLR0913 - the values of one try
    gateway: Gateway, wire: Wire, served_name: str, word: str, ids: set[str], *, streamed: bool
) -> str:
    """Ask once for a call with the word and send its result back; gives what came of it, in a few words."""
    asked: list[Message] = [{"role": "user", "content": f"Call the tool {_TOOL} with the word '{word}'."}]
    try:
        reply = _ask(gateway, wire, served_name, asked, streamed=streamed)
        told = judge(reply, wire, word, ids)
        if told != _GOOD:
            return told
        ids.add(reply.calls[0].id)
        after = _ask(gateway, wire, served_name, [*asked, *wire.result(reply, _RESULT)], streamed=streamed)
    except Unanswered as error:
        return str(error)
    except (LookupError, TypeError, AttributeError) as error:
        return f"the answer has another form than it should: {shown(repr(error))}"
    return judge_answer(after, wire)


def judge(reply: Reply, wire: Wire, word: str, ids: set[str]) -> str:
    """Say in a few words whether the reply is the call that was asked for, or what it is instead."""
    if not reply.calls:
        return f"text instead of a call: {shown(reply.text)}" if reply.text.strip() else "neither text nor a call"
    if len(reply.calls) > 1:
        return f"{len(reply.calls)} calls where one was asked for"
    call = reply.calls[0]
    if call.name != _TOOL:
        return f"a call of another tool: {shown(call.name) or 'without a name'}"
    if not call.id or call.id in ids:
        return f"a call with the id of one before: {shown(call.id)}" if call.id else "a call without an id"
    if reply.reason != wire.called:
        return f"a call that ends with {shown(str(reply.reason))}, not with {wire.called}"
    return judge_arguments(call, word)


def judge_arguments(call: Call, word: str) -> str:
    """Say in a few words whether a call's arguments are the ones that were asked for."""
    try:
        arguments = Arguments.model_validate_json(call.arguments)
    except ValidationError as error:
        malformed = error.errors()[0]["type"] == "json_invalid"
        return f"arguments that {'are not JSON' if malformed else 'break the schema'}: {shown(call.arguments)}"
    return _GOOD if arguments.word == word else f"another word: {shown(arguments.word)} for {word}"


def judge_answer(reply: Reply, wire: Wire) -> str:
    """Say in a few words whether the reply to a tool's result is an answer."""
    if reply.calls:
        return "another call in answer to the result"
    if not reply.text.strip():
        return "no text in answer to the result"
    if reply.reason not in wire.ended:
        return f"an answer that ends with {shown(str(reply.reason))}"
    return _GOOD


def _ask(gateway: Gateway, wire: Wire, served_name: str, messages: list[Message], *, streamed: bool) -> Reply:
    body = {**_offer(wire), "model": served_name, "max_tokens": _MAX_TOKENS, "temperature": 0, "messages": messages}
    if not streamed:
        return wire.plain(gateway.chat(wire.form, body).document())
    with gateway.stream(body, wire.form) as pieces:
        return wire.streamed(pieces)


def _offer(wire: Wire) -> dict[str, Any]:
    schema = Arguments.model_json_schema()
    parameters = {key: schema[key] for key in ("type", "properties", "required", "additionalProperties")}
    parameters["properties"] = {"word": {"type": "string", "description": "The word, letter for letter"}}
    return wire.body(_TOOL, _ABOUT, parameters)
