"""The promised window: turns that fill it, a prompt as long as it, and a longer one that must be refused.

What is proved by is the runtime's own count of each prompt. A count that is smaller than what was sent is a prompt
that was cut in silence. Whether the llm tells a word from the start again is told and decides nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.verify.filling import ANSWER_TOKENS, FILL_SECONDS, Counted, Scale, measure, send, user
from orchestrator.verify.gateway import Unanswered, shown
from orchestrator.verify.subject import Figure, check, skipped
from orchestrator.verify.tools import random_word
from orchestrator.verify.wire import WIRES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.deployment import Deployment
    from orchestrator.evidence import Check
    from orchestrator.verify.gateway import Form, Gateway

    #: Told while the window is filled: tokens so far, and of how many.
    Tell = Callable[[int, int], None]

TURNS_NAME = "turns fill the promised window"
WHOLE_NAME = "a prompt as long as the promised window"
BEYOND_NAME = "a prompt beyond the window is refused"
SLOTS_NAME = "as many at once as promised"

TURNS = 6
#: Tokens that a count may be short of what was aimed at: two rounds of the text in an llm's tokens, and a frame.
SLACK = 64
#: Tokens by which a count may differ from what was sent: a template puts its marks elsewhere from turn to turn.
TOLERANCE = 16
#: Seconds that reading the whole window anew may take; where it would be more, the prompt goes on from the turns'.
FRESH_SECONDS = 15.0
#: Tokens by which the prompt that must be refused is longer than the window.
BEYOND = 64
#: Requests at once: fewer than the gateway lets one token have open.
MOST_AT_ONCE = 32
_REFUSED = range(400, 500)


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised for one conversation: its window and what of it an answer may take, in tokens."""

    served_name: str
    window: int
    output: int
    slots: int

    @classmethod
    def of(cls, deployment: Deployment) -> Promise:
        """Give what a deployment promises; its window is one slot's."""
        return cls(deployment.served_name, deployment.context_tokens, deployment.output_tokens, deployment.slots)

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of all checks."""
        return (TURNS_NAME, WHOLE_NAME, BEYOND_NAME, *((SLOTS_NAME,) if self.slots > 1 else ()))


@dataclass(frozen=True, slots=True)
class Filled:
    """A conversation after its turns: its messages, what the runtime counted of the last, seconds of all turns."""

    messages: list[dict[str, str]]
    last: Counted
    frame: float
    seconds: float


def checks(
    gateway: Gateway,
    promise: Promise,
    tell: Tell = lambda *_: None,
    lacking: Mapping[Form, str] = MappingProxyType({}),
    fresh_seconds: float = FRESH_SECONDS,
) -> Iterator[Check]:
    """Give every check of the window; where one fails, those that rest on it are skipped by name."""
    word = random_word()
    try:
        scale = measure(gateway, promise.served_name, word)
    except Unanswered as error:
        yield check("context", TURNS_NAME, [str(error)])
        yield from (skipped("context", name, f"{TURNS_NAME}: failed") for name in promise.names[1:])
        return
    told, filled = turns(gateway, promise, scale, word, tell)
    yield told
    if filled is None or told.result == "failed":
        yield skipped("context", WHOLE_NAME, f"{TURNS_NAME}: failed")
    else:
        yield whole(gateway, promise, scale, filled, fresh_seconds)
    yield beyond(gateway, promise, scale, lacking)
    if promise.slots > 1:
        yield at_once(gateway, promise)


def turns(gateway: Gateway, promise: Promise, scale: Scale, word: str, tell: Tell) -> tuple[Check, Filled | None]:
    """Let a conversation grow to the window less what an answer may take; what it grew to, None where it broke off."""
    goal = promise.window - promise.output
    messages: list[dict[str, str]] = []
    counts: list[Counted] = []
    frame, faults = scale.frame_tokens, list[str]()
    for turn in range(1, TURNS + 1):
        before = counts[-1].prompt + counts[-1].answer if counts else 0
        rounds = scale.rounds_within(goal * turn / TURNS - before - frame)
        messages.append(user(rounds, None if counts else word))
        try:
            last = send(gateway, promise.served_name, messages)
        except Unanswered as error:
            return check("context", TURNS_NAME, [f"turn {turn} of {TURNS}: {error}"], figure=_at(before, goal)), None
        faults += miscount(counts[-1] if counts else None, rounds * scale.round_tokens, frame, last, f"turn {turn}: ")
        if counts:
            frame = max(1.0, last.prompt - before - rounds * scale.round_tokens)
        counts.append(last)
        messages.append({"role": "assistant", "content": last.text or "-"})
        tell(last.prompt, goal)
    reached, seconds = counts[-1].prompt, sum(one.seconds for one in counts)
    faults += [] if reached >= goal - SLACK else [f"they ended at {reached} tokens, {goal} were promised"]
    faults += [] if reached <= goal + SLACK else [f"the runtime counted {reached} tokens, at most {goal} were sent"]
    read = sum(one.prompt - one.cached for one in counts)
    steps = ", ".join(str(one.prompt) for one in counts)
    detail = f"prompts of {steps} tokens by the runtime's count, {read} of them read anew, in {seconds:.1f} s"
    filled = Filled(messages, counts[-1], frame, seconds)
    return check("context", TURNS_NAME, faults, detail, _at(reached, goal)), filled


def miscount(before: Counted | None, sent: float, frame: float, now: Counted, where: str = "") -> list[str]:
    """Say how the count of a prompt cannot be that of what was sent: a turn's text on top of what was there before."""
    kept = before.prompt if before else 0
    least = kept + sent - TOLERANCE
    most = kept + (2 * before.answer if before else 0) + sent + 2 * frame + 2 * TOLERANCE
    if now.prompt < least:
        return [f"{where}at least {least:.0f} tokens were sent and {now.prompt} counted: the prompt was cut"]
    if now.prompt > most:
        return [f"{where}at most {most:.0f} tokens were sent and {now.prompt} counted"]
    return []


