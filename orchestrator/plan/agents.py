"""Whether the agents of a decision can work with it: one that cannot is refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.deployment import Rejection
from orchestrator.errors import NoFit, ProfileError

if TYPE_CHECKING:
    from orchestrator.catalog.rows import AgentRow, Catalog
    from orchestrator.deployment import Deployment
    from orchestrator.profile import Profile

#: Most tokens of one answer where the profile says nothing, and the share of the window that it may take at most.
MOST_OUTPUT, OUTPUT_SHARE = 8192, 4
#: An agent's first request and one answer should leave half of the window for the work itself.
WORK_SHARE = 2


def longest_answer(window: int, profile: Profile) -> int:
    """Give the most tokens of one answer: the profile's wish, as far as the window's share allows."""
    return max(1, min(profile.llm.output_tokens or MOST_OUTPUT, window // OUTPUT_SHARE))


def with_agents(decided: Deployment, catalog: Catalog) -> Deployment:
    """Give the decision, once every agent of it has been found to work with it, with what is said of short windows.

    Raises ProfileError for an agent that nothing sets up, NoFit for one whose wire form is not spoken or whose first
    request leaves too little of the window.
    """
    for name in decided.agents:
        row = catalog.agents.get(name)
        if row is None:
            raise ProfileError(
                f"nothing sets up the agent {name} yet: the catalog has no row for it",
                where=decided.profile,
                do="take it out of the profile's agents; there are " + ", ".join(sorted(catalog.agents)),
            )
        reason = _wire(row, decided, catalog) or _window(row, decided)
        if reason:
            raise NoFit(
                f"{row.title} cannot work with {decided.llm}: {reason}",
                where=decided.host,
                do=f"take {name} out of the profile's agents, or fix another llm, runtime or window there",
                rejections=[
                    Rejection(llm=decided.llm, quant=decided.quant, runtime=decided.runtime, reason=reason),
                    *decided.rejections,
                ],
            )
    rows = [catalog.agents[name] for name in decided.agents]
    said = tuple(filter(None, (told(row, decided) for row in rows for told in (_short, _commands))))
    return decided.model_copy(update={"reasons": (*decided.reasons, *said)}) if said else decided


def _short(row: AgentRow, decided: Deployment) -> str | None:
    """Give what is to be said of an agent that, as it comes, would leave too little of the window."""
    whole = row.untrimmed_tokens or row.first_request_tokens
    if (whole + decided.output_tokens) * WORK_SHARE <= decided.context_tokens:
        return None
    left = decided.context_tokens - row.first_request_tokens - decided.output_tokens
    trimmed = f" as it comes; its tools are trimmed to {row.first_request_tokens}" if row.untrimmed_tokens else ""
    return (
        f"{row.title}'s first request takes about {whole} of the window's {decided.context_tokens} tokens{trimmed}, "
        f"which leaves {left} for the work beside an answer"
    )


def _commands(row: AgentRow, decided: Deployment) -> str | None:
    """Give what is to be said of an agent that runs none of the commands that a sandbox grants."""
    if row.runs_commands or not (decided.sandbox and decided.sandbox.commands):
        return None
    return f"{row.title} runs none of the sandbox's commands: its own rules allow it all commands or none"


def _wire(row: AgentRow, decided: Deployment, catalog: Catalog) -> str | None:
    """Give why the agent could not be answered at all, None where it can."""
    runtime = catalog.runtimes[decided.runtime]
    form = runtime.openai if row.wire == "openai" else runtime.anthropic
    if form.spoken:
        return None
    return f"it speaks the {row.wire} wire form, and {runtime.title} does not ({form.why})"


def _window(row: AgentRow, decided: Deployment) -> str | None:
    """Give why the agent's first request and one answer do not fit, None where they do."""
    needed = row.first_request_tokens + decided.output_tokens
    if needed <= decided.context_tokens:
        return None
    return (
        f"its first request takes about {row.first_request_tokens} tokens and an answer {decided.output_tokens}, "
        f"and the window has {decided.context_tokens}"
    )
