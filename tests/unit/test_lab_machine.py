"""What the lab reads of this machine, and what it remembers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import Lab, client
from orchestrator.lab.cgroups import parse_mountinfo
from orchestrator.lab.commands import need
from orchestrator.lab.privileges import parse_capabilities
from orchestrator.lab.record import Kept, Record

HYBRID = """\
24 1 0:22 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/memory rw shared:2 - cgroup cgroup rw,memory
26 24 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
27 24 0:25 / /sys/fs/cgroup/unified rw shared:3 master:1 - cgroup2 cgroup2 rw,nsdelegate
28 1 0:25 / /var/lib/other/cgroup rw - cgroup2 cgroup2 rw
garbled
"""


def test_a_hybrid_machine_has_two_hierarchies_and_a_new_one_has_one() -> None:
    assert parse_mountinfo(HYBRID) == (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
    unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert parse_mountinfo(unified) == (Path("/sys/fs/cgroup"),)
    assert parse_mountinfo("") == ()


def test_capabilities_that_a_plain_container_lacks_are_named() -> None:
    assert parse_capabilities("Name:\tx\nCapEff:\t00000000a80425fb\n") == ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")
    assert parse_capabilities("CapEff:\t000001ffffffffff\n") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's rights")
@pytest.mark.parametrize(
    ("drop", "says"),
    [(["setpriv", "--bounding-set=-sys_admin"], "CAP_SYS_ADMIN"), ([], "sudo")],
)
def test_a_missing_right_is_said_and_nothing_is_made(tmp_path: Path, drop: list[str], says: str) -> None:
    """Without ``setpriv`` the child becomes nobody after its imports, since nobody may not read every checkout."""
    code = (
        "import os, sys; from pathlib import Path; import orchestrator.lab.hosts, orchestrator.lab.privileges\n"
        "from orchestrator.lab import Lab; from orchestrator.errors import *\n"
        f"{'' if drop else 'os.setgroups([]); os.setresuid(65534, 65534, 65534)'}\n"
        "try: Lab(Path(sys.argv[1])).up({'a': 'debian-12'})\n"
        "except PrivilegeError as error: print(error.exit_code, error)"
    )
    root = tmp_path / "lab"
    argv = [*drop, sys.executable, "-c", code, str(root)]
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=repository, check=True)
    assert done.stdout.startswith("2 ")
    assert says in done.stdout
    assert not root.exists()


def test_missing_commands_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(UsageError) as refused:
        need(["debootstrap", "systemd-nspawn", "nsenter", "unshare"])
    assert refused.value.do == "apt-get install debootstrap systemd-container util-linux"


def test_what_is_remembered_comes_back_and_garbage_counts_as_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lab.json"
    kept = Kept("debian-12", 3).with_port(22, 40022).with_port(8080, 48080)
    Record(file).keep("a", kept)
    assert Record(file).hosts == {"a": kept}
    Record(file).forget("a")
    assert Record(file).hosts == {}
    for garbage in ("", "[]", '{"hosts": {"a": 1}}', json.dumps({"hosts": {"a": {"os": "x"}}})):
        file.write_text(garbage)
        assert Record(file).hosts == {}


def test_a_lab_that_never_was_has_no_hosts_and_goes_down(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    assert lab.hosts() == ()
    lab.down()
    assert lab.supervisor() is None
    assert not (tmp_path / "lab").exists()
    with pytest.raises(LabError):
        lab.forward("a", 80)


def test_two_labs_have_two_control_groups(tmp_path: Path) -> None:
    assert client.group_of(tmp_path / "a") != client.group_of(tmp_path / "b")


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a/b", "a" * 60, "host.name"])
def test_a_name_that_no_host_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        Lab(tmp_path / "lab").up({name: "debian-12"})
    assert not (tmp_path / "lab").exists()


def test_a_host_of_another_system_is_refused(tmp_path: Path) -> None:
    Record(tmp_path / "lab.json").keep("a", Kept("debian-13", 1))
    with pytest.raises(UsageError, match="debian-13"):
        Lab(tmp_path).up({"a": "debian-12"})
