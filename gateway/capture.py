"""A capture: what a node's clients send and are sent, written down as a `proof.history` while it serves.

For `readback check --history` over production: the guarantees are then judged by what really went over the wires. Off by
default, and then nothing of this is loaded: the shard calls a hook for each new connection, and no frame meets anything.
On, a connection's ``send``, ``recv`` and frame reader are replaced by a `Tap`'s. Figures: ``python -m bench.capture_cost``.

What is seen. Outgoing: the frames of which the kernel took every byte, in the order in which it did. Incoming: messages
as the reader makes them, before anything is done about them. Time is Unix time, so that the files of several nodes merge
(`proof.files`), as far as their clocks agree.

What is never written: bodies, tokens, the values of signals other than presence and typing. Digests of them are, and
principals, tenants and names of streams.

Bounds. Lines wait in memory for a thread that writes them every `FLUSH_S`, so that a slow disk delays nobody; past
`BUFFER_BYTES` the connection whose line found no room is recorded no further, and the history says so (its `Ended` is
``unseen``): what is not known must not look like a loss. Files are parts of a quarter of ``capture_bytes_max``. Each
stands alone, because the connections that are open at its beginning begin there anew; the oldest is removed when there
are more than four. A disk that takes no more ends the capture, never the node.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import trio

from core.frames import CLOSE, TEXT, FrameReader
from core.limits import Limits
from core.wire import Close
from gateway.config import ConfigError
from gateway.connection import Connection
from proof.history import Asked, Drained, Draining, End, Ended, Exit, Open, Record, Run, Took, encode
from proof.watched import EVENT, UNSEEN, Watched, event_of

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.capture")

FLUSH_S: Final = 0.1
BUFFER_BYTES: Final = 16 * 1024 * 1024
PARTS: Final = 4
CACHE_BYTES: Final = 4 * 1024 * 1024
"""Of events that were taken apart: each goes to many, and is the same for all."""
HELD_MAX: Final = 64
"""Requests that a client may send before its hello is answered; nobody needs more."""
MOVED_AT_ONCE: Final = 256
"""Connections that a turn takes over into a new part: some 20 us each."""
_PONG: Final = b'{"op":"pong"'
_BREACHES: Final = frozenset((1002, 1003, 1007, 1009, Close.BAD_FRAME, Close.TOO_LARGE))

Seen = tuple[bytes, str, int]
"""An event: what its line has after time and connection; its stream and seq."""


class Part:
    """One file: lines that wait for it, and what it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[bytes] = []
        self.waiting = 0
        self.written = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"The capture {path} cannot be written: {error.strerror}.") from None

    def put(self, line: bytes) -> None:
        self.lines.append(line)
        self.waiting += len(line)

    def take(self) -> bytes:
        lines, self.lines = self.lines, []
        self.waiting = 0
        return b"".join(lines)

    def write(self, data: bytes) -> None:
        """All of it. Raises `OSError`. Runs in a thread, never two at once."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.written += len(data)

    def close(self) -> None:
        os.close(self._fd)


class Capture:
    """One node's. ``run`` is a task; what it did not write when it is cancelled, `close` does."""

    def __init__(
        self, folder: Path, node_id: str, limits: Limits, wall: Callable[[], float], *, bus: bool = False
    ) -> None:
        self.folder = folder
        self.node_id = node_id
        self.limits = limits
        self.taps: dict[Connection, Tap] = {}
        self.dropped = 0
        """Connections that were recorded no further, for want of room."""
        self.failed = False
        self._wall = wall
        self._bus = bus
        self._last_t = 0.0
        self._connections = 0
        self._number = 0
        self._seen: dict[bytes, Seen] = {}
        self._seen_bytes = 0
        self._last_data = b""
        self._last_seen: list[Seen] = []
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._parts = self._earlier()
        except OSError as error:
            raise ConfigError(f"The folder {folder} of captures cannot be used: {error.strerror}.") from None
        self.part = self._new_part()
        self._trim()

    def now(self) -> float:
        """Unix time; it never falls, whatever the machine's clock does."""
        t = round(self._wall(), 6)
        if t > self._last_t:
            self._last_t = t
        return self._last_t

    # -- connections --------------------------------------------------------------------------------------------------

    def taken(self, connection: Connection) -> None:
        if not self.failed:
            self._connections += 1
            self.taps[connection] = Tap(self, connection, f"{self.node_id}/{self._connections}")

    def gone(self, connection: Connection) -> None:
        tap = self.taps.pop(connection, None)
        if tap is not None:
            tap.gone()

    def seen(self, data: bytes, payload: bytes) -> Seen:
        """What an event's frame is in a history; taken apart once for all who get it."""
        found = self._seen.get(payload)
        if found is None:
            stream, seq, key, by, what = event_of(orjson.loads(payload))
            line = encode(Took(0.0, "", stream, seq, key, by, what))
            found = line[line.index(b',"stream":') :] + b"\n", stream, seq
            if self._seen_bytes > CACHE_BYTES:
                self._seen.clear()
                self._seen_bytes = 0
            self._seen[payload] = found
            self._seen_bytes += len(payload) + len(line)
        return found

    def room(self) -> bool:
        return self.part.waiting < BUFFER_BYTES

    # -- the node's own life --------------------------------------------------------------------------------------------

    def draining(self, clients: int) -> None:
        self._note(Draining(self.now(), self.node_id, self.limits.drain_window_s, clients))

    def drained(self, unanswered: int) -> None:
        self._note(Drained(self.now(), self.node_id, unanswered))

    def _note(self, record: Record) -> None:
        self.part.put(encode(record) + b"\n")

    # -- files ----------------------------------------------------------------------------------------------------------

    def _earlier(self) -> list[tuple[Path, int]]:
        """Parts that earlier starts of this node left, oldest first: they count."""
        name = re.compile(re.escape(self.node_id.rpartition(".")[0]) + r"\.[0-9a-zA-Z_-]+-\d{5}\.jsonl")
        found = [path for path in self.folder.iterdir() if name.fullmatch(path.name)]
        return [(path, path.stat().st_size) for path in sorted(found, key=lambda path: (path.stat().st_mtime, path))]

    def _new_part(self) -> Part:
        limits = self.limits
        self._number += 1
        part = Part(self.folder / f"{self.node_id}-{self._number:05}.jsonl")
        run = Run(
            self.now(),
            f"capture of node {self.node_id}, part {self._number}; t is Unix time",
            lease_s=limits.lease_s,
            grace_s=limits.presence_grace_s,
            heartbeat_s=limits.heartbeat_s,
            bus=self._bus,
        )
        part.put(encode(run) + b"\n")
        return part

    async def run(self) -> None:
        """Write what waits, again and again; begin another part when this one is full."""
        try:
            while True:
                await trio.sleep(FLUSH_S)
                await self._flush(self.part)
                if self.part.written > self.limits.capture_bytes_max / PARTS:
                    await self._turn_the_page()
        except (OSError, ConfigError) as error:
            self._give_up(error)

    async def _flush(self, part: Part) -> None:
        if data := part.take():
            # Shielded by being a thread: a cancelled write would tear a line in two.
            await trio.to_thread.run_sync(part.write, data)

    async def _turn_the_page(self) -> None:
        old, self.part = self.part, self._new_part()
        for at, tap in enumerate(list(self.taps.values())):
            tap.move(old, self.part)
            if at % MOVED_AT_ONCE == MOVED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        old.put(encode(End(self.now())) + b"\n")
        await self._flush(old)
        old.close()
        self._parts.append((old.path, old.written))
        self._trim()

    def _trim(self) -> None:
        while self._parts and sum(size for _, size in self._parts) + self.part.written > self.limits.capture_bytes_max:
            path, _ = self._parts.pop(0)
            path.unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        log.error("the capture ends here: %s", error)
        self.failed = True
        self.part.take()
        for tap in self.taps.values():
            tap.let_go()
        self.taps.clear()

    @asynccontextmanager
    async def running(self, node: Node) -> AsyncIterator[Capture]:
        """Record what the node's connections do in the block, which begins before the first of them."""
        node.shard.on_taken, node.shard.on_gone = self.taken, self.gone
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run)
                try:
                    yield self
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            node.shard.on_taken = node.shard.on_gone = lambda connection: None
            if not self.failed:
                self.close()

    def close(self) -> None:
        """The node has ended, or cuts whom it still has. Writes what is left at once."""
        for connection in list(self.taps):
            self.gone(connection)
        self._note(Exit(self.now(), self.node_id))
        self._note(End(self.now()))
        try:
            self.part.write(self.part.take())
        except OSError as error:
            log.error("the end of the capture could not be written: %s", error)
        self.part.close()
        self._trim()
        if self.dropped:
            log.warning("the capture had no room for all: %d connections were recorded in part", self.dropped)


