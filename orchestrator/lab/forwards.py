"""Ports of 127.0.0.1 on this machine that lead into a host: bytes as they come, both ways, half-closes passed on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.lab.namespaces import Network

_CHUNK_BYTES = 65536


class Forward:
    """One listening port of this machine and where it leads: a port of 127.0.0.1 inside a host."""

    def __init__(self, listening: socket.socket, into: Network, port: int) -> None:
        self.outer_port: int = listening.getsockname()[1]
        self._listening = listening
        self._into = into
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.start_server(self._accepted, sock=self._listening)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _carry(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        """Carry one connection; where nobody listens inside, it is reset."""
        far_writer = None
        try:
            loop = asyncio.get_running_loop()
            inner = await asyncio.to_thread(self._into.stream)
            inner.settimeout(0)
            try:
                await loop.sock_connect(inner, ("127.0.0.1", self._port))
            except BaseException:
                inner.close()
                raise
            far, far_writer = await asyncio.open_connection(sock=inner)
            for writer in (near_writer, far_writer):
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(_pump(near, far_writer), _pump(far, near_writer))
        except (OSError, RuntimeError):
            near_writer.transport.abort()
            if far_writer is not None:
                far_writer.transport.abort()
        finally:
            near_writer.close()
            if far_writer is not None:
                far_writer.close()

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._listening.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry one direction until its end, and pass the end on."""
    while chunk := await source.read(_CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()
