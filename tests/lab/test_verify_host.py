"""The host specs on a throwaway host over SSH: a layout that holds, and each way in which it may not."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from orchestrator.lab.hosts import Lab, LabHost, as_host
from orchestrator.manifest import FileItem, LinkItem, Manifest, UnitItem
from orchestrator.verify import host_specs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.evidence import Check

pytestmark = pytest.mark.lab

RELEASE = "00112233aabbccdd"
RUNTIME, GATEWAY = "agentrig-runtime.service", "agentrig-gateway.service"
SANDBOXES = "agentrig-sandbox.service"

# Stand-ins for the three services: they sleep. What is tried here are the specs, not the roles.
LAY_OUT = f"""
set -eu
mkdir -p /opt/agentrig/releases/{RELEASE}/units /opt/agentrig/store
ln -sfn releases/{RELEASE} /opt/agentrig/current
for name in runtime gateway; do
  id "agentrig-$name" >/dev/null 2>&1 ||
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "agentrig-$name"
  cat > "/opt/agentrig/releases/{RELEASE}/units/agentrig-$name.service" <<UNIT
[Service]
User=agentrig-$name
NoNewPrivileges=yes
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT
  unit=agentrig-$name.service
  ln -sfn "/opt/agentrig/current/units/$unit" "/etc/systemd/system/$unit"
  ln -sfn "/etc/systemd/system/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
