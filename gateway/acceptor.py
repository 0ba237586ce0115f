"""Accepting: the sockets a shard listens on, and who of the newcomers is taken and who is told to come back.

The outer half of the shard. Promises: while new connections are not wanted (a drain, overload, no room) each gets 503
with a Retry-After, and 429 where its address comes too often or guessed too many tokens, before a byte of it is read; out of
descriptors, listening pauses until the next tick and those who are connected are served on. Where TLS is spoken, who is
refused to spare the node work is not given a handshake either, only an alert.
Does not: read from anybody, nor own what was taken (`gateway.shard` does, the refused included until they close).
"""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections.abc import Callable
from typing import Final

import trio

from core.addresses import Addresses, Trusted, canonical, is_loopback
from core.handshake import too_many, unavailable
from core.limits import Limits
from gateway.connection import Connection
from gateway.edges import Epoll, Poller
from gateway.tls import BUSY_ALERT, Tls

log = logging.getLogger("readback.shard")

ACCEPTS_MAX: Final = 64
_SHORT: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Counts:
    """What the shard counts; plain integers, read by the node's metrics."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.shed = 0
        self.limited = 0
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
        self.addresses = Addresses(limits)
        self.trusted = Trusted()
        """Proxies that may say for whom they speak."""
        self.proxy_protocol = False
        """Those begin each connection with a PROXY header."""
        self.tls: Tls | None = None
        self.refusing_retry_after_s: float | None = None
        """Set while new connections are not wanted (drain, overload): what their refusal says, and up to twice that as
        `jitter` has it, so that those who are refused together do not come back together."""
        self.jitter: Callable[[], float] = lambda: 0.0
        self.shedding_retry_after_s: float | None = None
        """Likewise while new connections are shed (gateway.pulse); a drain has the first word."""
        self._paused = False
        """Not accepting until the next tick, for want of descriptors."""
        self._paused_at: int | None = None

    def _take(self, sock: socket.socket, address: str, *, bare: bool = False) -> Connection:
        """Make it a connection of the shard, which waits for its handshake. ``bare``: it only hears our last words."""
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

    def _accept(self, listener: socket.socket, most: int = ACCEPTS_MAX) -> None:
        named = listener.family != socket.AF_UNIX
        for _ in range(most):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause_listening(error)
                    return
                continue  # that one was gone before its turn came
            self.add(sock, peer[0] if named else "")

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

    def add(self, sock: socket.socket, address: str = "") -> Connection | None:
        """Take a connected socket. Too many, or draining: it is told when to come back and closed. ``address`` is its peer's
        as `socket.accept` gives it, empty for a Unix socket."""
        self.counts.accepted += 1
        if ":" in address:
            address = canonical(address) or ""
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
            leaving = self.refusing_retry_after_s is not None
            self._turn_away(sock, address, unavailable(retry_after_s), full, spared=not leaving)
            return None
        refusal = self._knock(address)
        if refusal is not None:
            self._turn_away(sock, address, refusal, full)
            return None
        connection = self._take(sock, address)
        self._due(connection, self.limits.handshake_timeout_s)
        return connection

    def _knock(self, address: str) -> bytes | None:
        """One more of this address, as far as that is known by now: ``None``, or what to refuse it with."""
        if self._exempt(address):
            return None
        wait_s = self.addresses.knock(address, trio.current_time())
        if not wait_s:
            return None
        self.counts.limited += 1
        return too_many(wait_s * (1.0 + self.jitter()))

    def _exempt(self, address: str) -> bool:
        """Whom no rate bounds by itself: this machine, and proxies, who say for whom they speak or carry a crowd."""
        return not address or is_loopback(address) or address in self.trusted

    def guessed(self, connection: Connection) -> float:
        """A token of this connection proved nobody: `guessed_from` its address."""
        return self.guessed_from(connection.address)

    def guessed_from(self, address: str) -> float:
        """A token from this address proved nobody: the seconds during which nobody of it is listened to, 0.0 for none. Not
        for tokens that were good once: who has one of those is not guessing."""
        return 0.0 if self._exempt(address) else self.addresses.guessed(address, trio.current_time())

    def barred_s(self, address: str) -> float:
        """The same, asked without a guess: for HTTP, where a connection is not a newcomer's for long."""
        return 0.0 if self._exempt(address) else self.addresses.barred_s(address, trio.current_time())

    def _turn_away(self, sock: socket.socket, address: str, refusal: bytes, full: bool, *, spared: bool = True) -> None:
        """Refuse, and let the peer close where there is room to wait for that (`_say_last` says why). ``spared``: the node has
        no time for a handshake of TLS."""
        self.counts.refused += 1
        bare = spared or full
        if bare and self.tls is not None:
            refusal = BUSY_ALERT
        if full:
            try:
                sock.send(refusal)
            except OSError:
                pass
            sock.close()
        else:
            self._say_last(self._take(sock, address, bare=bare), refusal)