class Tap:
    """One connection's: stands between it and its socket, and tells a `Watched` what passes."""

    __slots__ = (
        "_breach",
        "_capture",
        "_connection",
        "_cut_t",
        "_held",
        "_name",
        "_part",
        "_recv",
        "_rest",
        "_send",
        "_shaken",
        "_took",
        "_watched",
    )

    def __init__(self, capture: Capture, connection: Connection, name: str) -> None:
        self._capture = capture
        self._connection = connection
        self._part = capture.part
        self._send, self._recv = connection.send, connection.recv
        self._name = name
        self._watched = Watched(name, capture.node_id, self._emit, capture.now, good=False)
        self._held: list[Open | Asked] = []
        """An opening waits until it is known whose it is, and what was said after it waits behind it."""
        self._shaken = False
        """The answer to the handshake, which is no frame, is out."""
        self._rest = b""
        """The beginning of a frame whose end the kernel has not taken yet."""
        self._cut_t: float | None = None
        """When the socket took less than it was given; until it has taken all that waited."""
        self._breach = False
        """The client broke a rule, or may have: brackets are counted, those in strings too."""
        self._took = _took_line(name)
        connection.send = self.send
        connection.recv = self.recv
        connection.reader = TappedReader(capture.limits.frame_bytes_max, self)

    # -- in place of the socket's -----------------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        try:
            data = self._recv(size, flags)
        except BlockingIOError:
            raise
        except OSError:
            self._watched.ended("network")
            raise
        if not data:
            self._watched.ended("network")
        return data

    def send(self, data: bytes) -> int:
        try:
            sent = self._send(data)
        except BlockingIOError:
            if self._cut_t is None:
                self._cut_t = self._capture.now()
            raise
        except OSError:
            self._watched.ended("network")
            raise
        watched = self._watched
        if not watched.over:
            try:
                if self._cut_t is None:
                    watched.sent_t = None if sent == len(data) else self._capture.now()
                    self._cut_t = watched.sent_t
                elif sent:
                    # What waits for a blocked socket was made when that took no more, whenever it is taken.
                    watched.sent_t = self._cut_t
                if not self._shaken:
                    self._shake(data[:sent])
                elif sent == len(data) and not self._rest:
                    self._out(data)
                elif sent:
                    self._out(self._rest + data[:sent])
                if sent == len(data):
                    self._cut_t = None
            except Exception:
                self._fail()
        return sent

    def _shake(self, data: bytes) -> None:
        """Bytes before the first opening: the handshake's answer, and perhaps what ends the connection."""
        self._rest += data
        _, end, rest = self._rest.partition(b"\r\n\r\n")
        if end:
            self._shaken = True
            self._rest = b""
            if rest:
                self._out(rest)

    # -- what goes out ----------------------------------------------------------------------------------------------------

    def _out(self, data: bytes) -> None:
        capture = self._capture
        if data is capture._last_data:  # a room's event: the same bytes for everybody
            self._events(capture._last_seen)
            return
        at, size, only_events = 0, len(data), True
        seen: list[Seen] = []
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                start = at + 4
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length == 127:
                start = at + 10
                length = int.from_bytes(data[at + 2 : start], "big")
            end = start + length
            if start > size or end > size:
                break
            payload = data[start:end]
            if payload.startswith(EVENT):
                seen.append(capture.seen(data, payload))
            else:
                only_events = False
                if seen:
                    self._events(seen)
                    seen = []
                self._frame(data[at] & 0x0F, payload)
            at = end
        self._rest = data[at:]
        if seen:
            self._events(seen)
            if only_events and not self._rest:
                capture._last_data, capture._last_seen = data, seen

    def _events(self, seen: list[Seen]) -> None:
        watched = self._watched
        if watched.over:
            return
        if self._held:
            self._release()
        if not self._capture.room():
            self._lose()
            return
        head, part, cursors = self._took % self._capture.now(), self._part, watched.cursors
        for line, stream, seq in seen:
            part.put(head + line)
            if stream in cursors:
                cursors[stream] = seq

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            if not payload.startswith(_PONG):
                self._watched.told(payload)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            # Who is ended for a breach that was seen here has ended it himself.
            by = "client" if self._breach and code in _BREACHES else "server"
            self._watched.ended(by, code, payload[2:].decode("utf-8", "replace"))

    # -- what comes in ----------------------------------------------------------------------------------------------------

    def came(self, opcode: int, payload: bytes) -> None:
        try:
            if opcode == TEXT:
                well = self._watched.said(payload)
                if not well or payload.count(b"{") + payload.count(b"[") > self._capture.limits.json_depth_max:
                    self._breach = True
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                self._watched.ended("client", code, payload[2:].decode("utf-8", "replace"))
        except Exception:
            self._fail()

    def breach(self) -> None:
        """The client's bytes cannot be read any further."""
        self._breach = True

    # -- records ----------------------------------------------------------------------------------------------------------

    def _emit(self, record: Record) -> None:
        if isinstance(record, Open) or (isinstance(record, Asked) and self._held):
            self._held.append(record)
            if len(self._held) > HELD_MAX:
                self._lose()
            return
        if self._held:
            self._release()
        if self._capture.room() or isinstance(record, Ended):
            self._part.put(encode(record) + b"\n")
        else:
            self._lose()

    def _release(self) -> None:
        """The node has answered, so it knows by now who this is, if it ever will."""
        connection, watched, now = self._connection, self._watched, self._capture.now()
        watched.tenant, watched.who = connection.tenant, connection.principal
        if connection.auth_expires_at_s:
            watched.expires_t = connection.auth_expires_at_s
        held, self._held = self._held, []
        for record in held:
            record.t = now
            if isinstance(record, Open):
                record.tenant, record.who, record.expires_t = watched.tenant, watched.who, watched.expires_t
                record.privileged = connection.privileged
            self._part.put(encode(record) + b"\n")

    def _lose(self) -> None:
        """No room: nothing of this connection is recorded any more, and its end here says so."""
        if not self._watched.over:
            self._capture.dropped += 1
            self._watched.ended(UNSEEN, reason="no room for its records: not recorded from here on")

    def _fail(self) -> None:
        """A bug here is nobody's but ours: the connection goes on, and its record ends."""
        log.exception("a connection is not recorded any further")
        self._held.clear()
        self._watched.ended(UNSEEN, reason="an internal error: not recorded from here on")

    def gone(self) -> None:
        """The node has closed the socket. Where something still waited to be taken, nobody knows what the client knows."""
        self._watched.ended(UNSEEN if self._connection.blocked else "server")

    def move(self, old: Part, new: Part) -> None:
        """Go on in another part, under another name."""
        if self._held:
            self._release()
        self._part = new
        self._name = _next_name(self._name)
        carried = self._watched.carry(self._name)
        if carried is None:
            if self._watched.opened and not self._watched.over:
                self._part = old
                self._lose()
            return
        end, begin = carried
        old.put(encode(end) + b"\n")
        for record in begin:
            new.put(encode(record) + b"\n")
        self._took = _took_line(self._name)

    def let_go(self) -> None:
        """Out of the connection's way."""
        self._watched.over = True
        self._connection.send, self._connection.recv = self._send, self._recv


class TappedReader(FrameReader):
    """Tells what it reads."""

    __slots__ = ("_tap",)

    def __init__(self, message_bytes_max: int, tap: Tap) -> None:
        super().__init__(message_bytes_max, binary=False)
        self._tap = tap

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        messages = super().feed(data)
        for opcode, payload in messages:
            self._tap.came(opcode, payload)
        if self.error is not None:
            self._tap.breach()
        return messages


def _took_line(name: str) -> bytes:
    """What the line of an event begins with, but for the time."""
    return b'{"k":"took","t":%%.6f,"conn":%b' % orjson.dumps(name).replace(b"%", b"%%")


def _next_name(name: str) -> str:
    """``n/7``, ``n/7~2``, ``n/7~3`` …"""
    base, _, number = name.partition("~")
    return f"{base}~{int(number or 1) + 1}"
