"""Every difference between a manifest and a reading is named, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.manifest import (
    Before,
    FileItem,
    GroupItem,
    LinkItem,
    Manifest,
    PackageItem,
    Reading,
    TreeItem,
    UnitItem,
    UserItem,
    compare,
    restore,
)
from orchestrator.snapshot import Listener

A, B = "a" * 64, "b" * 64
FILE = FileItem(path="/opt/x", mode="0640", owner="root", group="ours", sha256=A)
SSH = Listener(protocol="tcp", address="0.0.0.0", port=22)  # noqa: S104 - as a kernel prints it
DOOR = Listener(protocol="tcp", address="127.0.0.1", port=8080)
ACCOUNT = UserItem(name="agentrig-gateway", group="agentrig-gateway", home="/nonexistent", shell="/usr/sbin/nologin")  # noqa: S604 - no process is started
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
    accounts=(ACCOUNT,),
    memberships=(GroupItem(name="agentrig-gateway"),),
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


@pytest.mark.parametrize(
    ("changed", "expected", "found"),
    [
        ({"group": "staff"}, "group agentrig-gateway", "group staff"),
        ({"groups": ("docker", "adm")}, "groups none", "groups adm, docker"),
        ({"home": "/home/x"}, "home /nonexistent", "home /home/x"),
        ({"shell": "/bin/sh"}, "shell /usr/sbin/nologin", "shell /bin/sh"),
    ],
)
def test_an_account_that_became_another_is_named(changed: dict[str, Any], expected: str, found: str) -> None:
    rows = told(accounts=(ACCOUNT.model_copy(update=changed),))
    assert rows == [("user", "agentrig-gateway", expected, found)]


def test_who_was_put_into_a_group_of_ours_is_named() -> None:
    group = GroupItem(name="agentrig-gateway", members=("agentrig-gateway", "mallory"))
    assert told(memberships=(group,)) == [
        ("group", "agentrig-gateway", "only its own user", "mallory is in it too"),
    ]


def test_what_changes_a_unit_from_beside_is_named() -> None:
    unit = MANIFEST.units[0].model_copy(update={"drop_ins": ("/etc/systemd/system/x.d/y.conf",)})
    rows = told(units=(unit,))
    assert rows == [("unit", unit.name, "nothing that changes it", "/etc/systemd/system/x.d/y.conf")]
