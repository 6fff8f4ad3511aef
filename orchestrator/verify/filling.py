"""Conversations of a known length: text whose tokens the runtime itself has counted before much of it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from orchestrator.verify.gateway import Unanswered, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.verify.gateway import Gateway

#: One round of the text: common words, so that each is a token or two to any llm. Whole rounds alone are sent, so
#: that a prompt is as long as the count of its rounds says.
ROUND = (
    *("river", "stone", "north", "green", "table", "paper", "winter", "garden"),
    *("metal", "window", "yellow", "simple", "little", "market", "open", "letter"),
)
#: Rounds of the two prompts by which the text is measured: they differ by eight, and cost next to nothing.
_FEW, _MORE = 1, 9
#: Seconds that a long prompt may take: a CPU reads some hundred tokens a second, and fewer as it goes on.
FILL_SECONDS = 900
#: Tokens that an answer may have while the window is filled.
ANSWER_TOKENS = 8

_QUESTION = "Which word was told at the start?"


@dataclass(frozen=True, slots=True)
class Counted:
    """What the runtime counted of one request: its prompt, how much of that it still had, its answer; seconds."""

    prompt: int
    cached: int
    answer: int
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Tokens of one round of the text, and of a conversation of one message around it, as the runtime counts."""

    round_tokens: float
    frame_tokens: float

    def rounds_within(self, tokens: float) -> int:
        """Give how many rounds have at most so many tokens."""
        return max(0, floor(tokens / self.round_tokens))

    def rounds_beyond(self, tokens: float) -> int:
        """Give how many rounds have at least so many tokens."""
        return ceil(tokens / self.round_tokens)


def user(rounds: int, word: str | None = None) -> dict[str, str]:
    """Give a person's message: the word of the run if it is the first, rounds of text, the question for the word."""
    head = f"The word of this run is '{word}'. Remember it. " if word else ""
    return {"role": "user", "content": f"{head}{' '.join(ROUND * rounds)}\n{_QUESTION}"}


def send(
    gateway: Gateway, served_name: str, messages: Sequence[dict[str, str]], max_tokens: int = ANSWER_TOKENS
) -> Counted:
    """Send a conversation; raises ``Unanswered`` also where the answer holds no usable count."""
    body: dict[str, Any] = {"model": served_name, "max_tokens": max_tokens, "temperature": 0, "messages": messages}
    answer = gateway.chat("openai", body, FILL_SECONDS)
    return counted(answer.document(), answer.seconds)


def counted(document: dict[str, Any], seconds: float) -> Counted:
    """Read the runtime's count out of an answer; raises ``Unanswered``."""
    try:
        usage = document["usage"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        text = document["choices"][0]["message"].get("content") or ""
        found = Counted(int(usage["prompt_tokens"]), int(cached), int(usage["completion_tokens"]), text, seconds)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Unanswered(f"the answer holds no count of its tokens: {shown(str(document))}") from None
    if found.prompt < 1 or found.answer < 1:
        raise Unanswered(f"the runtime counted {found.prompt} tokens read and {found.answer} written")
    return found


def measure(gateway: Gateway, served_name: str, word: str) -> Scale:
    """Have the runtime count two short prompts; raises ``Unanswered``, also for a count that does not grow as it must.

    A word has at least one token, so a count that grows by fewer tokens than words were added is none of the prompt.
    """
    few, more = (send(gateway, served_name, [user(rounds, word)], 1).prompt for rounds in (_FEW, _MORE))
    words = (_MORE - _FEW) * len(ROUND)
    if more - few < words:
        raise Unanswered(
            f"{words} words more and the runtime counted {more} tokens after {few}: it is no count of them"
        )
    each = (more - few) / (_MORE - _FEW)
    return Scale(each, max(0.0, few - each * _FEW))
