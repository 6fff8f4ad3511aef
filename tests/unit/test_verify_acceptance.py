"""All areas together: cheap ones first, nothing spent on what does not answer, every check not tried named."""

from __future__ import annotations

import itertools
import json
import re
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.loader import load, profile
from orchestrator.inventory import Host
from orchestrator.manifest import Manifest
from orchestrator.plan import plan
from orchestrator.snapshot import HostSnapshot
from orchestrator.verify import AGAIN_NAMES, Subject, again, context, run, tools
from tests.unit.chat_stand_in import scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.progress import Event

CATALOG = load()
SNAPSHOT = Path(__file__).parents[1] / "fixtures/snapshots/debian12_4cpu_16gib_no_gpu.json"
DEPLOYMENT = plan(HostSnapshot.from_json(SNAPSHOT.read_bytes()), profile(CATALOG, "cpu"), CATALOG)
CONTEXT_NAMES = context.Promise.of(DEPLOYMENT).names


def subject(base_url: str) -> Subject:
    manifest = Manifest(host="one", release="r", deployment_id="d", lock_digest="l")
    return Subject(
        host=Host(name="one", lab=True),
        deployment=DEPLOYMENT,
        manifest=manifest,
        reading=None,
        base_url=base_url,
        token="a-token-of-the-test",
    )


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


def test_where_nothing_answers_what_costs_is_skipped_by_name_with_the_reason() -> None:
    told: list[Event] = []
    with nobody() as url:
        found = run(subject(url), ["endpoint", "tools", "context"], told.append)
    skipped = {check.name: check.detail for check in found if check.result == "skipped"}
    assert set(skipped) == {*tools.NAMES, *CONTEXT_NAMES}
    assert set(skipped.values()) == {"the endpoint does not answer: chat, OpenAI form"}
    assert not [check for check in found if check.result == "passed"]
    assert len(told) == len(found)
    assert any("not tried: the endpoint does not answer" in event.text for event in told)


def test_an_area_that_is_asked_for_alone_is_tried() -> None:
    with nobody() as url:
        found = {check.name: check for check in run(subject(url), ["context"], lambda _: None)}
    assert tuple(found) == CONTEXT_NAMES
    assert found[CONTEXT_NAMES[0]].result == "failed"
    assert "no connection to" in found[CONTEXT_NAMES[0]].detail


def speaking() -> Any:
    """A stand-in that chats, calls the tool that it is offered, and answers its result."""
    ids = itertools.count()

    def answer(_: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | list[str]:
        usage = {"prompt_tokens": 9, "completion_tokens": 4}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "ready"}
            return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        word = re.search(r"'(\w+)'", body["messages"][0]["content"])
        assert word
        function = {"name": "save_word", "arguments": json.dumps({"word": word[1]})}
        call = {"index": 0, "id": f"call-{next(ids)}", "function": function}
        back = len(body["messages"]) > 1
        delta: dict[str, Any] = {"content": "It is saved."} if back else {"tool_calls": [call]}
        choice = {"delta": delta, "finish_reason": "stop" if back else "tool_calls"}
        return [f"data: {json.dumps({'choices': [choice]})}", "data: [DONE]"]

    return answer


def test_after_a_restart_the_seconds_until_it_answered_are_held_against_what_a_start_may_take() -> None:
    with scripted(speaking()) as url:
        served, called = again(subject(url), 3.5, 120.0, lambda _: None)
        late, _ = again(subject(url), 130.0, 120.0, lambda _: None)
    assert (served.name, called.name) == AGAIN_NAMES
    assert (served.result, called.result) == ("passed", "passed")
    assert served.figure is not None
    assert served.figure >= 3.5
    assert (served.unit, served.limit) == ("s", 120.0)
    assert late.result == "failed"
    assert "it took 130 s, and 120 s is what it may take" in late.detail


def test_what_does_not_answer_after_a_restart_is_red() -> None:
    with nobody() as url:
        assert [check.result for check in again(subject(url), 1.0, 120.0, lambda _: None)] == ["failed", "failed"]
