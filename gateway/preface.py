"""The PROXY header with which a trusted proxy begins a connection, read before anything else, TLS included."""

from __future__ import annotations

import socket
from collections.abc import Callable

from core.proxy import Malformed, ProxyHeader, Source
from gateway.connection import Connection


class Preface:
    """Stands in for ``connection.recv`` until the header is whole, and reads not one byte beyond it. ``decide`` is told what
    it says, once, and may raise OSError."""

    __slots__ = ("_connection", "_decide", "_header", "_raw", "_then")

    def __init__(
        self, connection: Connection, raw: socket.socket, decide: Callable[[Connection, Source | Malformed], None]
    ) -> None:
        self._connection: Connection | None = connection
        self._raw = raw
        self._decide = decide
        self._header = ProxyHeader()
        self._then = connection.recv
        connection.recv = self.recv

    def recv(self, size: int, flags: int = 0) -> bytes:
        connection = self._connection
        if connection is None:  # whoever put himself in front of us meanwhile (a capture) still asks here
            return self._then(size, flags)
        data = self._raw.recv(self._header.wanted)
        if not data:
            return b""
        answer = self._header.feed(data)
        if answer is None:
            raise BlockingIOError
        self._connection = None
        if connection.recv == self.recv:
            connection.recv = self._then
        self._decide(connection, answer)
        return self._then(size, flags)
