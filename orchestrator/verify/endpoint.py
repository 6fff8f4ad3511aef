"""What the gateway must do for a client that holds the token, and must not do for one that doesn't."""

from __future__ import annotations

import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.evidence import Check
from orchestrator.verify import streaming
from orchestrator.verify.gateway import READ_SECONDS, Unanswered, credentials, shown
from orchestrator.verify.subject import Figure, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.verify.gateway import Form, Gateway

_SHORT_PROMPT = "Reply with the single word: ready"
_LONG_PROMPT = "Write two sentences about the sea."
#: Enough tokens for a sentence that comes in several pieces, few enough for a slow CPU.
_SHORT_TOKENS = 16
_LONG_TOKENS = 40

_UNAUTHORISED = 401
_NOT_FOUND = 404
_FEWEST_PIECES = 2
#: A buffer on the way of 4 or 8 KiB sends some 16 or 32 pieces at once; an open way one, under load a few.
_MOST_AT_ONCE = 8
#: A stream that came so is asked for so many times in all.
_STREAM_TRIES = 3

#: Of no wire form, or next to one that is.
_PATHS_OUTSIDE = ("/", "/v1", "/v1/not-on-the-list", "/v1/models/pull", "/v2/models", "/index.html")
#: Paths by which llama.cpp, vLLM and SGLang tell of themselves or take orders.
_ADMIN_PATHS = ("/slots", "/props", "/metrics", "/version", "/load", "/server_info", "/get_server_info", "/tokenize")

_FORM_NAMES: dict[Form, str] = {"openai": "OpenAI", "anthropic": "Anthropic"}


def name_of_chat(form: Form) -> str:
    """Give the name of the check of a form's short chat."""
    return f"chat, {_FORM_NAMES[form]} form"


def checks(
    gateway: Gateway, token: str, served_name: str, lacking: Mapping[Form, str] = MappingProxyType({})
) -> Iterator[Check]:
    """Give every check of the endpoint, one after the other. ``lacking``: a wire form that is not spoken -> why."""
    yield identity(gateway, served_name)
    for form in _FORM_NAMES:
        yield unspoken(form, lacking[form]) if form in lacking else chat(gateway, form, served_name)
    yield stream(gateway, served_name)
    for form in _FORM_NAMES:
        yield refusal_without_token(gateway, form, served_name)
        yield refusal_of_wrong_tokens(gateway, form, served_name, token)
    yield not_found(gateway, "paths outside the list are not found", _PATHS_OUTSIDE)
    yield not_found(gateway, "the runtime's own paths are closed", _ADMIN_PATHS)


def identity(gateway: Gateway, served_name: str) -> Check:
    """Tell whether the llm behind the gateway is the one that was deployed."""
    name = "llm identity"
    try:
        rows = gateway.get("/v1/models").document().get("data")
        names = [str(row["id"]) for row in rows] if isinstance(rows, list) else []
    except (Unanswered, KeyError, TypeError) as error:
        return check("endpoint", name, [_said(error, "/v1/models")])
    faults = [] if served_name in names else [f"expected {served_name}, found {', '.join(names) or 'no llm'}"]
    return check("endpoint", name, faults, f"serves {', '.join(names)}")


def unspoken(form: Form, why: str) -> Check:
    """Say of a wire form that is not promised why there is nothing to try."""
    return Check(area="endpoint", name=f"chat, {_FORM_NAMES[form]} form", result="skipped", detail=f"not spoken: {why}")


def chat(gateway: Gateway, form: Form, served_name: str) -> Check:
    """Tell whether a short chat is answered with text and with usage figures."""
    name = f"chat, {_FORM_NAMES[form]} form"
    try:
        answer = gateway.chat(form, _short_chat(served_name))
        text, taken, given = _read_chat(form, answer.document())
    except (Unanswered, KeyError, IndexError, TypeError) as error:
        return check("endpoint", name, [_said(error, "the answer")])
    faults = [] if text.strip() else ["the answer holds no text"]
    faults += [] if taken and given else [f"the usage figures say {taken} and {given} tokens"]
    figure = Figure(round(answer.seconds, 2), "s", READ_SECONDS)
    return check("endpoint", name, faults, f"{taken} tokens read, {given} written", figure)


