"""The network of the sandboxes: one bridge without a way out, a port of it for each, and the walls in front of both."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Digits of a port's name and of a sandbox's address: 10.87.0.1 is the gateway's.
FIRST, LAST = 2, 250


class Failed(Exception):  # noqa: N818 - the outcome of a command, told to a person
    """A command of the host did not do what it should; the text is its last line."""


def run(*command: str, text: str = "", fine: tuple[int, ...] = (0,)) -> str:
    """Run a command and give what it prints; raises ``Failed`` with its last words."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode not in fine:
        raise Failed(f"{command[0]}: {last_words(done.stderr + done.stdout) or f'ended with {done.returncode}'}")
    return done.stdout


def last_words(said: str) -> str:
    """Give the last line of what a command said that tells something: Docker ends with where its help is."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("See '")]
    return lines[-1].removeprefix("docker: ") if lines else ""


def lines_of(listed: str) -> list[str]:
    """Give the rules of a listing, a line each, without the elements of its sets: those come and go."""
    kept, inside = [], False
    for line in (each.strip() for each in listed.splitlines()):
        inside = inside or line.startswith("elements = {")
        if line and not inside:
            kept.append(line)
        inside = inside and not line.endswith("}")
    return kept


class Network:
    """Bridge and walls. ``walls`` is the file with both tables, ``address`` the gateway's on the bridge."""

    def __init__(self, bridge: str, address: str, walls: Path) -> None:
        self.bridge, self.address, self.walls = bridge, address, walls
        self._expected: dict[str, list[str]] = {}

    def put_up(self, running: Iterable[int] = ()) -> None:
        """Put the walls up with a place for each sandbox that runs, at once, then the bridge. Raises ``Failed``."""
        places = [f"add element bridge agentrig places {self._place(index)}\n" for index in running]
        run("nft", "-f", "-", text=self.walls.read_text(encoding="utf-8") + "".join(places))
        self._expected = {family: self._rules(family) for family in ("bridge", "inet")}
        if not Path("/sys/class/net", self.bridge).exists():
            run("ip", "link", "add", self.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
        silent = Path("/proc/sys/net/ipv6/conf", self.bridge, "disable_ipv6")
        if silent.exists():
            silent.write_text("1", encoding="ascii")
        run("ip", "address", "replace", f"{self.address}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def stand(self) -> str | None:
        """Give what is wrong with the walls, None where they stand as they were put up."""
        for family, expected in self._expected.items():
            try:
                found = self._rules(family)
            except Failed:
                return f"the table {family} agentrig is gone"
            if found != expected:
                return f"the table {family} agentrig was changed"
        return None if self._expected else "the walls were never put up"

    @staticmethod
    def _rules(family: str) -> list[str]:
        return lines_of(run("nft", "--stateless", "--numeric", "list", "table", family, "agentrig"))

    def leaked(self) -> list[tuple[str, str, str]]:
        """Give what got past the first table since the walls were put up: from whom, to whom, by which protocol.

        Where the tables are gone there is nothing that could tell; ``stand`` says so.
        """
        listed = run("nft", "--json", "--numeric", "list", "set", "inet", "agentrig", "leaked", fine=(0, 1))
        if not listed.strip():
            return []
        (found,) = [each["set"] for each in json.loads(listed)["nftables"] if "set" in each]
        rows = [element["concat"] for element in found.get("elem", [])]
        return sorted((str(one), str(to), str(protocol)) for one, to, protocol in rows)

    def join(self, index: int, process: int) -> None:
        """Give a container, by its first process, its one neighbour: a wall for it first, then the wire."""
        port, hardware, address = port_of(index), hardware_of(index), address_of(self.address, index)
        self.leave(index)
        run("nft", "add", "element", "bridge", "agentrig", "places", self._place(index))
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(process))
        run("ip", "link", "set", port, "master", self.bridge)
        run("bridge", "link", "set", "dev", port, "isolated", "on")
        within = ("nsenter", "--net", f"--target={process}", "ip")
        run(*within, "link", "set", "eth0", "address", hardware)
        run(*within, "address", "add", f"{address}/32", "peer", f"{self.address}/32", "dev", "eth0")
        run(*within, "link", "set", "eth0", "up")
        run("ip", "link", "set", port, "up")

    def leave(self, index: int) -> None:
        """Take a sandbox's wire away, and its place."""
        port = port_of(index)
        run("nft", "delete", "element", "bridge", "agentrig", "places", self._place(index), fine=(0, 1))
        if Path("/sys/class/net", port).exists():
            run("ip", "link", "delete", port, fine=(0, 1))

    def _place(self, index: int) -> str:
        """Give a sandbox's element of the walls: its port, and whom it may speak as."""
        return f"{{ {port_of(index)} . {hardware_of(index)} . {address_of(self.address, index)} }}"

    def joined(self, index: int) -> str | None:
        """Give what is wrong with a sandbox's wire, None where it is as it was laid."""
        port = port_of(index)
        try:
            found = json.loads(run("ip", "-j", "-d", "link", "show", "dev", port))[0]
        except (Failed, ValueError, IndexError):
            return f"its port {port} is gone"
        if found.get("master") != self.bridge:
            return f"its port {port} is not on the bridge"
        if not found.get("linkinfo", {}).get("info_slave_data", {}).get("isolated"):
            return f"its port {port} is not isolated"
        listed = run("nft", "list", "set", "bridge", "agentrig", "places", fine=(0, 1))
        place = f'"{port}" . {hardware_of(index)} . {address_of(self.address, index)}'
        return None if place in listed else f"its port {port} has no place in the walls"


def port_of(index: int) -> str:
    """Give the name of a sandbox's port on the bridge."""
    return f"agr{index}"


def hardware_of(index: int) -> str:
    """Give a sandbox's hardware address: one of those that nobody owns (IEEE 802, locally administered)."""
    return f"02:61:67:72:00:{index:02x}"


def address_of(gateway: str, index: int) -> str:
    """Give a sandbox's address on the gateway's bridge."""
    return f"{gateway.rpartition('.')[0]}.{index}"
