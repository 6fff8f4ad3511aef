"""Sockets made inside another network namespace, while this process stays where it is."""

from __future__ import annotations

import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor

_CLONE_NEWNET = 0x40000000


class Network:
    """A network namespace that sockets are made in.

    One thread of its own enters the namespace; a socket stays in the namespace it was made in, whoever uses it.
    """

    def __init__(self, descriptor: int) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, initializer=_enter, initargs=(descriptor,))

    def stream(self) -> socket.socket:
        """Make a TCP socket (IPv4) in the namespace."""
        return self._thread.submit(socket.socket, socket.AF_INET, socket.SOCK_STREAM).result()

    def listener(self, port: int) -> socket.socket:
        """Listen on a port of 127.0.0.1 in the namespace, a free one for 0; raises ``OSError`` where it is taken."""
        made = self.stream()
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("127.0.0.1", port))
            made.listen(128)
        except OSError:
            made.close()
            raise
        made.settimeout(0)
        return made

    def close(self) -> None:
        """End the thread, and with it its hold on the namespace."""
        self._thread.shutdown(wait=True)


def _enter(descriptor: int) -> None:
    """Move the calling thread into a network namespace (setns(2); Python has it from 3.12 on only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