def stream(gateway: Gateway, served_name: str) -> Check:
    """Tell whether a chat comes piece by piece; the figure is the time to the first piece.

    On a busy machine several pieces may come at once by chance, so what seems held back is asked for again: a buffer
    on the way holds every stream back.
    """
    name = "streaming"
    try:
        told, held = _streamed(gateway, served_name), 0
        while _held_back(told) and (held := held + 1) < _STREAM_TRIES:
            told = _streamed(gateway, served_name)
    except (Unanswered, LookupError, TypeError, AttributeError) as error:
        return check("endpoint", name, [_said(error, "the stream")])
    faults = [] if told.text.strip() else ["the pieces joined hold no text"]
    faults += [] if told.ended else ["the stream ended without [DONE]"]
    if len(told.texts) < _FEWEST_PIECES:
        faults.append(f"text came in {len(told.texts)} pieces where several were expected")
    elif _held_back(told):
        said = f"{len(told.texts)} pieces came in {told.arrivals} reads, and so {_STREAM_TRIES} times"
        faults.append(f"{said}: something holds the stream back")
    if told.first_seconds is None or told.last_seconds is None:
        return check("endpoint", name, faults)
    detail = f"{len(told.texts)} pieces within {told.last_seconds - told.first_seconds:.2f} s of the first"
    detail += f"; {held} before it came in fewer reads" if held else ""
    return check("endpoint", name, faults, detail, Figure(round(told.first_seconds * 1000), "ms", READ_SECONDS * 1000))


def _streamed(gateway: Gateway, served_name: str) -> streaming.Told:
    with gateway.stream(_body(served_name, _LONG_PROMPT, _LONG_TOKENS)) as pieces:
        return streaming.read(pieces)


def _held_back(told: streaming.Told) -> bool:
    """Tell whether the pieces of a stream came in too few reads for an open way."""
    several = len(told.texts) >= _FEWEST_PIECES
    return several and (told.arrivals < _FEWEST_PIECES or len(told.texts) > told.arrivals * _MOST_AT_ONCE)


def refusal_without_token(gateway: Gateway, form: Form, served_name: str) -> Check:
    """Tell whether a chat without any token is refused."""
    name = f"refused without a token, {_FORM_NAMES[form]} form"
    return _all_status(
        name,
        _UNAUTHORISED,
        {"no token": lambda: gateway.chat_as(form, _short_chat(served_name), {}).status},
    )


def refusal_of_wrong_tokens(gateway: Gateway, form: Form, served_name: str, token: str) -> Check:
    """Tell whether a chat with another token, with the beginning of the right one and with an empty one is refused."""
    wrong = {"another token": secrets.token_hex(16), "the token cut short": token[:-1], "an empty token": ""}

    def asking(value: str) -> Callable[[], int]:
        return lambda: gateway.chat_as(form, _short_chat(served_name), credentials(form, value)).status

    name = f"refused with a wrong token, {_FORM_NAMES[form]} form"
    return _all_status(name, _UNAUTHORISED, {what: asking(value) for what, value in wrong.items()})


def not_found(gateway: Gateway, name: str, paths: tuple[str, ...]) -> Check:
    """Tell whether every one of the paths, asked for with the right token, is answered with 404."""

    def asking(path: str) -> Callable[[], int]:
        return lambda: gateway.get(path).status

    return _all_status(name, _NOT_FOUND, {path: asking(path) for path in paths})


def _all_status(name: str, wanted: int, requests_by_name: dict[str, Callable[[], int]]) -> Check:
    faults = []
    for what, ask in requests_by_name.items():
        try:
            status = ask()
        except Unanswered as error:
            faults.append(f"{what}: {error}")
        else:
            faults += [] if status == wanted else [f"{what}: HTTP {status}, expected {wanted}"]
    total = len(requests_by_name)
    figure = Figure(total - len(faults), "refused", total)
    return check("endpoint", name, faults, f"HTTP {wanted} for {', '.join(requests_by_name)}", figure)


def _short_chat(served_name: str) -> dict[str, Any]:
    return _body(served_name, _SHORT_PROMPT, _SHORT_TOKENS)


def _body(served_name: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    return {
        "model": served_name,
        "max_tokens": max_tokens,
        "temperature": 0,
        "messages": [{"role": "user", "content": prompt}],
    }


def _read_chat(form: Form, document: dict[str, Any]) -> tuple[str, int, int]:
    usage = document.get("usage") or {}
    if form == "openai":
        text = document["choices"][0]["message"].get("content") or ""
        return text, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    text = "".join(block.get("text", "") for block in document["content"] if block["type"] == "text")
    # In this form what was found in the cache is counted apart.
    taken = sum(int(usage.get(key) or 0) for key in ("input_tokens", "cache_read_input_tokens"))
    return text, taken, int(usage.get("output_tokens") or 0)


def _said(error: Exception, where: str) -> str:
    if isinstance(error, Unanswered):
        return str(error)
    return f"{where} has another form than it should: {shown(repr(error))}"
