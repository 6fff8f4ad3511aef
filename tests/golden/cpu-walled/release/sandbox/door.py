#!/usr/bin/python3 -I
"""The door to the sandboxes of this host: the one program of root's that people ask, with a fixed set of verbs.

Who asks is what the kernel says of the other end of the socket, never what is written in the request. A request is a
line of JSON with up to three open files beside it; the answer is one too: ``answer``, ``exit`` or ``error``.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import pwd
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import engine  # noqa: E402 - it lies beside this file
from network import Failed, Network  # noqa: E402
from places import Places, Refused, account_of, write  # noqa: E402

SOCKET = Path("/run/agentrig-sandbox/door.sock")
#: Bytes of a request, words of a command and bytes of each, seconds that one may take.
MOST_REQUEST, MOST_WORDS, MOST_WORD, MOST_SECONDS = 256 << 10, 512, 128 << 10, 24 * 3600
#: Seconds between two looks at the walls, and between two at what the sandboxes take.
LOOK_SECONDS = 5.0
MEASURE_LOOKS = 4
#: Hours of local time in which the walls are pushed at, and the seconds that lie between two nights at least.
NIGHT, HALF_A_DAY = range(2, 6), 12 * 3600
#: What got past the first wall since the door was opened.
ALARMS = Path("/run/agentrig-sandbox/alarms.json")
#: People who may be served at once.
MOST_CALLERS = 64
#: Limit -> its file in the unified hierarchy, and controller and file in the older ones (cgroups(7)).
_FILES = {
    "memory_mib": ("memory.max", "memory/memory.limit_in_bytes"),
    "processes": ("pids.max", "pids/pids.max"),
    "cpus": ("cpu.max", "cpu/cpu.cfs_quota_us"),
}
_LOCK = threading.RLock()
_SESSIONS: dict[str, set[str]] = {}


class Caller:
    """Who asks: the kernel's word for it, and the open files that came with the request."""

    def __init__(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.uid = struct.unpack("3i", credentials)[1]
        self.connection = connection
        self.files: list[int] = []

    def request(self) -> dict[str, Any]:
        """Read the request; raises ``Refused`` for what is none."""
        self.connection.settimeout(10)
        text = b""
        while b"\n" not in text:
            if len(text) > MOST_REQUEST:
                raise Refused("the request is too long")
            try:
                piece, ancillary, flags, _ = self.connection.recvmsg(65536, socket.CMSG_SPACE(3 * 4))
            except TimeoutError:
                raise Refused("the request did not come whole") from None
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                    self.files += numbers
            if not piece or flags & socket.MSG_CTRUNC or len(self.files) > 3:  # noqa: PLR2004 - stdin, stdout, stderr
                raise Refused("the request did not come whole")
            text += piece
        try:
            asked = json.loads(text.partition(b"\n")[0])
        except (ValueError, RecursionError):
            raise Refused("the request is not JSON") from None
        if not isinstance(asked, dict) or not isinstance(asked.get("name", ""), str):
            raise Refused("the request is of another form")
        self.connection.settimeout(None)
        return asked

    def tell(self, **said: Any) -> None:
        """Answer with one line; one who has gone is told nothing."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(said).encode() + b"\n")

    def close(self) -> None:
        """Let go of the connection and of the files."""
        for number in self.files:
            with contextlib.suppress(OSError):
                os.close(number)
        self.connection.close()


class Door:
    """The verbs. ``create``, ``destroy`` and what brings a sandbox up go one after the other."""

    def __init__(self, settings: dict[str, Any], places: Places) -> None:
        self.settings, self.places = settings, places
        self.alarms: list[dict[str, str]] = []
        self.probed = 0.0
        self.verbs = {"create": self.create, "list": self.list, "destroy": self.destroy, "exec": self.execute}
        self.verbs |= {"requests": self.requests, "info": self.info}

    def serve(self, caller: Caller) -> None:
        """Serve one caller to the end."""
        try:
            asked = caller.request()
            self.verb_of(caller.uid, asked)(caller, asked)
        except Refused as refused:
            caller.tell(error={"what": str(refused), "do": refused.do, "exit": 2})
        except Failed as failed:
            caller.tell(error={"what": str(failed), "do": "see journalctl -u agentrig-sandbox", "exit": 1})
            log(f"{account_of(caller.uid)}: {failed}")
        except Exception as error:  # noqa: BLE001 - nobody's request ends the door for the others
            caller.tell(error={"what": f"the door is at fault: {type(error).__name__}", "do": "", "exit": 1})
            log(f"{account_of(caller.uid)}: {type(error).__name__}: {error}")
        finally:
            caller.close()

    def verb_of(self, uid: int, asked: dict[str, Any]) -> Callable[[Caller, dict[str, Any]], None]:
        """Give what an account asks for; raises ``Refused``."""
        if not self.may(uid):
            raise Refused("you may have no sandbox here", "the people of the host's profile may: people: [NAME]")
        verb = self.verbs.get(str(asked.get("verb")))
        if verb is None:
            raise Refused("there is no such verb")
        return verb

    def may(self, uid: int) -> bool:
        """Tell whether an account may have sandboxes: root, and the people of the profile."""
        if uid == 0:
            return True
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_name in self.settings["people"]
        return False

    def create(self, caller: Caller, asked: dict[str, Any]) -> None:
        """Make a sandbox."""
        began = time.monotonic()
        with _LOCK:
            record = self.places.create(caller.uid, asked.get("name", ""))
        log(f"{account_of(caller.uid)}: made {record['id']}, {record['address']}")
        caller.tell(answer=self.shown(record) | {"seconds": round(time.monotonic() - began, 2)})

    def list(self, caller: Caller, asked: dict[str, Any]) -> None:
        """Name the caller's sandboxes; root's question is about everybody's."""
        del asked
        found = [one for one in self.places.all() if caller.uid in {0, one["owner"]}]
        caller.tell(answer=[self.shown(one) for one in found])

    def info(self, caller: Caller, asked: dict[str, Any]) -> None:
        """Tell of one sandbox, and of its limits what the kernel really holds it to."""
        record = self.places.of(caller.uid, asked.get("name", ""))
        process = engine.process_of(engine.inspected(record["container"]))
        caller.tell(answer=self.shown(record) | {"limits": self.settings["limits"], "held": held(process)})

    def shown(self, record: dict[str, Any]) -> dict[str, Any]:
        """Give what may be told of a sandbox."""
        told = {key: record[key] for key in ("name", "owner_name", "address", "client", "created", "stopped")}
        return told | {"kind": "container", "running": self.places.runs(record)}

    def destroy(self, caller: Caller, asked: dict[str, Any]) -> None:
        """Take a sandbox away."""
        with _LOCK:
            record = self.places.of(caller.uid, asked.get("name", ""))
            self.places.remove(record)
        log(f"{account_of(caller.uid)}: destroyed {record['id']}")
        caller.tell(answer={"name": record["name"]})

    def execute(self, caller: Caller, asked: dict[str, Any]) -> None:
        """Run a program inside as the agent, on the caller's own files, until it ends, is late, or he has gone."""
        argv, where = asked.get("argv"), asked.get("where", engine.WORK)
        seconds = asked.get("seconds")
        words = argv if isinstance(argv, list) else []
        if not 0 < len(words) <= MOST_WORDS or not all(isinstance(one, str) and len(one) <= MOST_WORD for one in words):
            raise Refused("the command is of another form")
        if where not in {engine.WORK, engine.REPOSITORY} or any("\0" in one for one in words):
            raise Refused("the command is of another form")
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds <= MOST_SECONDS):
            raise Refused("the seconds are none", f"take at most {MOST_SECONDS}")
        if len(caller.files) != 3:  # noqa: PLR2004 - stdin, stdout, stderr
            raise Refused("the command came without its three files")
        with _LOCK:
            record = self.places.of(caller.uid, asked.get("name", ""))
            if record["stopped"] and not asked.get("again"):
                raise Refused(f"{record['name']} was stopped: {record['stopped']}", "see why, then ask with --again")
            self.places.up(record)
            session = secrets.token_hex(8)
            _SESSIONS.setdefault(record["id"], set()).add(session)
        try:
            command = engine.command(record, words, session, terminal=bool(asked.get("terminal")), where=where)
            caller.tell(exit=self._joined(command, caller, session, seconds), late=False)
        except subprocess.TimeoutExpired:
            caller.tell(exit=124, late=True)
        finally:
            self._ended(record, session)

    def _joined(self, command: list[str], caller: Caller, session: str, seconds: float | None) -> int:
        """Run a command of Docker's on the caller's files; raises TimeoutExpired when its seconds are over."""
        until = time.monotonic() + (seconds or MOST_SECONDS)
        files = dict(zip(("stdin", "stdout", "stderr"), caller.files, strict=True))
        child = subprocess.Popen(
            command, **files, start_new_session=True, env={"PATH": os.environ["PATH"], "HOME": "/"}
        )
        for number in caller.files:
            os.close(number)
        caller.files = []
        gone = select.poll()
        gone.register(caller.connection, select.POLLIN | select.POLLHUP | select.POLLRDHUP)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(0.05)
                if gone.poll(0):  # whoever asked says nothing more: he has gone
                    return 125
                if time.monotonic() > until:
                    raise subprocess.TimeoutExpired(command[0], seconds or MOST_SECONDS)
        finally:
            engine.end_session(session)
            child.kill()
            child.wait()

    def _ended(self, record: dict[str, Any], session: str) -> None:
        """Forget a session; after the last one nothing of the agent's is left running."""
        with _LOCK:
            _SESSIONS.get(record["id"], set()).discard(session)
            if not _SESSIONS.get(record["id"]):
                _SESSIONS.pop(record["id"], None)
                process = engine.process_of(engine.inspected(record["container"]))
                if process is not None:
                    engine.end_all_but(process, record["container"])

    def requests(self, caller: Caller, asked: dict[str, Any]) -> None:
        """Count what the gateway answered a sandbox since a time, in seconds since 1970."""
        record, since = self.places.of(caller.uid, asked.get("name", "")), asked.get("since", 0)
        if not isinstance(since, int | float) or not 0 <= since < 1 << 40:
            raise Refused("the time is none")
        command = ["journalctl", "--identifier=agentrig_usage", "--output=cat", "--no-pager", "--quiet"]
        done = subprocess.run([*command, f"--since=@{since:.0f}"], capture_output=True, text=True, check=False)
        caller.tell(answer=used(done.stdout.splitlines(), record["client"]))

    def look(self) -> None:
        """Look at the walls for ever: a sandbox whose walls do not stand is stopped before anything else.

        What got past the first of them is an alarm; once a night every wall is pushed at.
        """
        for looks in itertools.count():
            time.sleep(LOOK_SECONDS)
            try:
                large = self._large() if looks % MEASURE_LOOKS == 0 else {}
                with _LOCK:
                    self._look(large)
                if due(time.localtime(), self.probed):
                    self.probed = time.time()
                    probe()
            except Exception as error:  # noqa: BLE001 - the next look may be luckier, and it must come
                log(f"the walls could not be looked at: {type(error).__name__}: {error}")

    def _large(self) -> dict[str, str]:
        """Measure what runs, which takes its time and holds nobody up; give what is too large, and by how much."""
        measured = {one["id"]: self.places.too_large(one) for one in self.places.all() if self.places.runs(one)}
        return {key: why for key, why in measured.items() if why}

    def _listen(self) -> None:
        """Raise the alarm for what got past the first wall, once for each; it lasts until the door is opened anew."""
        known = {(one["who"], one["what"]) for one in self.alarms}
        told = [(who, f"{to}, protocol {protocol}") for who, to, protocol in self.places.network.leaked()]
        for who, what in told:
            if (who, what) not in known:
                when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self.alarms.append({"when": when, "who": who, "what": what})
                log(f"ALARM: {who} got past the first wall, to {what}")
                write(ALARMS, json.dumps(self.alarms) + "\n", mode=0o644)

    def _look(self, large: dict[str, str]) -> None:
        wrong = self.places.network.stand()
        for record in self.places.all():
            if not self.places.runs(record):
                continue
            why = wrong or self.places.network.joined(record["index"]) or large.get(record["id"])
            if why:
                self.places.stop(record, why)
                log(f"stopped {record['id']}: {why}")
        try:
            self._listen()  # before the walls are put up anew, which forgets what leaked
        finally:
            if wrong:
                self.places.network.put_up()
                log(f"the walls were put up again: {wrong}")


