"""The boot doctor: what a runtime wrote before it did not come up -> its cause, what it means, what to change. Pure.

A cause is a row of ``catalog/causes.yml``. What no row knows is told as unknown, with the lines that matter.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from orchestrator.nouns import Noun
from orchestrator.profile import RuntimeName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.deployment import Deployment
    from orchestrator.profile import Profile

UNKNOWN = "unknown"
RUNTIME_UNIT, GATEWAY_UNIT = "agentrig-runtime.service", "agentrig-gateway.service"
#: Lines shown of a log, and signs of one line.
SHOWN_LINES, SHOWN_SIGNS = 6, 300
#: A window is never made smaller than this by a change of ours: below it no agent's first request has room.
LEAST_WINDOW = 4096
#: Tokens to which a window that a runtime named itself is rounded down.
WINDOW_STEP = 256

Decided = Literal["context_tokens", "slots", "kv_dtype"]


class Change(Noun):
    """One change of what was decided: halve a figure, take the figure that the log names, or set a value."""

    field: Decided
    how: Literal["halve", "logged", "set"]
    value: str | None = None


class Sign(Noun):
    """How a log tells a cause: ``patterns`` are searched in each line by which a runtime does more than inform or warn.

    With ``after``, such a line must stand before; after one of ``never_after`` nothing counts any more. ``warns``:
    lines that only warn count as well. ``runtimes``: whose logs these are; empty for all.
    """

    patterns: tuple[str, ...] = Field(min_length=1)
    after: tuple[str, ...] = ()
    never_after: tuple[str, ...] = ()
    runtimes: tuple[RuntimeName, ...] = ()
    warns: bool = False

    @field_validator("patterns", "after", "never_after")
    @classmethod
    def _can_be_searched(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                compiled(pattern)
            except re.error as error:
                message = f"{pattern} is no pattern: {error}"
                raise ValueError(message) from None
        return patterns

    def told(self, lines: Sequence[str]) -> tuple[int, re.Match[str]] | None:
        """Give the first line that tells it, where it stands and what was matched."""
        allowed = not self.after
        for index, line in enumerate(lines):
            if _any(self.never_after, line):
                return None
            if allowed and (self.warns or not _MILD.search(line)) and (match := _any(self.patterns, line)):
                return index, match
            allowed = allowed or _any(self.after, line) is not None
        return None


class CauseRow(Noun):
    """One cause: what it means, what to do, how logs tell it.

    ``part_of`` names the wider cause that is told where a log does not say which of several it is. ``changes`` are
    those that are proven, in the order in which they are tried. With ``machine`` the machine's own logs may tell it.
    """

    name: str
    title: str
    means: str
    do: str
    signs: tuple[Sign, ...] = Field(min_length=1)
    part_of: str | None = None
    changes: tuple[Change, ...] = ()
    machine: bool = False
    source: str


class UnitLog(Noun):
    """How one of our units stands on a host, how often systemd started it anew, and what it wrote."""

    unit: str
    active: bool
    result: str = ""
    restarts: int = 0
    text: str = ""


class Finding(Noun):
    """What is wrong on one host: the row's name or ``unknown``, what it means, what to do, the lines that say so."""

    host: str = ""
    cause: str
    means: str
    change: str
    lines: tuple[str, ...] = ()
    runtime: str | None = None
    #: The figure that the log names as possible, where it names one.
    limit: int | None = None


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """Give a pattern that is compiled once."""
    return re.compile(pattern)


_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
#: What may stand before a runtime's own words: journald's time, host and unit; a container's or a worker's name.
_PREFIXES = re.compile(
    r"^(?:[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \S+ [\w.@-]+(?:\[\d+\])?: "
    r"|\d{4}-\d\d-\d\dT\S+ \S+ [\w.@-]+(?:\[\d+\])?: "
    r"|[\w.-]+ +\| "
    r"|\((?:EngineCore|APIServer|Worker|VllmWorker|RayWorkerWrapper)\w*[^)]*\) "
    r"|\[rank\d+\]: ?)+"
)
#: A line by which a runtime only informs or warns (vLLM's and SGLang's levels; llama.cpp's letter after its clock).
_MILD = re.compile(r"^(?:\d+\.\d+\.\d+\.\d+ [IWD] |(?:\S+ +){0,4}?(?:INFO|WARNING|DEBUG)\b)")
#: llama.cpp's clock, which begins anew with each start.
_CLOCK = re.compile(r"^\d+\.\d+\.\d+\.\d+ ")
#: Lines that look like the reason of an end, where no row knows it.
_TELLING = re.compile(
    r"(?i)\b(?:error|failed|failure|fatal|panic|exception|abort(?:ed)?|assert\w*|killed|refused|cannot|could not|unable"
    r"|invalid|not found|denied|segmentation fault|core dumped)\b|^\d+\.\d+\.\d+\.\d+ E "
)
_OF_SYSTEMD = re.compile(r"^(?:agentrig-[\w-]+\.service: |Start(?:ing|ed) |Stopp(?:ing|ed) |Failed to start )")
_SECRETS = (
    (compiled(r"(?i)\b(bearer )[\w.~+/=-]{6,}"), r"\1[hidden]"),
    (
        compiled(
            r"""(?i)\b((?:api[_-]?keys?|password|passwd|secret|(?:auth|hf|hub|access|bearer|api)[_-]?token)\b"""
            r"""["']?\s*[=:]\s*)(?!None\b|null\b)(?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^\s,)]+)"""
        ),
        r"\1[hidden]",
    ),
    (compiled(r"\b(?:hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_-]{8,}"), "[hidden]"),
)


