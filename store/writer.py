"""One link that appends: the hot path between a lane and Postgres, on a bare socket under Trio.

asyncpg connects, authenticates and applies the settings; then its socket is taken over and asyncpg forgets the link.
What remains is one prepared statement, `store.pgwire`'s bytes, and a wait for the socket to be readable. Over TLS the
bytes cannot be taken over, and the same statement goes through asyncpg (`TlsWriter`): slower, the same answers.

Promises: a request is answered by its own reply or not at all. Whoever is cancelled, late or cut off leaves a closed link.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

import asyncpg
import trio

from core.model import Entry, Outcome, Verdict
from core.ports import Unavailable
from store.links import Connector
from store.pgerrors import LOST
from store.pgwire import (
    APPEND_SQL,
    AppendCodec,
    Malformed,
    ProtocolError,
    Reply,
    ServerError,
    decode_verdicts,
    parse_message,
    split_reply,
)

_RECV_BYTES = 262_144  # the reply to a batch of 512 is 30 KB


class Writer(Protocol):
    """A link that appends one batch at a time. `ServerError` leaves it usable unless ``closed`` says otherwise."""

    closed: bool

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]: ...

    def is_alive(self) -> bool:
        """Whether the server has said or closed anything since the last reply."""
        ...

    def close(self) -> None: ...


async def open_writer(connector: Connector, codec: AppendCodec) -> Writer:
    link = await connector.connect()
    transport: asyncio.Transport = getattr(link, "_transport")  # noqa: B009 - not in the stubs: it has no public name
    if transport.get_extra_info("ssl_object") is not None:
        return TlsWriter(connector, link)
    sock: socket.socket | None = None
    try:
        sock = transport.get_extra_info("socket").dup()
        writer = SocketWriter(sock, codec)
        await connector.call(_let_go, link, transport)
        await writer.prepare()
    except BaseException:
        # Cancelled before `_let_go` had a turn, asyncpg still holds its own descriptor of the same session.
        connector.terminate(link)
        if sock is not None:
            sock.close()
        raise
    return writer


async def _let_go(link: asyncpg.Connection, transport: asyncio.Transport) -> None:
    """Close asyncpg's descriptor without its goodbye to the server: the session lives on in ours."""
    transport.abort()
    for _ in range(10):  # the transport tells asyncpg in the loop's next turn
        if link.is_closed():
            return
        await asyncio.sleep(0)


class SocketWriter:
    """See `Writer`."""

    def __init__(self, sock: socket.socket, codec: AppendCodec) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._codec = codec
        self.closed = False

    async def prepare(self) -> None:
        await self._roundtrip(parse_message())

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        request = self._codec.encode(entries)  # raises Malformed before anything is sent
        reply = await self._roundtrip(request)
        if reply.row is None:
            self.close()
            raise ProtocolError("no row")
        try:
            return decode_verdicts(reply.row, len(entries))
        except BaseException:
            self.close()
            raise

    async def _roundtrip(self, request: bytes) -> Reply:
        try:
            await self._send(request)
            reply = await self._receive()
        except OSError:
            self.close()
            raise Unavailable(LOST) from None
        except BaseException:
            self.close()
            raise
        if reply.error is not None:
            if reply.error.fatal:
                self.close()
            raise reply.error
        return reply

    async def _send(self, request: bytes) -> None:
        left = memoryview(request)
        while True:
            try:
                sent = self._sock.send(left)
            except BlockingIOError:
                sent = 0
            if sent == len(left):
                return
            left = left[sent:]
            await trio.lowlevel.wait_writable(self._sock)

    async def _receive(self) -> Reply:
        data = bytearray()
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                part = self._sock.recv(_RECV_BYTES)
            except BlockingIOError:
                continue
            if not part:
                raise Unavailable(LOST)
            data += part
            reply = split_reply(data)
            if reply is not None:
                return reply

    def is_alive(self) -> bool:
        if self.closed:
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False  # closed by the server, or it said something unasked: most often that it is shutting down

    def close(self) -> None:
        self.closed = True
        self._sock.close()


class TlsWriter:
    """`Writer` through asyncpg."""

    def __init__(self, connector: Connector, link: asyncpg.Connection) -> None:
        self._connector = connector
        self._link = link
        self._check = AppendCodec()
        self.closed = False

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        self._check.encode(entries)
        try:
            return await self._connector.call(self.append_over, self._link, entries)
        except UnicodeDecodeError:
            raise Malformed("a body is not UTF-8") from None
        except asyncpg.PostgresError as error:
            if self._link.is_closed():
                self.close()
            raise ServerError(error.sqlstate or "XX000", str(error), self._link.is_closed()) from error
        except BaseException:
            self.close()
            raise

    @staticmethod
    async def append_over(link: asyncpg.Connection, entries: Sequence[Entry]) -> list[Verdict]:
        """On the asyncio side."""
        row = await link.fetchrow(
            APPEND_SQL.decode(),
            [entry.tenant for entry in entries],
            [entry.sid for entry in entries],
            [entry.key for entry in entries],
            [entry.type for entry in entries],
            [entry.by for entry in entries],
            [entry.body.decode() for entry in entries],
            [entry.expect for entry in entries],
            [entry.ref for entry in entries],
            [entry.privileged for entry in entries],
        )
        assert row is not None
        outcomes, *numbers = row
        return [Verdict(Outcome(outcome), *rest) for outcome, *rest in zip(outcomes, *numbers, strict=True)]

    def is_alive(self) -> bool:
        return not self.closed and not self._link.is_closed()

    def close(self) -> None:
        self.closed = True
        self._connector.terminate(self._link)