done
cat > "/opt/agentrig/releases/{RELEASE}/units/{SANDBOXES}" <<UNIT
[Service]
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT
ln -sfn "/opt/agentrig/current/units/{SANDBOXES}" "/etc/systemd/system/{SANDBOXES}"
ln -sfn "/etc/systemd/system/{SANDBOXES}" "/etc/systemd/system/multi-user.target.wants/{SANDBOXES}"
printf secret > "/opt/agentrig/releases/{RELEASE}/a file"
chown root:agentrig-gateway "/opt/agentrig/releases/{RELEASE}/a file"
chmod 0640 "/opt/agentrig/releases/{RELEASE}/a file"
systemctl daemon-reload
systemctl restart agentrig-runtime agentrig-gateway agentrig-sandbox
"""

MANIFEST = Manifest(
    host="h1",
    release=RELEASE,
    deployment_id="d",
    lock_digest="l",
    files=(
        FileItem(
            path=f"/opt/agentrig/releases/{RELEASE}/a file",
            mode="0640",
            owner="root",
            group="agentrig-gateway",
            sha256="0" * 64,
        ),
    ),
    links=(
        LinkItem(path=f"/etc/systemd/system/{RUNTIME}", target=f"/opt/agentrig/current/units/{RUNTIME}"),
        LinkItem(
            path=f"/etc/systemd/system/multi-user.target.wants/{RUNTIME}",
            target=f"/etc/systemd/system/{RUNTIME}",
        ),
    ),
    units=tuple(UnitItem(name=name, enabled=True, active=True) for name in (RUNTIME, GATEWAY, SANDBOXES)),
    users=("agentrig-runtime", "agentrig-gateway"),
    groups=("agentrig-runtime", "agentrig-gateway"),
)

UNITS = "units are enabled and active as declared"
PROCESSES = "each service runs as its own user, can gain no privilege and holds no capability"
ROOTS = "a service of root's can gain no privilege and holds the declared capabilities alone"
FILES = "files have their declared mode, owner and group"
LINKS = "links point where they are declared to"
CURRENT = "the current release is the declared one"
SETUID = "no file of ours runs as its owner or group"
WRITABLE = "nothing of ours can be written by everybody"
USERS = "service users exist and cannot log in"
PASSWORDS = "service users have no password"
GROUPS = "service groups exist"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield lab.up({"h1": "debian-12"})[0]
    finally:
        lab.down()


def on(host: LabHost, script: str) -> None:
    subprocess.run([*host.ssh(), "sh -s"], input=script, text=True, check=True, capture_output=True)


def changed(directive: str, unit: str = RUNTIME) -> str:
    folder = f"/run/systemd/system/{unit}.d"
    return (
        f"mkdir -p {folder}; printf '[Service]\\n{directive}\\n' > {folder}/x.conf; "
        f"systemctl daemon-reload; systemctl restart {unit}"
    )


UNDO_CHANGE = f"rm -r /run/systemd/system/{RUNTIME}.d"
UNDO_ROOTS = f"rm -r /run/systemd/system/{SANDBOXES}.d"


def red(found: tuple[Check, ...]) -> dict[str, str]:
    return {check.name: check.detail for check in found if check.result == "failed"}


def test_a_layout_that_holds_passes_every_spec(made: LabHost) -> None:
    on(made, LAY_OUT)
    found = host_specs.checks(as_host(made), MANIFEST)
    assert red(found) == {}
    expected = {UNITS, PROCESSES, ROOTS, FILES, LINKS, CURRENT, SETUID, WRITABLE, USERS, PASSWORDS, GROUPS}
    assert {check.name for check in found} == expected
    assert {check.area for check in found} == {"host"}
    assert next((check.figure, check.unit) for check in found if check.name == UNITS) == (3, "units")


@pytest.mark.parametrize(
    ("damage", "repair", "expected", "words"),
    [
        (f"systemctl stop {GATEWAY}", "true", {UNITS, PROCESSES}, f"{GATEWAY} is inactive"),
        (f"rm /etc/systemd/system/multi-user.target.wants/{GATEWAY}", "true", {UNITS}, f"{GATEWAY} is "),
        (changed("User=nobody"), UNDO_CHANGE, {PROCESSES}, "not as agentrig-runtime"),
        (changed("NoNewPrivileges=no"), UNDO_CHANGE, {PROCESSES}, "may gain privileges"),
        (changed("AmbientCapabilities=CAP_NET_RAW"), UNDO_CHANGE, {PROCESSES}, "holds capabilities"),
        (changed("NoNewPrivileges=no", SANDBOXES), UNDO_ROOTS, {ROOTS}, f"{SANDBOXES} may gain privileges"),
        (changed("CapabilityBoundingSet=CAP_SYS_MODULE", SANDBOXES), UNDO_ROOTS, {ROOTS}, "holds capabilities"),
        (f"chmod 0644 '/opt/agentrig/releases/{RELEASE}/a file'", "true", {FILES}, "has mode 644, not 0640"),
        (f"chown nobody '/opt/agentrig/releases/{RELEASE}/a file'", "true", {FILES}, "belongs to nobody:"),
        (f"rm '/opt/agentrig/releases/{RELEASE}/a file'", "true", {FILES}, "is not there"),
        (f"ln -sfn /dev/null /etc/systemd/system/multi-user.target.wants/{RUNTIME}", "true", {LINKS}, "to /dev/null"),
        ("ln -sfn store /opt/agentrig/current", "true", {CURRENT, UNITS}, "leads to /opt/agentrig/store"),
        (
            "cp /bin/true /opt/agentrig/store/x; chmod 4755 /opt/agentrig/store/x",
            "rm /opt/agentrig/store/x",
            {SETUID},
            "/x",
        ),
        ("touch /opt/agentrig/store/x; chmod 0666 /opt/agentrig/store/x", "rm /opt/agentrig/store/x", {WRITABLE}, "/x"),
        ("usermod -s /bin/sh agentrig-gateway", "usermod -s /usr/sbin/nologin agentrig-gateway", {USERS}, "/bin/sh"),
        ("usermod -p x agentrig-gateway", "usermod -p '!' agentrig-gateway", {PASSWORDS}, "agentrig-gateway has a"),
    ],
)
def test_each_damage_turns_its_own_specs_red(
    made: LabHost, damage: str, repair: str, expected: set[str], words: str
) -> None:
    on(made, LAY_OUT)
    on(made, damage)
    try:
        found = red(host_specs.checks(as_host(made), MANIFEST))
    finally:
        on(made, repair)
    assert set(found) == expected
    assert any(words in detail for detail in found.values())


def test_a_user_and_a_group_that_are_not_there(made: LabHost) -> None:
    on(made, LAY_OUT)
    more = MANIFEST.model_copy(
        update={"users": (*MANIFEST.users, "agentrig-x"), "groups": (*MANIFEST.groups, "agentrig-x")}
    )
    found = red(host_specs.checks(as_host(made), more))
    assert set(found) == {USERS, PASSWORDS, GROUPS}


def shared_connections() -> set[str]:
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {line for line in listed.splitlines() if "/agentrig-" in line and "[mux]" in line}


def test_no_connection_is_left(made: LabHost) -> None:
    on(made, LAY_OUT)
    before = shared_connections()
    host_specs.checks(as_host(made), MANIFEST)
    assert shared_connections() <= before