def whole(gateway: Gateway, promise: Promise, scale: Scale, filled: Filled, fresh_seconds: float) -> Check:
    """Send one prompt that leaves room in the window for a few words alone.

    It is read anew from its first token where that is quick enough by what the turns took (reading grows with the
    square of the length at worst); else it goes on from where the turns ended, and what of it was kept is told.
    """
    goal = promise.window - ANSWER_TOKENS
    anew = filled.seconds * (goal / filled.last.prompt) ** 2 <= fresh_seconds
    if anew:
        word = random_word()
        rounds = scale.rounds_within(goal - scale.frame_tokens)
        messages, before, frame = [user(rounds, word)], None, scale.frame_tokens
    else:
        word = filled.messages[0]["content"].split("'")[1]
        kept = filled.last.prompt + filled.last.answer
        rounds = scale.rounds_within(goal - kept - filled.frame - 1)
        messages, before, frame = [*filled.messages, user(rounds)], filled.last, filled.frame
    try:
        found = send(gateway, promise.served_name, messages)
    except Unanswered as error:
        return check("context", WHOLE_NAME, [f"{promise.window} tokens are promised: {error}"])
    faults = miscount(before, rounds * scale.round_tokens, frame, found)
    total = found.prompt + found.answer
    faults += [] if found.prompt >= goal - SLACK else [f"{found.prompt} tokens were counted, {goal} were aimed at"]
    faults += [] if total <= promise.window else [f"{total} tokens were counted in a window of {promise.window}"]
    said = "told again" if word in found.text.lower() else "not told again"
    detail = (
        f"{found.prompt} tokens read ({found.cached} of them kept from before) and {found.answer} written in "
        f"{found.seconds:.1f} s; a word from its start was {said}, which is the llm's skill and decides nothing"
    )
    return check("context", WHOLE_NAME, faults, detail, Figure(total, "tokens", promise.window))


def beyond(gateway: Gateway, promise: Promise, scale: Scale, lacking: Mapping[Form, str]) -> Check:
    """Send a prompt that cannot fit, in each wire form: it must be refused with a reason, and not cut."""
    rounds = scale.rounds_beyond(promise.window + BEYOND)
    body = {"model": promise.served_name, "max_tokens": 1, "messages": [user(rounds, random_word())]}
    faults, told = [], []
    for wire in WIRES:
        if wire.form in lacking:
            continue
        try:
            answer = gateway.chat(wire.form, body, FILL_SECONDS)
        except Unanswered as error:
            faults.append(f"{wire.title} form: {error}")
            continue
        if answer.status in _REFUSED and answer.text.strip():
            told.append(f"{wire.title} form: HTTP {answer.status}")
        else:
            faults.append(
                f"{wire.title} form: about {rounds * scale.round_tokens:.0f} tokens were answered with HTTP "
                f"{answer.status}, in a window of {promise.window}: {shown(answer.text)}"
            )
    if not told and not faults:
        faults.append("it has no wire form in which such a prompt could be sent")
    return check("context", BEYOND_NAME, faults, ", ".join(told))


def at_once(gateway: Gateway, promise: Promise) -> Check:
    """Have as many short chats at once as conversations are promised."""
    count = min(promise.slots, MOST_AT_ONCE)

    def one(_: int) -> str:
        try:
            send(gateway, promise.served_name, [user(1, random_word())])
        except Unanswered as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(max_workers=count) as people:
        said = list(people.map(one, range(count)))
    faults = sorted({error for error in said if error})
    return check("context", SLOTS_NAME, faults, "", Figure(said.count(""), "answered", count))


def _at(tokens: int, goal: int) -> Figure:
    return Figure(tokens, "tokens", goal)
