"""The sandboxes of this host: their records, folders and tokens, and how each is brought up behind its walls."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import engine
from network import FIRST, LAST, Failed, Network, address_of

STATE = Path("/var/lib/agentrig-sandbox")
CLIENTS = Path("/var/lib/agentrig/gateway/clients")
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?")
#: First of the numbers that the agents' users have, one a sandbox: far from people's, from systemd's and from
#: containers' (systemd.io/UIDS-GIDS: 0x70000000 and above is nobody's).
FIRST_UID = 0x70000000
#: Sandboxes that one person may have at once.
MOST = 16
ACCOUNTS = (
    "root:x:0:0::/root:/usr/sbin/nologin\nagent:x:{uid}:{uid}::{home}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
)
GROUP = "root:x:0:\nagent:x:{uid}:\nnogroup:x:65534:\n"


class Refused(Exception):  # noqa: N818 - an outcome that the caller is told
    """The caller must change something; ``do`` says what."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what)
        self.do = do


class Places:
    """All sandboxes of a host. ``settings`` is the release's own file for them."""

    def __init__(self, settings: dict[str, Any], network: Network) -> None:
        self.settings, self.network = settings, network
        STATE.mkdir(mode=0o711, exist_ok=True)
        CLIENTS.mkdir(parents=True, exist_ok=True)
        CLIENTS.parent.chmod(0o711)
        os.chown(CLIENTS, 0, self.gateway_group)
        CLIENTS.chmod(0o750)  # not with mkdir: the door's own mask takes the group's rights

    @property
    def gateway_group(self) -> int:
        """Give the group by which the gateway reads who its clients are."""
        return pwd.getpwnam(self.settings["gateway_user"]).pw_gid

    def all(self) -> list[dict[str, Any]]:
        """Give every record, in the order of their names."""
        found = []
        for path in sorted(STATE.glob("*/sandbox.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text(encoding="utf-8")))
        return found

    def of(self, caller: int, name: str) -> dict[str, Any]:
        """Give a caller's sandbox; raises ``Refused``: of another's it says the same as of one that is not."""
        record = next((one for one in self.all() if one["owner"] == caller and one["name"] == name), None)
        if record is None:
            raise Refused(f"you have no sandbox {name}", f"make it: deploy sandbox create {name}")
        return record

    def folder(self, record: dict[str, Any]) -> Path:
        """Give where a sandbox's own files lie."""
        return STATE / str(record["id"])

    def create(self, caller: int, name: str) -> dict[str, Any]:
        """Make a sandbox for a caller and bring it up; raises ``Refused``, ``Failed``, and leaves nothing then."""
        if not NAME.fullmatch(name):
            raise Refused(f"{name!r} cannot be a sandbox's name", "take up to 30 small letters, digits and hyphens")
        known = self.all()
        own = [one for one in known if one["owner"] == caller]
        if any(one["name"] == name for one in own):
            raise Refused(f"you have a sandbox {name} already", f"use it, or: deploy sandbox destroy {name}")
        if len(own) >= MOST:
            raise Refused(f"you have {MOST} sandboxes already", "destroy one first")
        taken = {one["index"] for one in known}
        index = next((one for one in range(FIRST, LAST + 1) if one not in taken), None)
        if index is None:
            raise Refused("this host's bridge has no room for another sandbox", "destroy one first")
        record = {
            "id": f"{caller}-{name}",
            "name": name,
            "owner": caller,
            "owner_name": account_of(caller),
            "index": index,
            "uid": FIRST_UID + index,
            "address": address_of(self.network.address, index),
            "container": f"agentrig-{caller}-{name}",
            "client": f"sandbox-{caller}-{name}",
            "created": int(time.time()),
            "release": release(),
            "stopped": "",
        }
        folder = self.folder(record)
        try:
            self._lay_out(record, folder)
            self.up(record)
        except BaseException:
            self.remove(record)
            raise
        return record

    def _lay_out(self, record: dict[str, Any], folder: Path) -> None:
        uid, token = record["uid"], secrets.token_urlsafe(32)
        folder.mkdir(mode=0o700)
        for path in (folder / "work", folder / "work/repository", folder / "work/home"):
            path.mkdir(mode=0o700)
            os.chown(path, uid, uid)
        write(folder / "token", token + "\n", mode=0o400, owner=uid)
        record["token_sha256"] = hashlib.sha256(token.encode()).hexdigest()
        self.admit(record)
        self.keep(record)

    def keep(self, record: dict[str, Any]) -> None:
        """Write a record down."""
        write(self.folder(record) / "sandbox.json", json.dumps(record, indent=2) + "\n", mode=0o600)

    def admit(self, record: dict[str, Any]) -> None:
        """Let a sandbox's token in at the gateway, for so many days from now."""
        about = {
            "name": record["client"],
            "address": record["address"],
            "expires": int(time.time()) + self.settings["token_days"] * 86400,
            "output_tokens": self.settings["output_tokens"],
            "requests_per_minute": None,
        }
        path = CLIENTS / f"{record['token_sha256']}.json"
        write(path, json.dumps(about) + "\n", mode=0o640, group=self.gateway_group)

    def up(self, record: dict[str, Any]) -> None:
        """Bring a sandbox up: walls, container, wire. One that runs by the present release stays; raises ``Failed``."""
        if wrong := self.network.stand():
            raise Failed(f"its walls do not stand: {wrong}")
        found = engine.inspected(record["container"])
        process = engine.process_of(found)
        right = process is not None and record["release"] == release() and not record["stopped"]
        if right and self.network.joined(record["index"]) is None:
            return
        self.network.leave(record["index"])
        folder = self.folder(record)
        record |= {"release": release(), "stopped": ""}
        write(folder / "passwd", ACCOUNTS.format(uid=record["uid"], home=engine.HOME), mode=0o644)
        write(folder / "group", GROUP.format(uid=record["uid"]), mode=0o644)
        copy_of_agents(folder / "agents")
        self.admit(record)
        process = engine.start(record, folder, self.settings["limits"], self.settings["agents"])
        try:
            self.network.join(record["index"], process)
        except Failed:
            engine.docker("kill", record["container"], fine=(0, 1))
            raise
        self.keep(record)

    def stop(self, record: dict[str, Any], why: str) -> None:
        """Stop a sandbox at once, keep its copy, and write down why."""
        engine.docker("kill", record["container"], fine=(0, 1))
        self.network.leave(record["index"])
        record["stopped"] = why
        self.keep(record)

    def remove(self, record: dict[str, Any]) -> None:
        """Take a sandbox away with all that is in it: its token first."""
        if record.get("token_sha256"):
            (CLIENTS / f"{record['token_sha256']}.json").unlink(missing_ok=True)
        engine.docker("rm", "--force", record["container"], fine=(0, 1))
        self.network.leave(record["index"])
        shutil.rmtree(self.folder(record), ignore_errors=True)

    def runs(self, record: dict[str, Any]) -> bool:
        """Tell whether a sandbox's container runs."""
        return engine.process_of(engine.inspected(record["container"])) is not None

    def too_large(self, record: dict[str, Any]) -> str | None:
        """Give how far a sandbox is over its disk, None where it is not."""
        limit = self.settings["limits"]["disk_mib"]
        used = taken_by(self.folder(record) / "work") >> 20
        return f"it takes {used} MiB of disk, {limit} are allowed" if used > limit else None


def copy_of_agents(into: Path) -> None:
    """Copy the present release's settings of agents in sandboxes: a release that is swept takes none away."""
    beside = into.with_name(".agents")
    shutil.rmtree(beside, ignore_errors=True)
    if (settings := engine.CURRENT / "sandbox/agents").is_dir():
        shutil.copytree(settings, beside)
    (beside / "tokens").mkdir(parents=True, exist_ok=True)
    (beside / "tokens/agent").touch()
    for path in (beside, beside / "tokens"):
        path.chmod(0o755)  # the door's own mask lets nobody in
    shutil.rmtree(into, ignore_errors=True)
    beside.rename(into)


def taken_by(folder: Path) -> int:
    """Give the bytes that a folder takes on disk, links not followed."""
    total, rest = 0, [folder]
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            rest.append(Path(entry.path))
        except OSError:
            continue
    return total


def release() -> str:
    """Give the present release's id."""
    return os.path.basename(os.readlink(engine.CURRENT))  # noqa: PTH115, PTH119 - the link's own words


def account_of(uid: int) -> str:
    """Give an account's name, its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def write(path: Path, text: str, *, mode: int, owner: int = 0, group: int = 0) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchown(file.fileno(), owner, group)
        os.fchmod(file.fileno(), mode)
    beside.rename(path)
