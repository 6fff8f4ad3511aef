"""Our own machine, asked through the same commands as every other, and a manifest held against a folder of it."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from orchestrator.detect import Question, ask, read_local
from orchestrator.detect.readings import commands, parse_reading
from orchestrator.detect.script import Output
from orchestrator.errors import ProbeGarbled
from orchestrator.inventory import LOCAL, Host
from orchestrator.manifest import (
    FileItem,
    GroupItem,
    LinkItem,
    Manifest,
    PackageItem,
    TreeItem,
    UnitItem,
    UserItem,
    compare,
)

if TYPE_CHECKING:
    from pathlib import Path


def manifest(folder: Path) -> Manifest:
    """A manifest of files in a folder, whose names a shell could stumble over."""
    owner = pwd.getpwuid(os.getuid()).pw_name
    names = ("plain", "a name", "it's", "$(touch gone)", "-n", "ü")
    files = []
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
        (folder / name).chmod(0o640)
        group = (folder / name).group()
        digest = sha256(name.encode()).hexdigest()
        files.append(FileItem(path=str(folder / name), mode="0640", owner=owner, group=group, sha256=digest))
    (folder / "link").symlink_to("no where")
    return Manifest(
        host="localhost",
        release="r",
        deployment_id="d",
        lock_digest="sha256:0",
        files=tuple(files),
        links=(LinkItem(path=str(folder / "link"), target="no where"),),
        users=(owner,),
    )


def test_this_machine_is_read_without_a_problem_of_ours() -> None:
    snapshot = read_local("here")
    assert snapshot.name == "here"
    assert snapshot.ram_mib > 256
    assert snapshot.cpus >= 1
    assert not [one for one in snapshot.problems if one.kind == ProbeGarbled.kind]


def test_a_snapshot_loses_nothing_to_what_else_is_asked() -> None:
    """The folder's own disk use once took the name, and so the answer, of the probe that reads what is free."""
    answer = ask([Question(host=LOCAL, disk=True, journal=True)])["localhost"]
    assert answer.snapshot
    assert answer.snapshot.disk_free_mib
    assert not [one for one in answer.snapshot.problems if one.kind == ProbeGarbled.kind]


def test_a_local_host_answers_both_questions_at_once(tmp_path: Path) -> None:
    wanted = manifest(tmp_path)
    answer = ask([Question(host=LOCAL, snapshot=True, manifest=wanted)])["localhost"]
    assert answer.error is None
    assert answer.snapshot
    assert answer.reading
    allowed = wanted.model_copy(
        update={"before": wanted.before.model_copy(update={"listeners": answer.reading.listeners})}
    )
    assert compare(allowed, answer.reading) == ()
    assert not (tmp_path / "gone").exists()


def test_what_is_absent_is_absent_from_the_reading(tmp_path: Path) -> None:
    wanted = manifest(tmp_path)
    for file in wanted.files:
        (tmp_path / file.path).unlink()
    (tmp_path / "link").unlink()
    (tmp_path / "plain").mkdir()
    missing = wanted.model_copy(
        update={
            "trees": (TreeItem(path=str(tmp_path / "tree"), key="k", digest="d"),),
            "packages": (PackageItem(name="surely-no-such-package", version="1"),),
            "units": (UnitItem(name="surely-no-such.service", enabled=True, active=True),),
            "users": ("surely-nobody",),
            "tables": ("inet surely-none",),
        }
    )
    reading = ask([Question(host=LOCAL, snapshot=False, manifest=missing)])["localhost"].reading
    assert reading
    found = reading.model_dump(exclude={"listeners"})
    assert not any(found.values()), found