def probe() -> None:
    """Push at every wall, in a unit of its own: it takes more of root than the door has."""
    program = str(Path(__file__).resolve().with_name("walls.py"))
    words = ["systemd-run", "--quiet", "--collect", "--unit=agentrig-walls", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    log("the walls are pushed at: journalctl -u agentrig-walls" if done.returncode == 0 else done.stderr.strip())


def due(now: time.struct_time, last: float) -> bool:
    """Tell whether the walls are to be pushed at: in the small hours of a day on which they have not been. Pure."""
    return now.tm_hour in NIGHT and time.mktime(now) - last > HALF_A_DAY


def used(lines: list[str], client: str) -> dict[str, float]:
    """Sum what the gateway wrote of a client: requests, tokens of prompts and answers, seconds. Pure."""
    total: dict[str, float] = {"requests": 0, "prompt_tokens": 0, "output_tokens": 0, "seconds": 0.0}
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if told.get("client") != client:
            continue
        total["requests"] += 1
        total["seconds"] = round(total["seconds"] + float(told["seconds"]), 3)
        for key in ("prompt_tokens", "output_tokens"):
            total[key] += int(told[key]) if told[key].isdecimal() else 0
    return total


def held(process: int | None) -> dict[str, bool]:
    """Tell of each limit whether the kernel holds a container to it: some hosts give it no control group for it."""
    groups = Path("/proc", str(process or 0), "cgroup")
    lines = groups.read_text(encoding="utf-8").splitlines() if groups.exists() else []
    return {limit: any(_held(line, unified, older) for line in lines) for limit, (unified, older) in _FILES.items()}


def _held(line: str, unified: str, older: str) -> bool:
    """Tell of one line of ``/proc/PID/cgroup`` whether its group has a limit in the file of either hierarchy."""
    _, controllers, path = line.split(":", 2)
    if not controllers:
        return _set(Path("/sys/fs/cgroup" + path) / unified)
    controller, _, name = older.partition("/")
    return controller in controllers.split(",") and _set(Path("/sys/fs/cgroup", controllers + path) / name)


def _set(file: Path) -> bool:
    try:
        first = file.read_text(encoding="ascii").split()[0]
    except (OSError, IndexError):
        return False
    return first not in {"max", "-1"} and not first.startswith("9223372036854")


def log(text: str) -> None:
    """Write a line to the journal."""
    sys.stderr.write("".join(sign if sign.isprintable() else "?" for sign in text) + "\n")
    sys.stderr.flush()


def ready() -> None:
    """Tell systemd that the walls stand and the door is open (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(b"READY=1")


def main() -> int:
    """Put the walls up around the sandboxes that run, then open the door."""
    settings = json.loads(Path(__file__).with_name("settings.json").read_text(encoding="utf-8"))
    walls = Path(__file__).resolve().with_name("walls.nft")
    network = Network(settings["bridge"], settings["address"], walls)
    places = Places(settings, network)
    network.put_up(one["index"] for one in places.all() if not one["stopped"])
    door = Door(settings, places)
    SOCKET.parent.mkdir(mode=0o755, exist_ok=True)
    SOCKET.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(SOCKET))
    SOCKET.chmod(0o666)
    listening.listen(MOST_CALLERS)
    ready()
    threading.Thread(target=door.look, daemon=True).start()
    room = threading.BoundedSemaphore(MOST_CALLERS)

    def serve(connection: socket.socket) -> None:
        try:
            door.serve(Caller(connection))
        finally:
            room.release()

    while True:
        connection, _ = listening.accept()
        room.acquire()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
