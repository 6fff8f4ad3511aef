"""All checks of a host, in the order of their areas."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from orchestrator.evidence import AREAS, Area, Check
from orchestrator.progress import Event
from orchestrator.verify import agents, cards, context, endpoint, host_specs, listeners, tools, walls
from orchestrator.verify.gateway import Gateway
from orchestrator.verify.subject import Figure, check, skipped
from orchestrator.verify.wire import WIRES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from orchestrator.progress import Progress
    from orchestrator.verify.subject import Subject

#: Checks after a restart: an answer in time, and the tool path of a runtime that starts with nothing in its cache.
AGAIN_NAMES = ("answers after its unit was started anew", "a tool call and its result after that")
_CHAT = endpoint.name_of_chat("openai")


def run(subject: Subject, areas: Collection[Area], progress: Progress) -> tuple[Check, ...]:
    """Give every check of the areas asked for, each told to ``progress`` when it is done; raises nothing of its own.

    A check that cannot run has failed; one that would rest on an endpoint that does not answer is skipped by name.
    The area walls has checks where the host has sandboxes.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="host-specs") as beside:
        specs = beside.submit(host_specs.checks, subject.host, subject.manifest) if "host" in areas else None
        found = [_told(check, subject, progress) for check in _served(subject, areas, progress)]
        if specs:
            found += [_told(check, subject, progress) for check in (*specs.result(), *_listeners(subject))]
    return tuple(sorted(found, key=lambda check: AREAS.index(check.area)))


def _served(subject: Subject, areas: Collection[Area], progress: Progress) -> Iterator[Check]:
    """Give the checks of what serves: those first that cost least, and none that costs where nothing answers."""
    silent = False
    if "endpoint" in areas:
        for found in _endpoint(subject):
            silent |= found.name == _CHAT and found.result == "failed"
            yield found
    promise = context.Promise.of(subject.deployment)
    costly: tuple[tuple[Area, tuple[str, ...], Callable[[], Iterator[Check]]], ...] = (
        ("tools", tools.NAMES, lambda: _tools(subject)),
        ("context", promise.names, lambda: _context(subject, promise, progress)),
        ("walls", (walls.NAME,) if subject.deployment.sandbox else (), lambda: walls.checks(subject)),
        ("agents", tuple(agents.name_of(row) for row in subject.agents), lambda: agents.checks(subject)),
    )
    for area, names, checks in costly:
        if area in areas and silent:
            yield from (skipped(area, name, f"the endpoint does not answer: {_CHAT}") for name in names)
        elif area in areas:
            yield from checks()


def again(subject: Subject, seconds: float, limit: float, progress: Progress) -> tuple[Check, ...]:
    """Give the checks after the runtime's unit was started anew, which took so many seconds of so many allowed."""
    gateway = Gateway(subject.base_url, subject.token, subject.ca_file)
    chat = endpoint.chat(gateway, "openai", subject.deployment.served_name)
    took = seconds + (chat.figure or 0.0)
    faults = [chat.detail] if chat.result == "failed" else []
    faults += [] if took <= limit else [f"it took {took:.0f} s, and {limit:.0f} s is what it may take"]
    served = check("endpoint", AGAIN_NAMES[0], faults, "", Figure(round(took, 2), "s", limit))
    called = tools.one_form(gateway, WIRES[0], subject.deployment.served_name, set(), streamed=True)
    called = called.model_copy(update={"name": AGAIN_NAMES[1]})
    return tuple(_told(found, subject, progress) for found in (served, called))


def chat_once(base_url: str, token: str, served_name: str, ca_file: str | None = None) -> Check:
    """Give the one check that a host whose manifest holds must still pass: a short chat through the gateway."""
    return _without(token, endpoint.chat(Gateway(base_url, token, ca_file), "openai", served_name))


def _endpoint(subject: Subject) -> Iterator[Check]:
    gateway = Gateway(subject.base_url, subject.token, subject.ca_file)
    return endpoint.checks(gateway, subject.token, subject.deployment.served_name, subject.lacking)


def _tools(subject: Subject) -> Iterator[Check]:
    gateway = Gateway(subject.base_url, subject.token, subject.ca_file)
    return tools.checks(gateway, subject.deployment.served_name, subject.lacking)


def _context(subject: Subject, promise: context.Promise, progress: Progress) -> Iterator[Check]:
    def tell(done: int, total: int) -> None:
        progress(Event("verify", f"{done} of {total} tokens in the window", host=subject.host.name))

    gateway = Gateway(subject.base_url, subject.token, subject.ca_file)
    return context.checks(gateway, promise, tell, subject.lacking)


def _listeners(subject: Subject) -> Iterator[Check]:
    if subject.deployment.gpus:
        yield cards.cards_check(subject)
    yield listeners.list_check(subject.manifest, subject.reading)
    if subject.deployment.runtime_url:
        yield listeners.foreign_check(subject.deployment.runtime_url)
    else:
        yield listeners.runtime_check(subject.reading, subject.runtime_port)


def _told(check: Check, subject: Subject, progress: Progress) -> Check:
    clean = _without(subject.token, check)
    if clean.result == "passed":
        progress(Event("verify", clean.name, host=subject.host.name, state="ok"))
    elif clean.result == "skipped":
        progress(Event("verify", f"{clean.name}: not tried: {clean.detail}", host=subject.host.name, state="ok"))
    else:
        progress(Event("verify", f"{clean.name}: {clean.detail}", host=subject.host.name, state="failed"))
    return clean


def _without(token: str, check: Check) -> Check:
    """Take the token out of a detail, cut short or whole: a server may send back what it was sent."""
    detail = check.detail
    for secret in (token, token[:-1]):
        detail = detail.replace(secret, "…") if secret else detail
    return check.model_copy(update={"detail": detail})
