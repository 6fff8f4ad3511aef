"""Runs on a host as root: takes each wall down in turn, runs the probes that guard it, and puts it up again.

Asked on standard input with ``[[names, control], …]``; a line of JSON for each probe: name, result, detail. The walls
are first tried whole, and whole again at the end.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CURRENT = Path("/opt/agentrig/current")
sys.path.insert(0, str(CURRENT / "sandbox"))

import engine  # noqa: E402 - the host's own
import table  # noqa: E402
import walls  # noqa: E402
import wire  # noqa: E402
from network import Failed, Network, port_of, run  # noqa: E402

ROWS = {row.name: row for row in table.ROWS}
GATEWAY = "agentrig-gateway.service"
DOOR = "agentrig-sandbox.service"
CONTROL = "agentrig-control"
NAIVE = """
import http.server
class Any(http.server.BaseHTTPRequestHandler):
    def handle(self):
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
http.server.ThreadingHTTPServer(("{gateway}", {port}), Any).serve_forever()
"""


class Host:
    """The host with its two sandboxes; the door is closed, or it would put right what is taken down."""

    def __init__(self) -> None:
        self.stage = walls.Stage(walls.settings_of(), lab=True)
        self.ends = self.stage.ends()
        settings = self.stage.settings
        self.network = Network(settings["bridge"], settings["address"], CURRENT / "sandbox/walls.nft")
        self.words = {
            "gateway": self.ends.gateway,
            "other": self.ends.other_address,
            "host": self.ends.host,
            "everybody": self.ends.gateway.rpartition(".")[0] + ".255",
            "port": port_of(self.stage.one["index"]),
            "folder": str(walls.STATE / self.stage.one["id"]),
        }

    def said(self, text: str) -> str:
        for key, value in self.words.items():
            text = text.replace("{" + key + "}", value)
        return text

    def with_it(self, names: list[str], control: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a wall down, try the probes, put it up."""
        rows = [ROWS[name] for name in names]
        with contextlib.ExitStack() as stack:
            for part in ("files", "naive", "nft", "host", "inside", "container"):
                getattr(self, f"_{part}")(control, stack)
            return list(self.stage.run(rows))

    def _files(self, control: dict[str, Any], stack: contextlib.ExitStack) -> None:
        for name, old, new in control["files"]:
            path = CURRENT / name
            beside = Path("/run", path.name)
            shutil.copy2(path, beside)
            stack.callback(self._gateway_again)
            stack.callback(shutil.copy2, beside, path)
            text = path.read_text()
            assert old in text, f"{old} is not in {name}"
            path.write_text(text.replace(old, new))
            self._gateway_again()

    def _gateway_again(self) -> None:
        run("systemctl", "reset-failed", GATEWAY, DOOR, fine=(0, 1))  # its starts are counted
        run("systemctl", "restart", GATEWAY)
        run("systemctl", "stop", DOOR)  # the gateway wants it
        settings = self.stage.settings
        url = f"http://{settings['address']}:{settings['port']}{settings['health_path']}"
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=2)
                return
            time.sleep(0.1)

    def _naive(self, control: dict[str, Any], stack: contextlib.ExitStack) -> None:
        if not control["naive"]:
            return
        run("systemctl", "stop", GATEWAY)
        stack.callback(self._gateway_again)
        text = NAIVE.replace("{gateway}", self.ends.gateway).replace("{port}", str(self.ends.port))
        server = subprocess.Popen([sys.executable, "-c", text])
        stack.callback(server.wait)
        stack.callback(server.kill)
        time.sleep(1)

    def _nft(self, control: dict[str, Any], stack: contextlib.ExitStack) -> None:
        if control["nft"]:
            stack.callback(self.network.put_up, [self.stage.one["index"], self.stage.two["index"]])
            for rule in control["nft"]:
                run("nft", self.said(rule))

    def _host(self, control: dict[str, Any], stack: contextlib.ExitStack) -> None:
        for line in control["host"]:
            run("sh", "-c", self.said(line))
        if any("isolated" in line for line in control["host"]):
            stack.callback(run, "bridge", "link", "set", "dev", self.words["port"], "isolated", "on")
        if any(GATEWAY.partition(".")[0] in line for line in control["host"]):
            stack.callback(self._gateway_again)
        stack.callback(Path("/dev/shm/of-the-host").unlink, missing_ok=True)  # noqa: S108 - the host's own

    def _inside(self, control: dict[str, Any], stack: contextlib.ExitStack) -> None:
        if control["inside"]:
            process = engine.process_of(engine.inspected(self.stage.one["container"]))
            for line in control["inside"]:
                run("nsenter", "--net", f"--target={process}", "sh", "-c", line)
            off = "for one in all eth0; do echo 1 > /proc/sys/net/ipv6/conf/$one/disable_ipv6; done"
            off += "; ip route show | grep -v '^10.87.0.1 ' | while read -r one; do ip route delete $one; done"
            stack.callback(run, "nsenter", "--net", f"--target={process}", "sh", "-c", off)

    def _container(self, control: dict[str, Any], stack: contextlib.ExitStack) -> None:
        if not control["without"] and not control["added"]:
            return
        record = self.stage.one | {"container": CONTROL}
        seen = engine.mounts(walls.STATE / record["id"], self.stage.settings["agents"])
        words = engine.arguments(record, self.stage.settings["limits"], seen)
        without = [self.said(one) for one in control["without"]]
        left = [word for word in words if not any(word.startswith(one) for one in without)]
        assert not without or len(left) < len(words), f"none of {without} is there"
        added = map(self.said, control["added"])
        stack.callback(run, "docker", "rm", "--force", CONTROL, fine=(0, 1))
        words = ["docker", "run", *left, *added, engine.image(), "sleep", "infinity"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(done.stderr.strip())
        stack.callback(setattr, self.stage, "container", self.stage.one["container"])
        self.stage.container = CONTROL


@contextlib.contextmanager
def closed_door() -> Iterator[None]:
    """Have the door closed for a while; the sandboxes go on."""
    run("systemctl", "stop", DOOR)
    try:
        yield
    finally:
        run("systemctl", "reset-failed", DOOR, fine=(0, 1))
        run("systemctl", "start", DOOR)


@contextlib.contextmanager
def told_each_time() -> Iterator[None]:
    """Have the kernel say each time that nobody is there: it does so once a second to the same address (icmp(7))."""
    seldom = Path("/proc/sys/net/ipv4/icmp_ratelimit")
    before = seldom.read_text()
    seldom.write_text("0")
    try:
        yield
    finally:
        seldom.write_text(before)


def alarm(names: list[str], control: dict[str, Any]) -> list[dict[str, Any]]:
    """Open the first wall while the door looks, send a packet to the host, and wait until it has raised the alarm."""
    del control
    stage = walls.Stage(walls.settings_of(), lab=True)
    process = engine.process_of(engine.inspected(stage.one["container"]))
    frame = wire.frame_of("to_host", stage.ends(), b"agentrig-alarm")
    run("nft", "insert rule bridge agentrig from_sandbox accept")
    send = (sys.executable, "-I", str(CURRENT / "sandbox/wire.py"), "send", "eth0")
    run("nsenter", "--net", f"--target={process}", *send, text=frame.hex())
    for _ in range(200):
        if walls.ALARMS.exists():
            break
        time.sleep(0.1)
    return list(stage.run([ROWS[name] for name in names]))


def main() -> int:
    """Do what is asked."""
    asked = json.load(sys.stdin)

    def tell(about: str, found: list[dict[str, Any]]) -> None:
        for each in found:
            sys.stdout.write(json.dumps({"about": about, **each}) + "\n")
            sys.stdout.flush()

    with walls.two_sandboxes():
        with closed_door(), told_each_time():
            host = Host()
            tell("before", host.stage.run(table.ROWS))
            for names, control in asked:
                if control["alarm"]:
                    continue
                try:
                    tell("down", host.with_it(names, control))
                except (Failed, OSError, AssertionError) as error:
                    tell("down", [{"name": name, "result": "untried", "detail": str(error)} for name in names])
            tell("after", host.stage.run(table.ROWS))
        for names, control in asked:
            if control["alarm"]:
                tell("down", alarm(names, control))
    run("systemctl", "restart", DOOR)
    return 0


if __name__ == "__main__":
    sys.exit(main())
