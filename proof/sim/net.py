"""Simulated sockets: bounded both ways, taking any part of what they are given, and failing as real ones do.

A `Link` is one connection, client to node. Its node end has the methods of a non-blocking `socket.socket` that a shard
calls, and readiness goes through a `Poller` that behaves as a level-triggered epoll set. Its client end is a stream for
tasks. What can happen to a link: partial writes; a full buffer (EAGAIN); latency; dribble (a few bytes at a time); stall
(nothing moves for a while); half-open (one side has gone and the other is not told); cut (a reset for both, unread bytes
lost, also amid a frame); an orderly end. Descriptors are given out as a kernel does it: the lowest that is free.
"""

from __future__ import annotations

import random
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from proof.sim.timers import Timers

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
GONE: Final = select.EPOLLHUP | select.EPOLLERR
FD_MIN: Final = 3


class Poller:
    """The readiness of a host's sockets; a `gateway.edges.Poller`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._masks: dict[int, int] = {}
        self._maybe: dict[int, None] = {}
        """Descriptors whose readiness may have changed, or that were ready when last looked at."""
        self._lot = trio.lowlevel.ParkingLot()
        self.on_poll: Callable[[], None] = lambda: None
        self.register: Callable[[int, int], object] = self._register
        self.modify: Callable[[int, int], object] = self._register
        self.unregister: Callable[[int], object] = self._unregister
        self.poll: Callable[[float, int], list[tuple[int, int]]] = self._poll
        self.close: Callable[[], object] = self._masks.clear

    def _register(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask
        self.touch(fd)

    def _unregister(self, fd: int) -> None:
        del self._masks[fd]
        self._maybe.pop(fd, None)

    def touch(self, fd: int) -> None:
        if fd in self._masks:
            self._maybe[fd] = None
            if self._lot:
                self._lot.unpark_all()

    def _ready(self) -> list[tuple[int, int]]:
        ready = []
        for fd in list(self._maybe):
            what = self._host.sockets[fd].readiness() & (self._masks[fd] | GONE)
            if what:
                ready.append((fd, what))
            else:
                del self._maybe[fd]
        return ready

    def _poll(self, timeout: float, events_max: int) -> list[tuple[int, int]]:
        self.on_poll()
        ready = self._ready()
        if len(ready) > 1:
            self._host.rng.shuffle(ready)
        return ready[:events_max]

    async def wait(self) -> None:
        if self._ready():
            await trio.lowlevel.checkpoint()
            return
        while not self._ready():
            await self._lot.park()


class Host:
    """A node's machine, as far as sockets go: its descriptors, its listener, whether it is there at all."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.rng = rng
        self.dead = False
        """Crashed: nothing that its tasks still do, while they are ended, reaches anybody."""
        self.sockets: dict[int, ServerEnd | Listener] = {}
        self.listener: Listener | None = None
        self.poller = Poller(self)

    def take_fd(self, sock: ServerEnd | Listener) -> int:
        fd = FD_MIN
        while fd in self.sockets:
            fd += 1
        self.sockets[fd] = sock
        return fd

    def crash(self, *, silent: bool) -> None:
        """All links are reset, or (``silent``: the machine lost its power) just answer no more."""
        self.dead = True
        for sock in list(self.sockets.values()):
            if isinstance(sock, ServerEnd):
                if silent:
                    sock.link.half_open()
                else:
                    sock.link.cut()
            else:
                sock.refuse()


class Listener:
    """Where newcomers queue; a listening socket as far as a shard uses one."""

    family = socket.AF_UNIX

    def __init__(self, host: Host) -> None:
        self._host = host
        self._queue: deque[ServerEnd] = deque()
        self._fd = host.take_fd(self)
        host.listener = self

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return self._fd

    def readiness(self) -> int:
        return IN if self._queue else 0

    def put(self, end: ServerEnd) -> None:
        self._queue.append(end)
        self._host.poller.touch(self._fd)

    def accept(self) -> tuple[ServerEnd, tuple[str, int]]:
        if not self._queue:
            raise BlockingIOError
        return self._queue.popleft(), ("client", 0)

    def refuse(self) -> None:
        """Who waits in the queue is reset, as the kernel does it."""
        self._host.listener = None
        while self._queue:
            end = self._queue.popleft()
            end.link.cut()
            end.close()

    def close(self) -> None:
        if self._host.sockets.pop(self._fd, None) is not None:
            self.refuse()


class ServerEnd:
    """The node's end of a link: the methods of a non-blocking socket that `gateway.shard` uses."""

    family = socket.AF_UNIX  # so that nobody asks for TCP_NODELAY

    def __init__(self, link: Link, host: Host) -> None:
        self.link = link
        self.host = host
        self._fd = host.take_fd(self)
        self.closed = False
        self.on_sent: Callable[[bytes], None] = lambda data: None
        """Told what the socket took, before any of it arrives."""

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return self._fd

    def readiness(self) -> int:
        link = self.link
        if link.broken:
            return IN | OUT | GONE
        what = 0
        if link.up or link.up_ended:
            what = IN
        if link.down_held < link.capacity:
            what |= OUT
        return what

    def recv(self, size: int) -> bytes:
        link = self.link
        if link.broken:
            raise ConnectionResetError
        if link.up:
            data = bytes(link.up[:size])
            del link.up[:size]
            link.wake_client()
            return data
        if link.up_ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        link = self.link
        if link.broken or self.host.dead:
            raise ConnectionResetError
        room = link.capacity - link.down_held
        if room <= 0:
            raise BlockingIOError
        size = len(data)
        if size > room:
            size = room
        if size > 1 and link.rng.random() < link.partial:
            size = link.rng.randrange(1, size)
        taken = bytes(data[:size])
        self.on_sent(taken)
        link.down_held += size
        link.carry_down(taken)
        return size

    def shutdown(self, how: int) -> None:
        self.link.carry_down(b"")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            del self.host.sockets[self._fd]
            self.link.server_closed()

    def touch(self) -> None:
        if not self.closed:
            self.host.poller.touch(self._fd)


