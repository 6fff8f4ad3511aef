"""Whether the cards that a deployment computes on are well, by what their driver tells: heat, clocks, errors, Xids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.card_health import HEALTH, XIDS, in_words, parse_health, parse_xids, shortcomings, with_xids
from orchestrator.errors import ProbeGarbled
from orchestrator.verify.on_host import Unasked, ask
from orchestrator.verify.subject import Figure, check, skipped

if TYPE_CHECKING:
    from orchestrator.card_health import CardHealth
    from orchestrator.deployment import Deployment
    from orchestrator.evidence import Check
    from orchestrator.verify.on_host import Said
    from orchestrator.verify.subject import Subject

NAME = "the cards are well"
#: Seconds for both questions; nvidia-smi alone may take ten where nothing holds the driver awake.
LIMIT_SECONDS = 90
#: Status of a command that is not there.
_NOT_FOUND = 127


def cards_check(subject: Subject) -> Check:
    """Ask the host and hold its cards against the limits; skipped with the reason where nobody there can be asked."""
    try:
        health = ask(subject.host, HEALTH, LIMIT_SECONDS)
        xids = ask(subject.host, XIDS, LIMIT_SECONDS)
    except Unasked as error:
        return check("host", NAME, [str(error)])
    return judged(subject.deployment, health, xids)


def judged(deployment: Deployment, health: Said, xids: Said) -> Check:
    """Give the check from what the host said. Pure. A card of which nothing was read does not pass."""
    if health.exit_code == _NOT_FOUND:
        return skipped("host", NAME, "nvidia-smi is not there, and only NVIDIA's cards are asked how they are")
    try:
        found = parse_health(health.stdout)
    except ProbeGarbled as error:
        return check("host", NAME, [error.what])
    if not found:
        said = " ".join((health.stdout or health.stderr).split())[:160]
        return check("host", NAME, [f"nvidia-smi tells of no card: {said}"])
    cards = with_xids(found, parse_xids(xids.stdout))
    faults, told = [], []
    for place in deployment.gpus:
        card = cards.get(place)
        if card is None or place not in found:
            faults.append(f"nothing was told of the card at {place}")
            continue
        faults += [f"the card at {place}: {one}" for one in shortcomings(card, deployment.limits)]
        told += [card] if card.told else []
    if not faults and len(told) < len(deployment.gpus):
        silent = len(deployment.gpus) - len(told)
        return skipped("host", NAME, f"the driver tells neither heat nor clocks of {silent} of the cards")
    return check("host", NAME, faults, "; ".join(in_words(card) for card in told), _hottest(told))


def _hottest(cards: list[CardHealth]) -> Figure | None:
    """Give the hottest card's heat."""
    heats = [card.temperature_celsius for card in cards if card.temperature_celsius is not None]
    return Figure(max(heats), "°C") if heats else None
