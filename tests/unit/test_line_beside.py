"""What lives on a host already: refused by name where it is in the way, told where it matters, never more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.errors import ApplyError, UsageError
from orchestrator.inventory import Host
from orchestrator.line.beside import notes, refuse_silent_endpoint, refuse_taken_ports, to_allow
from orchestrator.line.planning import Pretended, Wishes, plan_for
from orchestrator.line.ports import Way
from orchestrator.line.up import up
from orchestrator.line.values import Wish
from orchestrator.progress import silent
from orchestrator.rendered import Rendered
from orchestrator.snapshot import HostSnapshot, Listener, RunningEndpoint
from orchestrator.state import State
from tests.unit.lock_stand_ins import deployment, snapshot
from tests.unit.test_line_up import CATALOG, Rooms

if TYPE_CHECKING:
    from orchestrator.line.values import Outcome
    from orchestrator.profile import Profile

HOST = Host(name="one")
OURS = Rendered(
    deployment_digest="0",
    files=(),
    listeners=(
        Listener(protocol="tcp", address="127.0.0.1", port=18080),
        Listener(protocol="tcp", address="127.0.0.1", port=8080),
    ),
)


def deployed(**changes: Any) -> Any:
    return deployment("large", "FP8", "vllm").model_copy(update=changes)


@pytest.mark.parametrize(
    ("port", "program", "what", "do"),
    [
        (8080, "nginx", "port 8080 is taken by nginx (192.0.2.9)", "gateway.port"),
        (18080, "python3", "port 18080 is taken by python3 (192.0.2.9)", "runtime.port"),
        (8080, "", "port 8080 is taken by another program (192.0.2.9)", "gateway.port"),
    ],
)
def test_a_taken_port_names_whose_it_is_and_what_to_set(port: int, program: str, what: str, do: str) -> None:
    there = snapshot(listeners=(Listener(protocol="tcp", address="192.0.2.9", port=port, program=program),))
    with pytest.raises(ApplyError) as refused:
        refuse_taken_ports(HOST, there, OURS, deployed())
    assert refused.value.what == what
    assert do in refused.value.do


def test_other_ports_and_other_protocols_are_in_nobody_s_way() -> None:
    there = snapshot(
        listeners=(
            Listener(protocol="tcp", address="192.0.2.9", port=80, program="nginx"),
            Listener(protocol="udp", address="192.0.2.9", port=8080, program="other"),
        )
    )
    refuse_taken_ports(HOST, there, OURS, deployed())


@pytest.mark.parametrize(
    ("url", "port", "silent"),
    [
        ("http://127.0.0.1:8000", 8000, True),
        ("http://127.0.0.1:22", 22, False),
        ("https://llm.example:8443", 8443, False),
        (None, 18080, False),
    ],
)
def test_an_endpoint_of_the_host_itself_must_listen(url: str | None, port: int, silent: bool) -> None:  # noqa: FBT001
    there = snapshot(listeners=(Listener(protocol="tcp", address="192.0.2.9", port=22, program="sshd"),))
    wanted = deployed(runtime="external", runtime_url=url, runtime_port=port)
    if silent:
        with pytest.raises(ApplyError, match="nothing answers at http://127"):
            refuse_silent_endpoint(HOST, there, wanted)
    else:
        refuse_silent_endpoint(HOST, there, wanted)


@pytest.mark.parametrize(
    ("firewalls", "address", "told"),
    [
        (("ufw", "nft inet filter"), "127.0.0.1", ()),
        (("ufw", "nft inet filter"), "192.0.2.1", ("ufw allow 8443/tcp",)),
        (("firewalld",), "192.0.2.9", ("--add-port=8443/tcp",)),
        (("nft inet filter",), "192.0.2.1", ("nft tables filter there (inet filter)",)),
        ((), "192.0.2.1", ()),
    ],
)
def test_what_a_person_has_to_allow_is_told_where_the_gateway_is_for_others(
    firewalls: tuple[str, ...], address: str, told: tuple[str, ...]
) -> None:
    found = to_allow(snapshot(firewalls=firewalls), deployed(gateway_address=address, gateway_port=8443))
    assert len(found) == len(told)
    assert all(part in sentence for part, sentence in zip(told, found, strict=True))


def test_an_endpoint_is_offered_to_whom_does_not_use_it() -> None:
    there = snapshot(endpoints=(RunningEndpoint(url="http://127.0.0.1:11434", kind="ollama", llms=("a",)),))
    assert ["deploy up --profile external" in one for one in notes(there, deployed())] == [True]
    assert list(notes(there, deployed(runtime="external", runtime_url="http://127.0.0.1:11434"))) == []


CARDS = HostSnapshot.from_json(
    (Path(__file__).parents[1] / "fixtures/snapshots/debian12_16cpu_64gib_2x_rtx3090.json").read_bytes()
).model_copy(update={"name": "one", "disk_free_mib": 500 << 10})
OLLAMA = RunningEndpoint(url="http://127.0.0.1:11434", kind="ollama", llms=("a",), context_tokens=4096)


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    return Rooms(State(tmp_path), {"one": CARDS})


def wanting(rooms: Rooms, wanted: Profile, *, lab: bool = False) -> Outcome:
    """Bring one host up with a profile."""
    return up({"one": (Host(name="one", lab=lab), wanted)}, Wish(Path("l"), lab=lab), Way(rooms.ports, silent))


def test_a_large_download_for_a_real_host_is_asked_about_before_it_begins(rooms: Rooms) -> None:
    large = CATALOG.profiles["dual-3090"].model_copy(update={"agents": ()})
    rooms.yes = False
    with pytest.raises(UsageError, match="nothing was fetched"):
        wanting(rooms, large)
    (asked,) = rooms.to_fetch
    assert asked.fetch > 10 << 30
    assert (asked.free, asked.short) == (500 << 30, 0)
    assert not rooms.did["resolve"]


def test_a_small_download_and_a_rehearsal_are_not_asked_about(rooms: Rooms) -> None:
    rooms.snapshots["one"] = CARDS.model_copy(update={"gpus": ()})
    assert wanting(rooms, CATALOG.profiles["cpu"]).exit_code == 0
    rooms.snapshots["one"] = CARDS
    wanting(rooms, CATALOG.profiles["dual-3090"].model_copy(update={"agents": ()}), lab=True)
    assert not rooms.did["confirm_fetch"]


def front() -> Profile:
    return CATALOG.profiles["external"].model_copy(update={"agents": ()})


def test_an_endpoint_of_the_host_needs_no_fetch_and_its_missing_form_is_told(rooms: Rooms) -> None:
    there = (Listener(protocol="tcp", address="127.0.0.1", port=11434, program="ollama"),)
    rooms.snapshots["one"] = CARDS.model_copy(update={"endpoints": (OLLAMA,), "listeners": there})
    (host,) = wanting(rooms, front()).hosts
    assert (host.result, rooms.did["confirm_fetch"]) == ("changed", 0)
    assert host.endpoint is not None
    assert host.endpoint.anthropic is None
    assert [note for note in host.notes if "Anthropic wire form is not served" in note]


def test_plan_offers_what_answers_on_this_machine_and_tells_its_size() -> None:
    here = CARDS.model_copy(update={"endpoints": (OLLAMA,)})
    (planned,) = plan_for(("dual-3090",), Pretended(), Wishes(), CATALOG, here)
    assert any("http://127.0.0.1:11434" in line for line in planned.lines())
    assert any("of weights to fetch" in line and "500.0 GiB free" in line for line in planned.lines())
    document = planned.document()
    assert (len(document["offers"]), document["sizes"]["fetch"] > 0) == (1, True)
    (pretended,) = plan_for(("dual-3090",), Pretended(gpus=("RTX 3090",) * 2), Wishes(), CATALOG, here)
    assert pretended.document()["offers"] == []
