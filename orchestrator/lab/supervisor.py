"""The one process that a lab lives and dies with: it holds the hosts, their namespaces and the ways into them.

Run as process 1 of namespaces of its own (``python -m orchestrator.lab.supervisor``). One request a connection on
the socket in the lab's folder: a line of JSON in, a line of JSON out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import AgentrigError, LabError
from orchestrator.lab import cgroups
from orchestrator.lab.forwards import Forward
from orchestrator.lab.namespaces import Network
from orchestrator.lab.record import Kept, Record
from orchestrator.lab.throwaway import Throwaway, free_listener, prepare

SSH_PORT = 22
#: A lab's addresses end in one byte.
_MOST_HOSTS = 250


class Supervisor:
    """The hosts of one lab and the ports that lead to them."""

    def __init__(self, root: Path, group: str, outer: Network) -> None:
        self._root = root
        self._group = group
        self._outer = outer
        self._record = Record(root / "lab.json")
        self._hosts: dict[str, Throwaway] = {}
        self._forwards: dict[tuple[str, int], Forward] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self.over = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            request = json.loads(await reader.readline())
            reply = await self._do(request)
        except AgentrigError as error:
            reply = {"error": error.document()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"request failed: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - the supervisor's log
            reply = {"error": {"what": f"the lab's supervisor failed: {error}"}}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks; one at a time for each host, so that a host is never made twice."""
        match request["op"]:
            case "hosts":
                return {"hosts": self._listing()}
            case "down":
                self.over.set()
                return {}
        name = str(request["name"])
        async with self._turns.setdefault(name, asyncio.Lock()):
            match request["op"]:
                case "start":
                    await self._start(name, str(request["os"]))
                case "forward":
                    return {"port": await self._forward(name, int(request["port"]))}
                case "remove":
                    await self._remove(name)
        return {"hosts": self._listing()}

    def _listing(self) -> list[dict[str, Any]]:
        """Give the hosts that live and can be reached."""
        return [
            {
                "name": name,
                "os": host.system,
                "ssh_port": self._forwards[name, SSH_PORT].outer_port,
                "inner": host.address,
            }
            for name, host in sorted(self._hosts.items())
            if host.alive and (name, SSH_PORT) in self._forwards
        ]

    async def _start(self, name: str, system: str) -> None:
        """Start a host that does not live, with the ports it had before."""
        if name in self._hosts and self._hosts[name].alive:
            return
        kept = self._record.hosts.get(name) or Kept(system=system, index=self._free_index())
        await self._stop(name)
        self._record.keep(name, kept)
        host = Throwaway(self._root, self._group, name, kept.system, kept.index)
        self._hosts[name] = host
        try:
            await asyncio.to_thread(host.start)
            for port in (SSH_PORT, *[port for port in kept.ports if port != SSH_PORT]):
                await self._forward(name, port)
        except BaseException:
            await self._stop(name)
            raise

    async def _stop(self, name: str) -> None:
        """Take a host's ports, processes and mounts away; its files and its record stay."""
        for key in [key for key in self._forwards if key[0] == name]:
            await self._forwards.pop(key).close()
        if (host := self._hosts.pop(name, None)) is not None:
            await asyncio.to_thread(host.stop)

    async def _remove(self, name: str) -> None:
        """Take a host away with its files."""
        await self._stop(name)
        self._record.forget(name)
        await asyncio.to_thread(shutil.rmtree, self._root / "hosts" / name, ignore_errors=True)

    async def _forward(self, name: str, port: int) -> int:
        """Give the port of this machine that leads to a host's port, making it where there is none."""
        if (name, port) not in self._forwards:
            host = self._hosts.get(name)
            if host is None or host.network is None:
                raise LabError(f"the lab has no host {name}", do="deploy lab list shows those that live")
            kept = self._record.hosts[name]
            listening = free_listener(self._outer, kept.ports.get(port, 0))
            forward = Forward(listening, host.network, port)
            await forward.serve()
            self._forwards[name, port] = forward
            self._record.keep(name, kept.with_port(port, forward.outer_port))
        return self._forwards[name, port].outer_port

    def _free_index(self) -> int:
        taken = {kept.index for kept in self._record.hosts.values()}
        for index in range(1, _MOST_HOSTS + 1):
            if index not in taken:
                return index
        raise LabError(f"a lab has at most {_MOST_HOSTS} hosts", do="deploy lab down takes them away")

    async def close(self) -> None:
        """Take every host away, all at once."""
        await asyncio.gather(*[self._stop(name) for name in tuple(self._hosts)])


async def serve(root: Path, group: str, outer: Network, ready: int) -> None:
    """Answer on the lab's socket until told to end; ``ready`` is a descriptor that hears when it does."""
    supervisor = Supervisor(root, group, outer)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.over.set)
    server = await asyncio.start_unix_server(supervisor.answer, "control.sock")
    os.write(ready, b"ready\n")
    os.close(ready)
    await supervisor.over.wait()
    server.close()
    await supervisor.close()


def main(arguments: list[str]) -> int:
    """Set the private places up and serve."""
    parser = argparse.ArgumentParser(prog="orchestrator.lab.supervisor", description="Holds the hosts of one lab.")
    parser.add_argument("--root", type=Path, required=True, help="the lab's folder")
    parser.add_argument("--group", required=True, help="the name of the lab's control group")
    parser.add_argument("--outer-network", type=int, required=True, help="descriptor of this machine's network")
    parser.add_argument("--ready", type=int, required=True, help="descriptor that hears when requests are answered")
    given = parser.parse_args(arguments)
    for descriptor in (given.outer_network, given.ready):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the function takes it by position
    try:
        cgroups.enter(f"{given.group}/supervisor")
        prepare()
        os.chdir(given.root)
        Path("control.sock").unlink(missing_ok=True)
        outer = Network(given.outer_network)
        asyncio.run(serve(given.root, given.group, outer, given.ready))
    except (AgentrigError, OSError) as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the supervisor's log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
