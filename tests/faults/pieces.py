"""Replies that come in pieces: a proxy to a real server that lets a number of bytes through to its client and holds the rest.

For a TCP port, or for a Unix socket as Postgres has one. What is held stays in its order and comes with `release`, as
late bytes of a network do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

CHUNK_BYTES = 65_536


class Pieces:
    """Use `pieces_of_port` or `pieces_of_socket`."""

    def __init__(self, target: int | str) -> None:
        self.port = 0
        self.held = trio.Event()
        """Set when there is more than may pass."""
        self._clients: list[trio.SocketStream] = []
        self._target = target
        self._left: int | None = None
        self._goes = trio.Event()
        self._goes.set()

    def hold_after(self, count: int) -> None:
        """From now on, on any link, only so many bytes pass to the client."""
        self._left, self._goes, self.held = count, trio.Event(), trio.Event()

    def release(self) -> None:
        self._left = None
        self._goes.set()

    async def slip_in(self, data: bytes) -> None:
        """Say something in the server's name, on the newest link."""
        await self._clients[-1].send_all(data)

    async def serve(self, client: trio.SocketStream) -> None:
        target = self._target
        try:
            if isinstance(target, int):
                server = await trio.open_tcp_stream("127.0.0.1", target)
            else:
                server = await trio.open_unix_socket(target)  # type: ignore[assignment]
        except OSError:
            await client.aclose()
            return
        self._clients.append(client)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._up, client, server, nursery.cancel_scope)
            await self._down(server, client)
            nursery.cancel_scope.cancel()

    async def _up(self, client: trio.SocketStream, server: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            while data := await client.receive_some(CHUNK_BYTES):
                await server.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()

    async def _down(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        try:
            while data := await server.receive_some(CHUNK_BYTES):
                if self._left is not None:
                    now, data = data[: self._left], data[self._left :]
                    self._left -= len(now)
                    await client.send_all(now)
                    if data:
                        self.held.set()
                        await self._goes.wait()
                await client.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@asynccontextmanager
async def _serving(pieces: Pieces, listener: trio.SocketListener) -> AsyncIterator[Pieces]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, pieces.serve, [listener])
        yield pieces
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pieces_of_port(port: int) -> AsyncIterator[Pieces]:
    """On a free port of the loopback, `Pieces.port`."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pieces = Pieces(port)
    pieces.port = listener.socket.getsockname()[1]
    async with _serving(pieces, listener):
        yield pieces


@asynccontextmanager
async def pieces_of_socket(target: Path, folder: Path) -> AsyncIterator[Pieces]:
    """A socket of the same name in ``folder``."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(folder / target.name))
    sock.listen(64)
    async with _serving(Pieces(str(target)), trio.SocketListener(sock)) as pieces:
        yield pieces
