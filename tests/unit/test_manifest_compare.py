"""Every difference between a manifest and a reading is named, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.manifest import (
    Before,
    FileItem,
    LinkItem,
    Manifest,
    PackageItem,
    Reading,
    TreeItem,
    UnitItem,
    compare,
    restore,
)
from orchestrator.snapshot import Listener

A, B = "a" * 64, "b" * 64
FILE = FileItem(path="/opt/x", mode="0640", owner="root", group="ours", sha256=A)
SSH = Listener(protocol="tcp", address="0.0.0.0", port=22)  # noqa: S104 - as a kernel prints it
DOOR = Listener(protocol="tcp", address="127.0.0.1", port=8080)
MANIFEST = Manifest(
    host="h1",
    release="r",
    deployment_id="d",
    lock_digest="sha256:0",
    files=(FILE,),
    links=(LinkItem(path="/opt/current", target="releases/r"),),
    trees=(TreeItem(path="/opt/store/k", key="k", digest=A),),
    packages=(PackageItem(name="nginx", version="1.22"),),
    units=(UnitItem(name="agentrig-gateway.service", enabled=True, active=True),),
    users=("agentrig-gateway",),
    groups=("agentrig-gateway",),
    tables=("inet agentrig",),
    listeners=(DOOR,),
    before=Before(listeners=(SSH,)),
)
READING = Reading(**{name: getattr(MANIFEST, name) for name in Reading.model_fields} | {"listeners": (SSH, DOOR)})


def told(**changed: Any) -> list[tuple[str, str, str, str]]:
    drift = compare(MANIFEST, READING.model_copy(update=changed))
    return [(one.kind, one.name, one.expected, one.found) for one in drift]


def test_what_agrees_has_no_drift() -> None:
    assert compare(MANIFEST, READING) == ()
    assert told(listeners=(DOOR,)) == [], "what was there before may go"
    assert told(files=(FILE.model_copy(update={"mode": "640"}),)) == []


def test_an_empty_host_lacks_everything() -> None:
    drift = compare(MANIFEST, Reading())
    assert [one.kind for one in drift] == [
        "file",
        "link",
        "tree",
        "package",
        "unit",
        "user",
        "group",
        "table",
        "listener",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"files": (FILE.model_copy(update={"mode": "0644"}),)}, ("file", "/opt/x", "mode 0640", "mode 0644")),
        (
            {"files": (FILE.model_copy(update={"group": "root"}),)},
            ("file", "/opt/x", "owner root:ours", "owner root:root"),
        ),
        (
            {"files": (FILE.model_copy(update={"sha256": B}),)},
            ("file", "/opt/x", f"content {A[:12]}", f"content {B[:12]}"),
        ),
        (
            {"files": (FILE.model_copy(update={"sha256": ""}),)},
            ("file", "/opt/x", f"content {A[:12]}", "content not known"),
        ),
        (
            {"links": (LinkItem(path="/opt/current", target="releases/q"),)},
            ("link", "/opt/current", "-> releases/r", "-> releases/q"),
        ),
        (
            {"trees": (TreeItem(path="/opt/store/k", key="k", digest=B),)},
            ("tree", "/opt/store/k", f"content {A[:12]}", f"content {B[:12]}"),
        ),
        ({"packages": (PackageItem(name="nginx", version="1.23"),)}, ("package", "nginx", "1.22", "1.23")),
        ({"packages": (PackageItem(name="nginx", version="1.22", held=False),)}, ("hold", "nginx", "held", "not held")),
        (
            {"units": (UnitItem(name="agentrig-gateway.service", enabled=False, active=True),)},
            ("unit", "agentrig-gateway.service", "enabled, active", "disabled, active"),
        ),
        ({"users": ()}, ("user", "agentrig-gateway", "present", "absent")),
        ({"tables": ()}, ("table", "inet agentrig", "present", "absent")),
        ({"listeners": (SSH,)}, ("listener", "tcp 127.0.0.1:8080", "listening", "not listening")),
        (
            {"listeners": (SSH, DOOR, Listener(protocol="udp", address="::", port=53, program="dnsmasq"))},
            ("listener", "udp [::]:53", "not listening", "listening (dnsmasq)"),
        ),
    ],
)
def test_a_difference_is_named_with_what_was_expected_and_found(
    change: dict[str, Any], expected: tuple[str, str, str, str]
) -> None:
    assert told(**change) == [expected]


def test_a_door_on_all_addresses_is_not_the_door_on_one() -> None:
    wide = DOOR.model_copy(update={"address": "0.0.0.0"})  # noqa: S104 - what must not be
    assert [row[0] for row in told(listeners=(wide,))] == ["listener", "listener"]


def test_secrets_are_compared_with_their_placeholders_put_back() -> None:
    filled = READING.model_copy(update={"files": (FILE.model_copy(update={"sha256": B}),)})
    assert compare(MANIFEST, filled)
    assert compare(MANIFEST, restore(filled, {B: A})) == ()
    assert compare(MANIFEST, restore(filled, {A: B})), "another content stays another"
