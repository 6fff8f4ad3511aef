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


def longest_answer(window: int, profile: Profile) -> int:
    """Give the most tokens of one answer: the profile's wish, as far as the window's share allows."""
    return max(1, min(profile.llm.output_tokens or MOST_OUTPUT, window // OUTPUT_SHARE))


def with_agents(decided: Deployment, catalog: Catalog) -> Deployment:
    """Give the decision as it is, once every agent of it has been found to work with it.

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
    return decided


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
