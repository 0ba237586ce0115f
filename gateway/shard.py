"""A shard: one epoll set, all its sockets served in turns by one Trio task.

The task waits for the epoll descriptor itself to become readable, then serves every ready socket with non-blocking
``recv`` and ``send``: no task, no switch and no buffer a connection. What a turn produced for a connection leaves in one
``send`` (`core.hub.Hub.flush`). Ops that must wait for the log run as tasks of the shard's nursery.

Promises: no client input ends another connection; every connection is served at most `RECV_BYTES` and one batch of
messages a turn; a connection that does not take its answers is not read from (`choked`), which bounds what it can pile
up here. Time-outs are counted in ticks of one second by a wheel, so that an idle connection costs nothing between two
heartbeats.
"""

from __future__ import annotations

import logging
import math
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from core import wire
from core.frames import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame, parse_close
from core.handshake import Handshake, Refusal, proxy_wanted
from core.hub import Hub
from core.limits import Limits
from core.proxy import Malformed, Source, forwarded_for
from gateway.acceptor import ACCEPTS_MAX, Acceptor
from gateway.connection import CLOSED, CLOSING, HANDSHAKE, HELLO, OPEN, Connection
from gateway.edges import Poller
from gateway.preface import Preface
from gateway.tls import BUSY_ALERT, SHAKES_A_TURN, TlsSocket, Unwelcome

if TYPE_CHECKING:
    from gateway.ops import Ops

log = logging.getLogger("readback.shard")