class Link:
    """One connection, and everything that may be wrong with it."""

    def __init__(
        self,
        name: str,
        host: Host,
        timers: Timers,
        rng: random.Random,
        *,
        capacity: int,
        partial: float,
        latency_s: float,
    ) -> None:
        self.name = name
        self.rng = rng
        self.capacity = capacity
        """Bytes that either direction holds."""
        self.partial = partial
        """How often a send is cut short though there is room."""
        self.latency_s = latency_s
        self.dribble = 0
        """At most so many bytes move at once, each with the latency; 0: all."""
        self.up = bytearray()
        """Towards the node: what it can read now."""
        self.up_ended = False
        self.down = bytearray()
        """Towards the client."""
        self.down_ended = False
        self.down_held = 0
        """Bytes towards the client that it has not read yet, those on their way included."""
        self.broken = False
        self.vanished = False
        """Half open: nothing arrives any more in either direction, and nobody is told."""
        self.reset_client = False
        self._stalled_until_s = 0.0
        self._way_up: deque[bytes] = deque()
        self._way_down: deque[bytes] = deque()
        self._last_up_s = self._last_down_s = 0.0
        self._timers = timers
        self._client = trio.lowlevel.ParkingLot()
        self.end = ServerEnd(self, host)
        self.host = host

    # -- on its way -----------------------------------------------------------------------------------------------------

    def _due_s(self, last_s: float) -> float:
        """When what is sent now arrives: later than what was sent before it."""
        now_s = trio.current_time()
        return max(now_s + self.latency_s, last_s, self._stalled_until_s)

    def carry_down(self, data: bytes) -> None:
        """From the node; empty: its last."""
        if self.vanished:
            return
        pieces = [data] if not self.dribble or not data else _pieces(data, self.dribble)
        for piece in pieces:
            at_s = self._due_s(self._last_down_s) + (self.latency_s if len(pieces) > 1 else 0.0)
            if at_s <= trio.current_time() and not self._way_down:
                self._arrive_down(piece)
            else:
                self._last_down_s = at_s
                self._way_down.append(piece)
                self._timers.at(at_s, self._next_down)

    def _next_down(self) -> None:
        if self._way_down:
            self._arrive_down(self._way_down.popleft())

    def _next_up(self) -> None:
        if self._way_up:
            self._arrive_up(self._way_up.popleft())

    def _arrive_down(self, data: bytes) -> None:
        if self.broken or self.vanished:
            return
        if data:
            self.down += data
        else:
            self.down_ended = True
        self.wake_client()

    def carry_up(self, data: bytes) -> None:
        if self.vanished or self.broken:
            return
        pieces = [data] if not self.dribble or not data else _pieces(data, self.dribble)
        for piece in pieces:
            at_s = self._due_s(self._last_up_s) + (self.latency_s if len(pieces) > 1 else 0.0)
            if at_s <= trio.current_time() and not self._way_up:
                self._arrive_up(piece)
            else:
                self._last_up_s = at_s
                self._way_up.append(piece)
                self._timers.at(at_s, self._next_up)

    def _arrive_up(self, data: bytes) -> None:
        if self.broken or self.vanished:
            return
        if data:
            self.up += data
        else:
            self.up_ended = True
        self.end.touch()

    def wake_client(self) -> None:
        if self._client:
            self._client.unpark_all()

    # -- the client's end ------------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """What is there, all of it; empty at the node's end. Raises `trio.BrokenResourceError` after a reset."""
        while True:
            if self.down:
                data = bytes(self.down)
                self.down.clear()
                self.down_held -= len(data)
                self.end.touch()
                await trio.lowlevel.checkpoint()
                return data
            if self.reset_client:
                raise trio.BrokenResourceError
            if self.down_ended:
                return b""
            await self._client.park()

    async def send(self, data: bytes) -> None:
        """Waits where the node reads too slowly. Raises `trio.BrokenResourceError` after a reset."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.reset_client or self.broken or self.end.closed:
                raise trio.BrokenResourceError
            if len(self.up) < self.capacity:
                self.carry_up(data)
                return
            await self._client.park()

    def finish(self) -> None:
        """The client is done, and says so in good order."""
        if not self.broken:
            self.carry_up(b"")

    # -- trouble ---------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """A reset: unread bytes are lost on both sides."""
        if not self.broken:
            self.broken = self.reset_client = True
            self.up.clear()
            if not self.rng.randrange(3):
                self.down.clear()  # else what had arrived can still be read before the reset is seen
            self.end.touch()
            self.wake_client()

    def stall(self, for_s: float) -> None:
        """Nothing sent from now on arrives for so long."""
        self._stalled_until_s = trio.current_time() + for_s

    def heal(self) -> None:
        """From now on all is quick and whole, and what was on its way is there."""
        self.capacity = 65_536
        self.partial = self.latency_s = self._stalled_until_s = self._last_up_s = self._last_down_s = 0.0
        self.dribble = 0
        while self._way_down:
            self._next_down()
        while self._way_up:
            self._next_up()
        self.end.touch()

    def half_open(self) -> None:
        self.vanished = True
        self.wake_client()

    def server_closed(self) -> None:
        """With bytes unread, closing is a reset; else an end that arrives behind what is on its way."""
        if self.up and not self.broken:
            self.cut()
        elif not self.broken:
            self.carry_down(b"")
        self.wake_client()


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
