"""Every change by hand in what a manifest declares is named; one ``up`` mends all of them, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.lab.rig import Rig

#: The session's host with a small window, as ``test_line_up`` has it.
UP, HOST = ("up", "--lab", "--profile", "small"), "lab-small"
LIMIT = ("--lab", "--limit", HOST)
CURRENT, STORE = "/opt/agentrig/current", "/opt/agentrig/store"
GATEWAY, RUNTIME = "agentrig-gateway", "agentrig-runtime"
ETC = "/etc/systemd/system"


class Break(NamedTuple):
    """One thing done by hand, and what is said of it: the kind, a part of the name, a part of what was found."""

    damage: str
    kind: str
    name: str
    found: str


#: Independent of each other, so that they are looked at together: each must be named, and nothing else may be.
FIRST = (
    Break(f"echo '# x' >> {CURRENT}/gateway/nginx.conf", "file", "gateway/nginx.conf", "content "),
    Break(f"chmod 0666 {CURRENT}/deployment.json", "file", "deployment.json", "mode 0666"),
    Break(f"chown daemon {CURRENT}/units/{RUNTIME}.service", "file", f"units/{RUNTIME}", "owner daemon:root"),
    Break(f"chgrp adm {CURRENT}/units/{GATEWAY}.service", "file", f"units/{GATEWAY}", "owner root:adm"),
    Break(f"rm {CURRENT}/runtime/chat-template.jinja", "file", "chat-template.jinja", "absent"),
    Break(f"echo x >> {STORE}/{{runtime}}/pyvenv.cfg", "tree", "{runtime}", "content "),
    Break(f"ln -sfn /nowhere {CURRENT}/artefacts/llm", "link", "artefacts/llm", "-> /nowhere"),
    Break("apt-mark unhold nginx", "hold", "nginx", "not held"),
    Break(
        "sed -i '/^Package: nginx-common$/,/^$/s/^Version: .*/Version: 0.1-1/' /var/lib/dpkg/status",
        "package", "nginx-common", "0.1-1",
    ),
    Break("dpkg --force-depends --purge python3-pip-whl", "package", "python3-pip-whl", "not installed"),
    Break(f"usermod --shell /bin/bash {RUNTIME}", "user", RUNTIME, "shell /bin/bash"),
    Break(f"usermod --append --groups adm {RUNTIME}", "user", RUNTIME, "groups adm"),
    Break(f"gpasswd --add daemon {GATEWAY}", "group", GATEWAY, "daemon is in it too"),
    Break(
        f"mkdir {ETC}/{RUNTIME}.service.d && printf '[Service]\\nNice=1\\n' > {ETC}/{RUNTIME}.service.d/nice.conf",
        "unit", RUNTIME, f"{ETC}/{RUNTIME}.service.d/nice.conf",
    ),
    Break(
        "systemd-run --unit=stranger --property=Type=exec python3 -m http.server 8099;"
        " for i in $(seq 50); do grep -q ':1FA3 ' /proc/net/tcp && break; sleep 0.1; done",
        "listener", ":8099", "listening (python3)",
    ),
)  # fmt: skip
DISABLED = f"rm {ETC}/multi-user.target.wants/{GATEWAY}.service; systemctl daemon-reload"
#: Of the same things as above in another way, or in the way of it.
SECOND = (
    Break(f"chmod 0600 {STORE}/{{llm}}/*", "tree", "{llm}", "content "),
    Break(f"usermod --gid adm {RUNTIME}", "user", RUNTIME, "group adm"),
    Break(DISABLED, "link", f"wants/{GATEWAY}", "absent"),
    Break(DISABLED, "unit", GATEWAY, "disabled, active"),
)
#: Each takes more than one thing along.
THIRD = (
    Break(f"systemctl stop {RUNTIME} {GATEWAY}", "unit", RUNTIME, "inactive"),
    Break(f"systemctl stop {RUNTIME} {GATEWAY}", "listener", ":18080", "not listening"),
    Break(
        f"ln -sfn /dev/null {ETC}/{GATEWAY}.service; systemctl daemon-reload", "link", f"{ETC}/{GATEWAY}", "/dev/null"
    ),
    Break(f"ln -sfn /dev/null {ETC}/{GATEWAY}.service; systemctl daemon-reload", "unit", GATEWAY, "disabled, inactive"),
    Break(f"usermod --home /tmp {RUNTIME}", "user", RUNTIME, "home /tmp"),
    Break(f"userdel {GATEWAY}; groupdel {GATEWAY}", "user", GATEWAY, "absent"),
    Break(f"userdel {GATEWAY}; groupdel {GATEWAY}", "group", GATEWAY, "absent"),
)

#: What the one ``up`` says that it did, each in the words of the task that did it: all of these and nothing else.
MENDED = (
    rf"^make (group|user) {GATEWAY}$",
    rf"^take user {RUNTIME} out of all other groups$",
    rf"^give user {RUNTIME} his own group$",
    rf"^take the (shell|home) of user {RUNTIME}$",
    r"^carry \d+ parts, \d+ bytes$",
    r"^(put an archive of \d+ packages|install nginx-common \S+, python3-pip-whl \S+)$",
    r"^hold .*nginx.*$",
    r"^build (llama|xllamacpp|smollm)",
    r"^start the units anew$",
    rf"^write \S+/(deployment.json|nginx.conf|tokens.conf|chat-template.jinja|{RUNTIME}.service|{GATEWAY}.service)$",
    r"^link \S+/artefacts/llm$",
    rf"^remove \S+/{RUNTIME}.service.d/nice.conf$",
    rf"^link \S+/{GATEWAY}.service$",
    rf"^start ({RUNTIME}|{GATEWAY}).service$",
)


@pytest.fixture(scope="module")
def trees(rig: Rig) -> dict[str, str]:
    """The host, up and clean; the keys of its artefacts by their links."""
    rig.small()
    (host,) = rig.document(*UP)["hosts"]
    assert host["error"] is None
    assert drift(rig, code=0) == []
    links = rig.read(HOST, f"cd {CURRENT}/artefacts && for name in *; do echo $name $(readlink $name); done")
    return {name: target.rsplit("/", 1)[-1] for name, target in (line.split() for line in links.splitlines())}


def drift(rig: Rig, code: int = 4) -> list[dict[str, Any]]:
    (host,) = rig.document("status", *LIMIT, "--check", code=code)["hosts"]
    return list(host["drift"])


def is_of(row: dict[str, Any], one: Break, trees: dict[str, str]) -> bool:
    name = one.name.format(**trees) if "{" in one.name else one.name
    return row["kind"] == one.kind and name in row["name"] and one.found in row["found"]


def test_every_change_is_named_and_one_up_mends_just_that(rig: Rig, trees: dict[str, str]) -> None:
    for breaks in (FIRST, SECOND, THIRD):
        for damage in dict.fromkeys(one.damage for one in breaks):
            named = damage
            for name, key in trees.items():
                named = named.replace(f"{{{name}}}", key)
            rig.read(HOST, named)
        rows = drift(rig)
        assert [one for one in breaks if not any(is_of(row, one, trees) for row in rows)] == [], rows
        if breaks is FIRST:
            assert [row for row in rows if not any(is_of(row, one, trees) for one in breaks)] == []
    rig.read(HOST, "systemctl stop stranger")
    (mended,) = rig.document(*UP)["hosts"]
    assert mended["error"] is None, mended
    assert [said for said in mended["changes"] if not any(re.search(one, said) for one in MENDED)] == []
    assert [one for one in MENDED if not any(re.search(one, said) for said in mended["changes"])] == []
    assert drift(rig, code=0) == []
