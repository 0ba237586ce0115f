"""A link that can be cut or stalled: a TCP proxy between one node and its Redis, under the test's own Trio.

`stall` is a partition as the network makes it (links stay open, nothing arrives, new ones are made and lead nowhere),
`cut` a refusal (links end, new ones too), `mend` undoes either. What was on its way when a stall began arrives after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

CHUNK_BYTES = 65_536


class Proxy:
    """Use `proxy_to`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.links = 0
        """Links made, ever."""
        self._flows = trio.Event()
        self._flows.set()
        self._cut = False
        self._scopes: set[trio.CancelScope] = set()

    def stall(self) -> None:
        self._flows = trio.Event()

    def cut(self) -> None:
        self._cut = True
        for scope in self._scopes:
            scope.cancel()

    def mend(self) -> None:
        self._cut = False
        self._flows.set()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.links += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with client:
                    if self._cut:
                        return
                    try:
                        server = await trio.open_tcp_stream("127.0.0.1", self._target)
                    except OSError:
                        return  # the client sees its end, as it would of a server that is away
                    async with server, trio.open_nursery() as nursery:
                        nursery.start_soon(self._carry, client, server, scope)
                        nursery.start_soon(self._carry, server, client, scope)
            finally:
                self._scopes.discard(scope)

    async def _carry(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some(CHUNK_BYTES):
                await self._flows.wait()
                await sink.send_all(data)
            await self._flows.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port of the loopback, to that port there."""
    proxy = Proxy(port)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, proxy._serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