def test_a_unit_is_read_from_systemds_blocks(tmp_path: Path) -> None:
    names = ("on.service", "off.service", "unknown.service")
    wanted = manifest(tmp_path).model_copy(
        update={
            "units": tuple(UnitItem(name=name, enabled=True, active=True) for name in names),
            "files": (),
            "links": (),
            "users": (),
        }
    )
    states = (("active", "enabled"), ("failed", "linked"), ("inactive", ""))
    said = "\n".join(f"ActiveState={active}\nUnitFileState={file}\n" for active, file in states)
    beside = "on.service /etc/systemd/system/on.service.d/x y.conf\nother.service /etc/systemd/z.conf\n"
    outputs = {"units": Output(said), "sockets": Output("table tcp\n"), "holders": Output("")}
    drop_ins = ("/etc/systemd/system/on.service.d/x y.conf",)
    assert parse_reading(wanted, outputs | {"drop-ins": Output(beside)}).units == (
        UnitItem(name="on.service", enabled=True, active=True, drop_ins=drop_ins),
        UnitItem(name="off.service", enabled=False, active=False),
    )


def test_an_owner_may_have_blanks_and_quotes_in_his_name(tmp_path: Path) -> None:
    wanted = manifest(tmp_path).model_copy(update={"links": (), "users": ()})
    owner, path = "Jürgen \"O'B $x`", wanted.files[0].path
    outputs = {
        "files": Output(f"400:{owner}:root:{path}\0"),
        "digests": Output(f"{'a' * 64} *{path}\0"),
        "sockets": Output("table tcp\n"),
        "holders": Output(""),
    }
    (found,) = parse_reading(wanted, outputs).files
    assert (found.owner, found.group, found.mode, found.path) == (owner, "root", "0400", path)


def test_a_reading_without_its_sockets_is_no_reading(tmp_path: Path) -> None:
    with pytest.raises(ProbeGarbled):
        parse_reading(manifest(tmp_path), {})


def test_a_child_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    answer = ask([Question(host=Host(name="far", address="192.0.2.1"))])["far"]
    assert answer.error
    assert answer.error["where"] == "far"
    assert "\n" not in answer.error["what"]


def test_the_child_process_alone_has_gevent() -> None:
    assert not {"gevent", "pyinfra"} & set(sys.modules)


def test_an_account_is_read_with_all_its_groups(tmp_path: Path) -> None:
    update = {"files": (), "links": (), "users": ("ours", "none"), "groups": ("ours", "none")}
    wanted = manifest(tmp_path).model_copy(update=update)
    outputs = {
        "users": Output("ours:x:990:990::/nonexistent:/bin/bash\n"),
        "groups": Output("ours:x:990:alice\n"),
        "members": Output("root:x:0:\nours:x:990:alice\ndocker:x:99:bob,ours\n"),
        "sockets": Output("table tcp\n"),
        "holders": Output(""),
    }
    reading = parse_reading(wanted, outputs)
    assert (reading.users, reading.groups) == (("ours",), ("ours",))
    account = UserItem(name="ours", group="ours", groups=("docker",), home="/nonexistent", shell="/bin/bash")  # noqa: S604 - no process is started
    assert reading.accounts == (account,)
    assert reading.memberships == (GroupItem(name="ours", members=("alice",)),)


def test_files_beside_a_unit_are_found_wherever_systemd_looks(tmp_path: Path) -> None:
    unit = UnitItem(name="agentrig-runtime.service", enabled=True, active=True)
    command = commands(manifest(tmp_path).model_copy(update={"units": (unit,)}))["drop-ins"]
    ours = ("etc/systemd/system/agentrig-runtime.service.d", "run/systemd/system.control/agentrig-.service.d")
    others = ("etc/systemd/system/service.d", "etc/systemd/system/agentrig-gateway.service.d")
    for folder in (*ours, *others):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.conf").write_text("")
        (tmp_path / folder / "x.conf.bak").write_text("")
    for root in ("/etc/", "/run/", "/usr/"):
        command = command.replace(f" {root}", f" {tmp_path}{root}")
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert sorted(said.splitlines()) == sorted(f"{unit.name} {tmp_path}/{folder}/x.conf" for folder in ours)
