"""Accepting: the sockets a shard listens on, and who of the newcomers is taken and who is told to come back.

The outer half of the shard. Promises: while new connections are not wanted (a drain, overload, no room) each gets 503
with a Retry-After; out of descriptors, listening pauses until the next tick and those who are connected are served on.
Does not: read from anybody, nor own what was taken (`gateway.shard` does, the refused included until they close).
"""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections.abc import Callable
from typing import Final

from core.handshake import unavailable
from core.limits import Limits
from gateway.connection import Connection
from gateway.edges import Epoll, Poller

log = logging.getLogger("readback.shard")

ACCEPTS_MAX: Final = 64
_SHORT: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Counts:
    """What the shard counts; plain integers, read by the node's metrics."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.shed = 0
        self.messages_in = 0
        self.bytes_in = 0
        self.protocol_errors = 0
        self.handshakes_refused = 0
        self.idle_ended = 0
        self.turns = 0


class Acceptor:
    """Knows listeners and newcomers. What becomes of a connection, `gateway.shard.Shard` knows."""

    def __init__(self, limits: Limits, poller: Poller | None = None) -> None:
        self.limits = limits
        self.epoll: Poller = Epoll() if poller is None else poller
        self.connections: dict[int, Connection] = {}
        self.listeners: dict[int, socket.socket] = {}
        self.counts = Counts()
        self.tick = 0
        self.refusing_retry_after_s: float | None = None
        """Set while new connections are not wanted (drain, overload): what their refusal says, and up to twice that as
        `jitter` has it, so that those who are refused together do not come back together."""
        self.jitter: Callable[[], float] = lambda: 0.0
        self.shedding_retry_after_s: float | None = None
        """Likewise while new connections are shed (gateway.pulse); a drain has the first word."""
        self._paused = False
        """Not accepting until the next tick, for want of descriptors."""
        self._paused_at: int | None = None

    def _take(self, sock: socket.socket) -> Connection:
        """Make it a connection of the shard, which waits for its handshake."""
        raise NotImplementedError

    def _say_last(self, connection: Connection, data: bytes) -> None:
        """Send this, then end the connection in good order."""
        raise NotImplementedError

    def _due(self, connection: Connection, after_s: float) -> None:
        """Look after the connection then."""
        raise NotImplementedError

    # -- listening ----------------------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.listeners[sock.fileno()] = sock
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def stop_listening(self) -> None:
        for fd, sock in self.listeners.items():
            self.epoll.unregister(fd)
            sock.close()
        self.listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause_listening(error)
                    return
                continue  # that one was gone before its turn came
            self.add(sock)

    def _pause_listening(self, error: OSError) -> None:
        """Out of descriptors or memory. Who waits stays in the kernel's backlog; polling it on would be a busy loop."""
        for fd in self.listeners:
            self.epoll.modify(fd, 0)
        if self._paused_at is None or self.tick - self._paused_at > 60:
            log.warning("cannot accept for now: %s", error.strerror)
        self._paused_at = self.tick
        self._paused = True

    def _listen_again(self) -> None:
        self._paused = False
        for fd in self.listeners:
            self.epoll.modify(fd, select.EPOLLIN)

    # -- newcomers ----------------------------------------------------------------------------------------------------

    def add(self, sock: socket.socket) -> Connection | None:
        """Take a connected socket. Too many, or draining: it is told when to come back and closed."""
        self.counts.accepted += 1
        sock.setblocking(False)
        full = len(self.connections) >= self.limits.connections_max
        retry_after_s = self.refusing_retry_after_s
        if retry_after_s is None and self.shedding_retry_after_s is not None:
            self.counts.shed += 1
            retry_after_s = self.shedding_retry_after_s
        if retry_after_s is not None:
            retry_after_s *= 1.0 + self.jitter()
        elif full:
            retry_after_s = 5.0
        if retry_after_s is not None:
            self.counts.refused += 1
            self._turn_away(sock, unavailable(retry_after_s), full)
            return None
        connection = self._take(sock)
        self._due(connection, self.limits.handshake_timeout_s)
        return connection

    def _turn_away(self, sock: socket.socket, refusal: bytes, full: bool) -> None:
        """Refuse, and let the peer close where there is room to wait for that (`_say_last` says why)."""
        if full:
            try:
                sock.send(refusal)
            except OSError:
                pass
            sock.close()
        else:
            self._say_last(self._take(sock), refusal)