def cleaned(text: str, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """Give a log's lines without colours, what stands before a runtime's own words, blanks at the end, and secrets."""
    known = [secret for secret in secrets if secret]
    lines = []
    for raw in text.splitlines():
        line = _PREFIXES.sub("", _ANSI.sub("", raw)).rstrip()
        for secret in known:
            line = line.replace(secret, "[hidden]")
        for pattern, instead in _SECRETS:
            line = pattern.sub(instead, line)
        if line:
            lines.append(line)
    return tuple(lines)


def diagnose(
    lines: Sequence[str], causes: Mapping[str, CauseRow], runtime: str | None = None, host: str = ""
) -> Finding:
    """Give the cause that a log tells: the first that is told, a narrow one before the wider that it is part of."""
    wider = {row.part_of for row in causes.values()}
    found = [
        (row.name in wider, told[0], order, row, sign, told[1])
        for order, row in enumerate(causes.values())
        for sign in row.signs
        if not (sign.runtimes and runtime is not None and runtime not in sign.runtimes) and (told := sign.told(lines))
    ]
    if not found:
        return unknown(lines, runtime, host)
    _, index, _, row, sign, match = min(found, key=lambda one: one[:3])
    limit = match.groupdict().get("limit")
    return Finding(
        host=host,
        cause=row.name,
        means=row.means,
        change=row.do,
        lines=_around(sign, lines, index),
        runtime=runtime,
        limit=int(limit) if limit else None,
    )


def unknown(lines: Sequence[str], runtime: str | None = None, host: str = "") -> Finding:
    """Say that no row knows the cause, and show the lines that look like the reason, else the last."""
    own = [line for line in lines if not _OF_SYSTEMD.search(line)]
    telling = [line for line in own if _TELLING.search(line) and not _MILD.search(line)]
    shown = list(dict.fromkeys(telling or own))[-SHOWN_LINES:]
    return Finding(
        host=host,
        cause=UNKNOWN,
        means="it did not come up, and its log tells no cause that is known here" if own else "it wrote nothing",
        change="read the lines that matter; the whole log is in the unit's journal on the host",
        lines=tuple(line[:SHOWN_SIGNS] for line in shown),
        runtime=runtime,
    )


def _any(patterns: Iterable[str], line: str) -> re.Match[str] | None:
    """Give the match of the first pattern that is in a line."""
    return next((match for pattern in patterns if (match := compiled(pattern).search(line))), None)


def _around(sign: Sign, lines: Sequence[str], index: int) -> tuple[str, ...]:
    """Give the lines from that on which tell the cause as well, each once."""
    told: dict[str, str] = {}
    for line in lines[index:]:
        if _any(sign.patterns, line):
            told.setdefault(_CLOCK.sub("", line), line[:SHOWN_SIGNS])
    return tuple(told.values())[:SHOWN_LINES]


def proposed(finding: Finding, row: CauseRow, profile: Profile, deployment: Deployment) -> tuple[Profile, str] | None:
    """Give the profile with the row's first change that can be made, and the change in words; None where none can.

    What the owner fixed in his profile is left as he wants it.
    """
    for change in row.changes:
        if getattr(profile.llm, change.field) is not None:
            continue
        value = _changed(change, finding, deployment)
        if value is not None:
            before = getattr(deployment, change.field)
            wish = profile.llm.model_copy(update={change.field: value})
            words = f"{change.field.replace('_', ' ')} {before} -> {value}"
            return profile.model_copy(update={"llm": wish}), words
    return None


def _changed(change: Change, finding: Finding, deployment: Deployment) -> int | str | None:
    """Give the new value of a field, or None where this change would change nothing or go too far."""
    before = getattr(deployment, change.field)
    if change.how == "set":
        return change.value if change.value != before else None
    least = LEAST_WINDOW if change.field == "context_tokens" else 1
    value = (finding.limit or 0) // WINDOW_STEP * WINDOW_STEP if change.how == "logged" else before // 2
    return value if least <= value < before else None
