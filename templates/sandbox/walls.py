#!/usr/bin/python3 -I
"""Pushes at every wall of this host's sandboxes, from inside two that it makes and takes away: a JSON line a probe.

It is root's. Nothing that it sends can leave the host: see ``table`` for the rows, ``inside`` and ``wire`` for the
ways. Exit 0 where every wall held, 1 where one did not or could not be tried.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import engine  # noqa: E402 - they lie beside this file
from door import ALARMS, held  # noqa: E402
from network import Failed, hardware_of, run  # noqa: E402
from places import CLIENTS, FIRST_UID, STATE, write  # noqa: E402
from table import ROWS, Row  # noqa: E402
from wire import Ends, frame_of  # noqa: E402

NAMES = ("walls-one", "walls-two")
LOCK = Path("/run/agentrig-sandbox/walls.lock")
#: Seconds that an ear stays open after the last frame, and that all probes inside may take.
LISTEN_SECONDS, INSIDE_SECONDS = 1.0, 120


class Stage:
    """Two sandboxes, and what the probes are told of them. ``settings`` is the release's own file."""

    def __init__(self, settings: dict[str, Any], *, lab: bool) -> None:
        self.settings, self.lab = settings, lab
        self.one, self.two = (_record(name) for name in NAMES)
        self.container = self.one["container"]

    def run(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Try some rows and give what came of each, in their order."""
        ways = {"wire": self.wire, "held": self.held, "canary": self.canary}
        found: dict[str, dict[str, Any]] = {}
        for way, function in ways.items():
            if mine := [row for row in rows if row.way == way]:
                found |= self._told(function, mine)
        own = [row.name for row in rows if row.way == "tcp" and row.arguments["port"] == self.settings["port"]]
        if mine := [row for row in rows if row.way not in ways and row.name not in own]:
            found |= self._told(self.inside, mine)
        found |= {name: {"result": "skipped", "detail": "it is the gateway's own port"} for name in own}
        return [_about(row) | found.get(row.name, _untried("nothing was heard of it")) for row in rows]

    @staticmethod
    def _told(function: Any, rows: list[Row]) -> dict[str, dict[str, Any]]:
        try:
            return dict(function(rows))
        except (Failed, OSError, ValueError, subprocess.SubprocessError) as error:
            return {row.name: _untried(f"{type(error).__name__}: {error}") for row in rows}

    def inside(self, rows: list[Row]) -> dict[str, dict[str, Any]]:
        """Try rows as the agent, in the first sandbox."""
        asked = {
            "gateway": self.settings["address"],
            "port": self.settings["port"],
            "health": self.settings["health_path"],
            "hostname": engine.HOSTNAME,
            "first_uid": FIRST_UID,
            "limits": self.settings["limits"],
            "seen": [at for _, at, _ in engine.mounts(STATE / self.one["id"], self.settings["agents"])],
            "other": (STATE / self.two["id"] / "token").read_text(encoding="ascii").strip(),
            "rows": [(row.name, row.way, row.arguments) for row in rows],
        }
        with self._ended() as token:
            program = (HERE / "inside.py").read_text(encoding="utf-8")
            words = ["python3", "-I", "-c", program]
            record = self.one | {"container": self.container}
            command = engine.command(record, words, "walls", terminal=False, where=engine.WORK)
            text = json.dumps(asked | {"ended": token})
            done = subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=INSIDE_SECONDS, check=False
            )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode and not told:
            raise Failed(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it said nothing")
        return {each.pop("name"): each for each in told}

    @contextlib.contextmanager
    def _ended(self) -> Iterator[str]:
        """Give a token whose time was over a minute ago."""
        token = secrets.token_urlsafe(32)
        path = CLIENTS / f"{hashlib.sha256(token.encode()).hexdigest()}.json"
        about = json.loads((CLIENTS / f"{self.one['token_sha256']}.json").read_text(encoding="utf-8"))
        write(path, json.dumps(about | {"expires": int(time.time()) - 60}), mode=0o640, group=CLIENTS.stat().st_gid)
        try:
            yield token
        finally:
            path.unlink(missing_ok=True)

    def wire(self, rows: list[Row]) -> dict[str, dict[str, Any]]:
        """Send each row's frame on the first sandbox's wire, and listen at the bridge and in the second sandbox."""
        ends, marks = self.ends(), {row.name: secrets.token_bytes(14) for row in rows}
        proofs = {kind: secrets.token_bytes(14) for kind in ("allowed", "from_gateway")}
        inside = [_nsenter(record) for record in (self.one, self.two)]
        ears = [_ear([], self.settings["bridge"]), _ear(inside[1], "eth0")]
        frames = [frame_of(row.arguments["frame"], ends, marks[row.name]) for row in rows]
        frames.insert(0, frame_of("allowed", ends, proofs["allowed"]))
        _send(inside[0], "eth0", frames)
        _send([], self.settings["bridge"], [frame_of("from_gateway", ends, proofs["from_gateway"])])
        time.sleep(LISTEN_SECONDS)
        heard = [ear.communicate(timeout=30)[0] for ear in ears]
        deaf = [kind for kind, ear in zip(proofs, heard, strict=True) if proofs[kind].hex() not in ear]
        if deaf:
            raise Failed(f"the ear for what is {' and '.join(deaf)} heard nothing")
        return {row.name: _verdict(marks[row.name].hex(), heard) for row in rows}

    def ends(self) -> Ends:
        """Give who is on the wire."""
        hardware = Path("/sys/class/net", self.settings["bridge"], "address").read_text(encoding="ascii").strip()
        addresses = json.loads(run("ip", "-j", "-4", "address", "show", "scope", "global"))
        own = [one["local"] for link in addresses for one in link.get("addr_info", [])
               if link["ifname"] not in {self.settings["bridge"], "docker0"} and "local" in one]  # fmt: skip
        return Ends(
            hardware=hardware_of(self.one["index"]),
            address=self.one["address"],
            other_hardware=hardware_of(self.two["index"]),
            other_address=self.two["address"],
            gateway_hardware=hardware,
            gateway=self.settings["address"],
            port=self.settings["port"],
            host=own[0] if own else "172.17.0.1",
        )

    def held(self, rows: list[Row]) -> dict[str, dict[str, Any]]:
        """Look whether the kernel holds the first sandbox to its limits; a host of the lab has no way to."""
        found, told = held(engine.process_of(engine.inspected(self.container))), {}
        for row in rows:
            key = row.arguments["limit"]
            if found[key]:
                told[row.name] = {"result": "passed", "detail": f"{self.settings['limits'][key]}"}
            elif self.lab:
                told[row.name] = {"result": "skipped", "detail": "declared, not enforced here: a host of the lab"}
            else:
                told[row.name] = {"result": "failed", "detail": "the kernel has no such limit for it"}
        return told

    @staticmethod
    def canary(rows: list[Row]) -> dict[str, dict[str, Any]]:
        """Look what the second wall wrote down since the door was opened."""
        alarms = json.loads(ALARMS.read_text(encoding="utf-8")) if ALARMS.exists() else []
        if not alarms:
            return {row.name: {"result": "passed", "detail": "silent"} for row in rows}
        first = alarms[0]
        words = f"{len(alarms)} times; first at {first['when']}: {first['who']} to {first['what']}"
        return {row.name: {"result": "failed", "detail": words} for row in rows}


def _about(row: Row) -> dict[str, Any]:
    return {"name": row.name, "wall": row.wall, "severity": row.severity}


def _untried(why: str) -> dict[str, Any]:
    return {"result": "failed", "detail": f"it could not be tried: {why}"}


def _verdict(mark: str, heard: list[str]) -> dict[str, Any]:
    where = [place for place, ear in zip(("the bridge", "another sandbox"), heard, strict=True) if mark in ear]
    if where:
        return {"result": "failed", "detail": f"it arrived at {' and at '.join(where)}"}
    return {"result": "passed", "detail": "not heard"}


def _nsenter(record: dict[str, Any]) -> list[str]:
    process = engine.process_of(engine.inspected(record["container"]))
    if process is None:
        raise Failed(f"{record['name']} does not run")
    return ["nsenter", "--net", f"--target={process}"]


def _ear(within: list[str], device: str) -> subprocess.Popen[str]:
    words = [*within, sys.executable, "-I", str(HERE / "wire.py"), "listen", device]
    ear = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if ear.stdout is None or ear.stdout.readline() != "ready\n":
        raise Failed(f"nobody can listen at {device}")
    return ear


def _send(within: list[str], device: str, frames: list[bytes]) -> None:
    text = "\n".join(frame.hex() for frame in frames)
    run(*within, sys.executable, "-I", str(HERE / "wire.py"), "send", device, text=text)


def _record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((STATE / f"0-{name}" / "sandbox.json").read_text(encoding="utf-8"))
    return found


def asked(verb: str, name: str) -> dict[str, Any]:
    """Ask the door, as anybody does; raises ``Failed`` with what it says."""
    done = subprocess.run([str(HERE / "client.py"), verb, name], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    if done.returncode:
        raise Failed(told.get("error", {}).get("what") or done.stderr.strip() or "the door said nothing")
    answer: dict[str, Any] = told["answer"]
    return answer


@contextlib.contextmanager
def two_sandboxes() -> Iterator[None]:
    """Have two sandboxes of root's for a while; what an earlier run left goes first."""
    with LOCK.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in NAMES:
            if (STATE / f"0-{name}").exists():
                asked("destroy", name)
        try:
            for name in NAMES:
                asked("create", name)
            yield
        finally:
            for name in NAMES:
                if (STATE / f"0-{name}").exists():
                    asked("destroy", name)


def settings_of() -> dict[str, Any]:
    """Give the release's own settings of sandboxes."""
    found: dict[str, Any] = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Try all."""
    parser = argparse.ArgumentParser(prog="walls.py", allow_abbrev=False)
    parser.add_argument("--lab", action="store_true", help="the host is one of the lab's")
    given = parser.parse_args()
    try:
        with two_sandboxes():
            found = Stage(settings_of(), lab=given.lab).run(ROWS)
    except (Failed, OSError, ValueError) as error:
        found = [_about(row) | _untried(str(error)) for row in ROWS]
    for each in found:
        sys.stdout.write(json.dumps(each) + "\n")
    return 1 if any(each["result"] == "failed" for each in found) else 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
