"""All checks of a host, in the order of their areas."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from orchestrator.evidence import AREAS, Area, Check
from orchestrator.progress import Event
from orchestrator.verify import endpoint, host_specs, listeners, tools
from orchestrator.verify.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from orchestrator.progress import Progress
    from orchestrator.verify.subject import Subject


def run(subject: Subject, areas: Collection[Area], progress: Progress) -> tuple[Check, ...]:
    """Give every check of the areas asked for, each told to ``progress`` when it is done; raises nothing of its own.

    A check that cannot run has failed. Areas without checks (context, walls, agents) give none.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="host-specs") as beside:
        specs = beside.submit(host_specs.checks, subject.host, subject.manifest) if "host" in areas else None
        told: dict[Area, Callable[[], Iterator[Check]]] = {
            "endpoint": lambda: _endpoint(subject),
            "tools": lambda: _tools(subject),
        }
        found = [_told(check, subject, progress) for area in told if area in areas for check in told[area]()]
        if specs:
            found += [_told(check, subject, progress) for check in (*specs.result(), *_listeners(subject))]
    return tuple(sorted(found, key=lambda check: AREAS.index(check.area)))


def chat_once(base_url: str, token: str, served_name: str, ca_file: str | None = None) -> Check:
    """Give the one check that a host whose manifest holds must still pass: a short chat through the gateway."""
    return _without(token, endpoint.chat(Gateway(base_url, token, ca_file), "openai", served_name))


def _endpoint(subject: Subject) -> Iterator[Check]:
    gateway = Gateway(subject.base_url, subject.token, subject.ca_file)
    return endpoint.checks(gateway, subject.token, subject.deployment.served_name)


def _tools(subject: Subject) -> Iterator[Check]:
    gateway = Gateway(subject.base_url, subject.token, subject.ca_file)
    return tools.checks(gateway, subject.deployment.served_name)


def _listeners(subject: Subject) -> Iterator[Check]:
    yield listeners.list_check(subject.manifest, subject.reading)
    yield listeners.runtime_check(subject.reading, subject.runtime_port)


def _told(check: Check, subject: Subject, progress: Progress) -> Check:
    clean = _without(subject.token, check)
    if clean.result == "passed":
        progress(Event("verify", clean.name, host=subject.host.name, state="ok"))
    else:
        progress(Event("verify", f"{clean.name}: {clean.detail}", host=subject.host.name, state="failed"))
    return clean


def _without(token: str, check: Check) -> Check:
    """Take the token out of a detail, cut short or whole: a server may send back what it was sent."""
    detail = check.detail
    for secret in (token, token[:-1]):
        detail = detail.replace(secret, "…") if secret else detail
    return check.model_copy(update={"detail": detail})
