"""One client's way to its nodes: a TCP proxy that does to a connection what radio, NAT boxes and tunnels do.

* `cut`: every link ends with a reset, at once; new ones are made as ever.
* `stall`: nothing moves in one direction, or in both, until `flow`; what was on its way arrives then.
* `slow`: each read is passed on so much later, and not before the one ahead of it.
* `dribble`: a few bytes at a time.
* `vanish`: the links that stand lead nowhere from now on, in both directions, and neither side hears the other's end. New
  ones are made as ever: it is what a phone leaves behind that changed its network. The node alone can find out.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

CHUNK_BYTES = 65_536
WINDOW_BYTES = 8_192
PIECE_BYTES_MAX = 24
PIECE_PAUSE_S = 0.002

UP, DOWN = "up", "down"


class Link:
    """One connection over the way."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.client = client
        self.server = server
        self.lost = False
        self.scope = trio.CancelScope()

    def reset(self) -> None:
        """Both sides are told by a reset, whatever was on its way."""
        for stream in (self.client, self.server):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.scope.cancel()


class Way:
    """Use `way_to`. ``target``: the port that a new link leads to, asked at each."""

    def __init__(self, target: Callable[[], int], rng: random.Random) -> None:
        self._target = target
        self._rng = rng
        self.port = 0
        self.links: set[Link] = set()
        self._gates = {UP: trio.Event(), DOWN: trio.Event()}
        for gate in self._gates.values():
            gate.set()
        self._late_s = 0.0
        self._dribbles = False

    @property
    def lost(self) -> int:
        """Links that lead nowhere and that the node still holds."""
        return sum(link.lost for link in self.links)

    def cut(self) -> None:
        for link in list(self.links):
            if not link.lost:
                link.reset()

    def stall(self, *directions: str) -> None:
        for direction in directions:
            self._gates[direction] = trio.Event()

    def slow(self, late_s: float) -> None:
        self._late_s = late_s

    def dribble(self) -> None:
        self._dribbles = True

    def vanish(self) -> None:
        for link in self.links:
            link.lost = True

    def flow(self) -> None:
        """All is as ever, but for the links that vanished."""
        for gate in self._gates.values():
            gate.set()
        self._late_s = 0.0
        self._dribbles = False

    async def serve(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                server = await self._dial()
            except OSError:
                return  # the client sees its end, as it would of a server that is away
            link = Link(client, server)
            self.links.add(link)
            try:
                with link.scope:
                    async with server, trio.open_nursery() as nursery:
                        nursery.start_soon(self._carry, link, UP)
                        nursery.start_soon(self._carry, link, DOWN)
            finally:
                self.links.discard(link)

    async def _dial(self) -> trio.SocketStream:
        """With a window so small that a node notices soon when nothing is taken."""
        sock = trio.socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
            await sock.connect(("127.0.0.1", self._target()))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def _carry(self, link: Link, direction: str) -> None:
        source, sink = (link.client, link.server) if direction == UP else (link.server, link.client)
        try:
            while data := await source.receive_some(CHUNK_BYTES):
                await self._gates[direction].wait()
                if self._late_s:
                    await trio.sleep(self._late_s)
                if not link.lost:
                    await self._pass(sink, data)
            await self._gates[direction].wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if not (link.lost and direction == UP):  # a client that vanished does not say that it goes
            link.scope.cancel()

    async def _pass(self, sink: trio.SocketStream, data: bytes) -> None:
        while data and self._dribbles:
            size = self._rng.randint(1, PIECE_BYTES_MAX)
            await sink.send_all(data[:size])
            data = data[size:]
            await trio.sleep(PIECE_PAUSE_S)
        if data:
            await sink.send_all(data)


@asynccontextmanager
async def way_to(target: Callable[[], int], rng: random.Random | None = None) -> AsyncIterator[Way]:
    """A way on a free port of the loopback."""
    way = Way(target, rng or random.Random(0))
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        way.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, way.serve, [listener])
        yield way
        nursery.cancel_scope.cancel()
