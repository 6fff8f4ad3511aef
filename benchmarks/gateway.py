"""What the gateway adds to a request, paired beside the bare runtime; and what many idle streams cost it.

    python benchmarks/gateway.py [--pairs 500] [--streams 500]

The gateway is the rendered one of a host with sandboxes, real nginx and njs. The runtime is a stand-in that answers at
once: what a real one takes would hide what is measured. A pair is one request to the stand-in and one through the
gateway, in changing order, each over a connection of its own as agents have it; what is told is the difference. Of a
stream it is the time to the first event. Memory is what the kernel counts for nginx alone (proportional set size).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.gateway_here import TOKEN, gateway_in

if TYPE_CHECKING:
    from tests.gateway_here import Gateway

_ANSWER = json.dumps({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}).encode()
_EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
#: Streams of one token: fewer than the gateway lets one have open.
_OF_ONE = 16
#: A tenth of the pairs goes first and is not counted.
_WARM = 10


async def _served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request: at once, or with one event and silence until the other side has gone."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        sent = json.loads(await reader.readexactly(length) or b"{}")
        if sent.get("stream"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + _EVENT)
            await writer.drain()
            await reader.read()
        else:
            said = f"HTTP/1.1 200 OK\r\nContent-Length: {len(_ANSWER)}\r\nConnection: close\r\n\r\n"
            writer.write(said.encode() + _ANSWER)
            await writer.drain()
    writer.close()


def _runtime(port: int) -> None:
    """Be the stand-in for the runtime, for ever."""

    async def serve() -> None:
        server = await asyncio.start_server(_served, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    asyncio.run(serve())


async def _first(port: int, token: str, *, stream: bool) -> tuple[float, asyncio.StreamWriter]:
    """Send one request; give the milliseconds to the first byte of its body, and the connection."""
    body = json.dumps({"messages": [], "max_tokens": 16} | ({"stream": True} if stream else {})).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    said = await reader.readuntil(b"\r\n\r\n")
    if not said.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(said.decode())
    await reader.read(1)
    return (time.perf_counter() - began) * 1000, writer


async def _differences(gateway: Gateway, pairs: int, token: str, *, stream: bool) -> tuple[list[float], list[float]]:
    """Give the milliseconds that the gateway adds, pair by pair, and those of the bare runtime."""
    added, bare = [], []
    for number in range(pairs + pairs // _WARM):
        ports = [gateway.runtime_port, gateway.port]
        took = {}
        for port in ports if number % 2 else reversed(ports):
            took[port], writer = await _first(port, token, stream=stream)
            writer.close()
        if number >= pairs // _WARM:
            added.append(took[gateway.port] - took[gateway.runtime_port])
            bare.append(took[gateway.runtime_port])
    return added, bare


async def _idle(gateway: Gateway, count: int) -> tuple[float, float]:
    """Give the MiB of nginx before and with so many streams that say nothing."""
    before = _memory(gateway.pid)
    open_ones = []
    for number in range(count):
        token = f"a-token-of-the-benchmark-{number // _OF_ONE:04d}"
        if number % _OF_ONE == 0:
            gateway.admit(token, name=f"sandbox-{number // _OF_ONE}", output_tokens=None)
        open_ones.append((await _first(gateway.port, token, stream=True))[1])
    with_them = _memory(gateway.pid)
    for writer in open_ones:
        writer.close()
    return before, with_them


def _memory(pid: int) -> float:
    """Give the MiB of a process and its children, pages that are shared counted in parts."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    rollups = [Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii") for one in (str(pid), *children)]
    return sum(int(text.partition("\nPss:")[2].split()[0]) for text in rollups) / 1024


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--streams", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentrig-benchmark-") as folder, gateway_in(Path(folder)) as gateway:
        server = get_context("spawn").Process(target=_runtime, args=(gateway.runtime_port,), daemon=True)
        server.start()
        try:
            _wait(gateway.runtime_port)
            gateway.admit(name="person-of-the-benchmark", output_tokens=None)
            print("| request | bare median, ms | gateway adds: median, ms | p99, ms |\n|---|---|---|---|")
            for title, stream in (("a short chat", False), ("the first event of a stream", True)):
                added, bare = asyncio.run(_differences(gateway, given.pairs, TOKEN, stream=stream))
                p99 = statistics.quantiles(added, n=100)[98]
                print(f"| {title} | {statistics.median(bare):.2f} | {statistics.median(added):.2f} | {p99:.2f} |")
            before, with_them = asyncio.run(_idle(gateway, given.streams))
            print(f"\nnginx: {before:.1f} MiB; with {given.streams} idle streams {with_them:.1f} MiB")
        finally:
            server.terminate()
            server.join()
    return 0


def _wait(port: int) -> None:
    """Wait until somebody listens."""

    async def open_one() -> None:
        (await asyncio.open_connection("127.0.0.1", port))[1].close()

    for _ in range(100):
        with contextlib.suppress(OSError):
            asyncio.run(open_one())
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