RECV_BYTES: Final = 16_384
EVENTS_MAX: Final = 512
MESSAGES_MAX: Final = 64
"""Messages of one connection after which its answers are sent, so that what it does not take is known before the next."""
PASSERS_MAX: Final = 8
"""Connections that are not open yet, or gone, which a turn reads while those that are open talk, and as many are accepted: a
handshake costs 30 us, a token 20, an opening 75 and more, an end 30, so that a storm of them would hold up whoever is there
by 20 ms a turn, twice a send."""
TALK_S: Final = 0.05
"""So long after an open connection was heard, another is expected to be."""
MODERATION_S: Final = 0.001
"""How long arrivals gather where they could not be committed any sooner: a turn of its own for each message costs 25 us of
the loop's own work. Lone sends, and everything while no commit holds others up, are served at once."""
LINGER_TICKS: Final = 2
SAID_AGAIN_TICKS: Final = 60
"""At least so long between two lines of the log about a proxy that does not speak as it is said to."""
ROUNDING_S: Final = 1e-6
"""A time that is met exactly may come out this much too early."""
PING_FRAME: Final = frame(PING, b"")
_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class Shard(Acceptor):
    def __init__(
        self, hub: Hub, limits: Limits, *, origins: frozenset[str] | None, poller: Poller | None = None
    ) -> None:
        super().__init__(limits, poller)
        self.hub = hub
        self.origins = origins
        self.ops: Ops
        self.behind_commit: Callable[[], bool] = lambda: False
        """Whether sends that come in now would only wait behind others for the commit under way."""
        self.on_closed: Callable[[Connection], None] = lambda connection: None
        self.on_let_go: Callable[[Connection], None] = lambda connection: None
        """The socket is closed, whatever the connection had come to."""
        self.now_s = 0.0
        """When this turn began, on Trio's clock: for what need not be exact to the turn."""
        self.on_taken: Callable[[Connection], None] = lambda connection: None
        """A connection has come; and, beside it, one has gone, socket and all. For a capture."""
        self.on_gone: Callable[[Connection], None] = lambda connection: None
        self._misled_at: int | None = None
        self._wheel: dict[int, dict[Connection, None]] = {}
        self._talk_s = -math.inf
        """When an open connection was heard last."""
        self._nursery: trio.Nursery
        self._lost: deque[Connection] = deque()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._tick_forever)
            task_status.started()
            poll, wait, hub = self.epoll.poll, self.epoll.wait, self.hub
            more = False
            while True:
                events = poll(0, EVENTS_MAX)
                if events or more:
                    # Look again before sleeping: under load there is more, and the loop's own wait costs 20 us.
                    await trio.lowlevel.checkpoint()
                else:
                    await wait()
                    if self.behind_commit():
                        await trio.sleep(MODERATION_S)
                    events = poll(0, EVENTS_MAX)
                more = self.serve(events)
                if not more:
                    more = hub.more

    def serve(self, events: list[tuple[int, int]]) -> bool:
        """One turn; True when rings or tours have more to send."""
        hub, connections = self.hub, self.connections
        self.counts.turns += 1
        if self.tls is not None:
            self.tls.shakes_left = SHAKES_A_TURN
        self.now_s = trio.current_time()
        passers = 0
        passers_max = PASSERS_MAX if self.now_s - self._talk_s < TALK_S else EVENTS_MAX
        for fd, what in events:
            connection = connections.get(fd)
            if connection is None:
                if fd in self.listeners:
                    self._accept(self.listeners[fd], min(passers_max, ACCEPTS_MAX))
                continue
            try:
                if what & _OUT:
                    if connection.tls is not None:
                        self._flush_tls(connection, connection.tls)
                    hub.pump(connection)
                    if connection.backlog is not None and not connection.busy:
                        self._catch_up(connection)
                if what & (_IN | _GONE):
                    if connection.state is OPEN and not what & _GONE:
                        self._talk_s = self.now_s
                    elif passers >= passers_max:
                        continue  # what it says, or that it is gone, stays in the kernel until the next turn
                    else:
                        passers += 1
                    self._read(connection)
            except Exception:
                # The one exception boundary of a connection: a bug met by its input ends it and nothing else.
                log.exception("connection of tenant %r ended by an internal error", connection.tenant)
                self.bye(connection, wire.Close.INTERNAL, "internal error")
        hub.flush()
        more = hub.turn(trio.current_time()) if hub.more else False
        while self._lost:
            self.close(self._lost.popleft())
        return more

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if isinstance(error, Unwelcome):
                self._unwelcome(connection, error.words)
            else:
                self.close(connection)
            return
        if not data:
            self.close(connection)
            return
        self.counts.bytes_in += len(data)
        connection.heard = self.tick
        if connection.handshake is None:
            self._messages(connection, data)
        elif connection.state is HANDSHAKE:
            self._handshake(connection, connection.handshake, data)

    def _messages(self, connection: Connection, data: bytes) -> None:
        if connection.state >= CLOSING:
            return
        count = 0
        for opcode, payload in connection.reader.feed(data):
            if opcode == TEXT:
                count += 1
                if count == MESSAGES_MAX:
                    self.counts.messages_in += count
                    count = 0
                    self.hub.flush()  # so that the answers' size shows in time
                if (
                    connection.busy
                    or connection.backlog is not None
                    or (connection.replies is not None and self._full(connection))
                ):
                    self._later(connection, payload)
                else:
                    self.ops.message(connection, payload)
            elif opcode == PING:
                self.hub.reply(connection, frame(PONG, payload))
            elif opcode == CLOSE:
                self._closed_by_peer(connection, payload)
            if connection.state >= CLOSING:
                self.counts.messages_in += count
                return
        self.counts.messages_in += count
        error = connection.reader.error
        if error is not None:
            self.counts.protocol_errors += 1
            if error.code == 1009:
                self.bye(connection, wire.Close.TOO_LARGE, error.reason)
            else:
                self._say_last(connection, frame(CLOSE, close_payload(error.code, error.reason)))
        elif connection.replies is not None and not connection.choked and self._full(connection):
            connection.choked = True
            self.watch(connection)

    def _full(self, connection: Connection) -> bool:
        """Whether as many answers wait for a blocked connection as may."""
        if connection.replies is None:
            return False
        limits = self.limits
        many = len(connection.replies) > limits.replies_per_connection_max
        return many or connection.reply_bytes > limits.reply_bytes_per_connection_max

    def _later(self, connection: Connection, payload: bytes) -> None:
        """Messages after one that waits, for the log or for room for its answer, keep their order; nothing more is
        read until then."""
        if connection.backlog is None:
            connection.backlog = []
        connection.backlog.append(payload)
        if not connection.choked:
            connection.choked = True
            self.watch(connection)

    def wait_for(self, connection: Connection, work: Callable[[], object]) -> None:
        """Run an op that must wait as a task; ``work`` is an async callable. The connection is `busy` until then. Where it
        returns a callable, that is called next, as if a message had just come: it may call `wait_for` in its turn."""
        connection.busy = True
        self._nursery.start_soon(self._work, connection, work)

    async def _work(self, connection: Connection, work: Callable[[], object]) -> None:
        try:
            then = await work()  # type: ignore[misc]  # an async callable, by the contract of `wait_for`
            connection.busy = False
            self.now_s = trio.current_time()
            if then is not None and connection.state < CLOSING:
                then()
            if not connection.busy:
                self._catch_up(connection)
        except Exception:
            connection.busy = False
            log.exception("connection of tenant %r ended by an internal error", connection.tenant)
            self.bye(connection, wire.Close.INTERNAL, "internal error")
        self.hub.flush()
        self.reap()

    def hold(self, connection: Connection) -> None:
        """The connection is `busy` until `go_on`, without a task."""
        connection.busy = True

    def go_on(self, connection: Connection, work: Callable[[], None]) -> None:
        """What a connection that was held waited for; it may call `wait_for`."""
        connection.busy = False
        self.now_s = trio.current_time()
        try:
            work()
            if not connection.busy:
                self._catch_up(connection)
        except Exception:
            log.exception("connection of tenant %r ended by an internal error", connection.tenant)
            self.bye(connection, wire.Close.INTERNAL, "internal error")

    def _catch_up(self, connection: Connection) -> None:
        """Messages that waited, until one has to wait again: for the log (`_work` calls this again), or for the
        connection to take its answers (`serve` does, when it is writable)."""
        backlog, connection.backlog = connection.backlog, None
        for at, payload in enumerate(backlog or ()):
            if connection.state >= CLOSING:
                return
            if at and not at % MESSAGES_MAX:
                self.hub.flush()
            if connection.busy or self._full(connection):
                assert backlog is not None
                connection.backlog = backlog[at:]
                return
            self.ops.message(connection, payload)
        if connection.choked and not connection.busy and not connection.closed:
            connection.choked = False
            self.watch(connection)

    def reap(self) -> None:
        """Close what `lost` found gone. Called wherever something was sent outside a turn."""
        while self._lost:
            self.close(self._lost.popleft())

    # -- opening ------------------------------------------------------------------------------------------------------

    def _take(self, sock: socket.socket, address: str, *, bare: bool = False) -> Connection:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake = Handshake(self.limits.handshake_bytes_max, allowed_origins=self.origins)
        tls = None if bare or self.tls is None else TlsSocket(sock, self.tls)
        connection = Connection(sock if tls is None else tls, self, handshake, self.limits.frame_bytes_max)
        if tls is not None:
            connection.tls = tls
            tls.connection = connection
        connection.address = address
        if self.proxy_protocol and not bare and address in self.trusted:
            Preface(connection, sock, self._introduced)
        connection.heard = self.tick
        connection.mask = _IN
        self.connections[connection.fd] = connection
        self.epoll.register(connection.fd, _IN)
        self.on_taken(connection)
        return connection

    def _handshake(self, connection: Connection, handshake: Handshake, data: bytes) -> None:
        answer = handshake.feed(data)
        if answer is None:
            return
        if isinstance(answer, Refusal):
            self.counts.handshakes_refused += 1
            connection.handshake = None
            self._say_last(connection, answer.response)
            return
        if answer.forwarded is not None and connection.address in self.trusted:
            refusal = self._speaks_for(connection, forwarded_for(answer.forwarded, self.trusted))
            if refusal is not None:
                self.counts.refused += 1
                connection.handshake = None
                self._say_last(connection, refusal)
                return
        connection.handshake = None
        connection.state = HELLO
        connection.authorization = answer.authorization
        connection.host = answer.host
        self.hub.reply(connection, answer.response)
        self._due(connection, self.limits.hello_timeout_s)
        if answer.rest:
            self._messages(connection, answer.rest)

    def _introduced(self, connection: Connection, source: Source | Malformed) -> None:
        """What a trusted proxy's PROXY header says. Raises `Unwelcome` for none, and for an address that comes too often."""
        if isinstance(source, Malformed):
            if self._misled_at is None or self.tick - self._misled_at >= SAID_AGAIN_TICKS:
                self._misled_at = self.tick
                log.warning("the trusted proxy %s began a connection wrongly: %s", connection.address, source.reason)
            raise Unwelcome(proxy_wanted())
        refusal = self._speaks_for(connection, source.address)
        if refusal is not None:
            self.counts.refused += 1
            raise Unwelcome(refusal if connection.tls is None else BUSY_ALERT)

    def _speaks_for(self, connection: Connection, address: str | None) -> bytes | None:
        """The connection is a client's of this address, says a trusted proxy: ``None``, or what to refuse it with."""
        if address is None or address == connection.address:
            return None
        connection.address = address
        return self._knock(address)

    def _unwelcome(self, connection: Connection, words: bytes) -> None:
        """One that does not even begin as it must, or whose TLS broke: the words are the last it hears, outside of TLS."""
        if connection.state is HANDSHAKE:
            self.counts.handshakes_refused += 1
        else:
            self.counts.protocol_errors += 1
        try:
            if connection.tls is not None:
                connection.tls.give_up(words)
                words = b""
        except OSError:
            self.close(connection)
        else:
            self._say_last(connection, words)

    def put_off(self, connection: Connection, after_s: float) -> None:
        """Look after a connection that waits for us only then."""
        self._due(connection, after_s)

    def opened(self, connection: Connection) -> None:
        connection.state = OPEN
        self._next_look(connection)

    def renewed(self, connection: Connection) -> None:
        """Its access token ends at another time now."""
        self._next_look(connection)

    def _next_look(self, connection: Connection) -> None:
        """At the next heartbeat, or when its access token ends."""
        self._due(connection, min(self.limits.heartbeat_s, self.ops.welcome_for_s(connection)))

    # -- ending -------------------------------------------------------------------------------------------------------

    def bye(self, connection: Connection, close: wire.Close, reason: str, retry_after_s: float | None = None) -> None:
        """Say why, close, and throw away what still comes in."""
        if connection.state is HANDSHAKE:
            self.close(connection)
        else:
            self._say_last(connection, wire.encode_bye(close, reason, retry_after_s))

    def _closed_by_peer(self, connection: Connection, payload: bytes) -> None:
        answer = parse_close(payload)
        echo = close_payload(answer[0], "") if isinstance(answer, tuple) and payload else b""
        self._say_last(connection, frame(CLOSE, echo))

    def _say_last(self, connection: Connection, data: bytes) -> None:
        """Last bytes, then a half-close: closing at once would turn bytes still unread here into a reset that could
        reach the peer before our reason does. A blocked socket is not waited for longer than the linger."""
        if connection.state >= CLOSING:
            return
        self.hub.reply(connection, data)
        self.hub.flush()
        if connection.state >= CLOSING or connection.closed:
            return
        self._release(connection)
        if not connection.blocked:
            self._half_close(connection)
        if connection.choked:
            connection.choked = False
            self.watch(connection)
        self._due(connection, LINGER_TICKS)

    def _half_close(self, connection: Connection) -> None:
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _release(self, connection: Connection) -> None:
        """Out of every room and session; only last bytes may still be on their way."""
        waiting = (connection.rest, connection.replies, connection.reply_bytes, connection.blocked)
        self.hub.drop(connection, trio.current_time())
        if connection.state is OPEN:
            self.on_closed(connection)
        connection.state = CLOSING
        connection.backlog = None
        # The port stays usable for those last bytes alone.
        connection.closed = False
        connection.rest, connection.replies, connection.reply_bytes, connection.blocked = waiting

    def lost(self, connection: Connection) -> None:
        """``send`` found the connection gone, perhaps amid a loop over its room: close it after this turn."""
        self._lost.append(connection)

    def close(self, connection: Connection) -> None:
        if connection.state is CLOSED:
            return
        self.hub.drop(connection, trio.current_time())
        if connection.state is OPEN:
            self.on_closed(connection)
        connection.state = CLOSED
        connection.backlog = None
        self._undue(connection)
        del self.connections[connection.fd]
        self.epoll.unregister(connection.fd)
        connection.sock.close()
        connection.recv = connection.sock.recv  # a preface that never came would keep the connection in a cycle
        self.on_let_go(connection)
        self.on_gone(connection)

    def watch(self, connection: Connection) -> None:
        """Tell epoll what matters for the connection now."""
        out = connection.blocked if connection.tls is None else connection.tls.wants_out(connection.blocked)
        mask = (0 if connection.choked else _IN) | (_OUT if out else 0)
        if connection.state is CLOSING and not connection.blocked and not connection.closed:
            self._half_close(connection)
        if connection.choked and not connection.blocked and not connection.busy and connection.backlog is None:
            connection.choked = False  # it was choked for its answers, and they are gone
            mask |= _IN
        if mask != connection.mask and connection.state is not CLOSED:
            connection.mask = mask
            self.epoll.modify(connection.fd, mask)

    def wants_out(self, connection: Connection) -> None:
        """Ciphertext waits for the kernel, whatever the hub waits for."""
        if not connection.mask & _OUT and connection.state is not CLOSED:
            connection.mask |= _OUT
            self.epoll.modify(connection.fd, connection.mask)

    def _flush_tls(self, connection: Connection, tls: TlsSocket) -> None:
        try:
            tls.flush()
        except OSError:
            self.close(connection)
            return
        if not connection.blocked:
            self.watch(connection)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _due(self, connection: Connection, after_s: float) -> None:
        self._undue(connection)
        connection.due = self.tick + max(1, round(after_s))
        self._wheel.setdefault(connection.due, {})[connection] = None

    def _undue(self, connection: Connection) -> None:
        """The wheel holds nobody who is gone: in a storm of returns that would be a hundred thousand connections."""
        same = self._wheel.get(connection.due)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._wheel[connection.due]

    async def _tick_forever(self) -> None:
        start = trio.current_time()
        while True:
            await trio.sleep_until(start + self.tick + 1)
            self.tick = int(trio.current_time() - start + ROUNDING_S)
            if self._paused:
                self._listen_again()
            for due in [tick for tick in self._wheel if tick <= self.tick]:
                for connection in self._wheel.pop(due):
                    if connection.due == due:
                        self._look_after(connection)
            self.hub.flush()
            self.reap()

    def _look_after(self, connection: Connection) -> None:
        """A connection's time has come: what that means depends on where it stands."""
        state, silent_for = connection.state, self.tick - connection.heard
        if state is HANDSHAKE or state is CLOSING:
            self.close(connection)
        elif state is HELLO and connection.busy:
            self.bye(connection, wire.Close.UNAVAILABLE, "the log is slow to answer", 1.0)
        elif state is HELLO:
            self.bye(connection, wire.Close.HELLO_TIMEOUT, f"no hello within {self.limits.hello_timeout_s:g} s")
        elif state is OPEN:
            heartbeat_s = self.limits.heartbeat_s
            if silent_for > 2 * heartbeat_s:
                self.counts.idle_ended += 1
                self.bye(connection, wire.Close.IDLE, f"nothing heard for {2 * heartbeat_s:g} s")
            elif not self.ops.still_welcome(connection):
                self.bye(connection, wire.Close.UNAUTHORIZED, "the access token has expired")
            else:
                idle_s = self.limits.presence_idle_s
                if idle_s and not connection.away and self.tick - connection.active >= idle_s:
                    connection.idled = True
                    self.hub.signals.set_away(connection, True)
                self.hub.reply(connection, PING_FRAME)
                self._next_look(connection)

    def end(self) -> None:
        """Close everything at once; for the very end of a drain."""
        self.stop_listening()
        for connection in list(self.connections.values()):
            self.close(connection)
        self.epoll.close()


assert BINARY not in (TEXT, CLOSE, PING, PONG)  # the reader refuses binary messages, so `_messages` never sees one
