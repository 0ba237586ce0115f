"""One connection's tap: stands between a connection and its socket while a capture is on, and tells what passes.

``send``, ``recv`` and the frame reader of the connection are replaced by a `Tap`'s, which do the same and then look at what
passed. Promises: the connection does, and is told, what it would be without; a fault here ends the record of this
connection and nothing else. Files, bounds and what may be written: `gateway.capture`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import orjson

from core.frames import CLOSE, TEXT, FrameReader
from core.wire import Close
from gateway.connection import Connection
from proof.history import Asked, Ended, Open, Record, encode
from proof.watched import EVENT, UNSEEN, Watched

if TYPE_CHECKING:
    from gateway.capture import Capture, Part

log = logging.getLogger("readback.capture")

HELD_MAX: Final = 64
"""Requests that a client may send before its hello is answered; nobody needs more."""
_PONG: Final = b'{"op":"pong"'
_BREACHES: Final = frozenset((1002, 1003, 1007, 1009, Close.BAD_FRAME, Close.TOO_LARGE))

Seen = tuple[bytes, str, int]
"""An event: what its line has after time and connection; its stream and seq."""


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
        if data is capture.last_data:  # a room's event: the same bytes for everybody
            self._events(capture.last_seen)
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
                seen.append(capture.seen(payload))
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
                capture.last_data, capture.last_seen = data, seen

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
        lines, size = part.lines, 0
        for line, stream, seq in seen:
            whole = head + line
            lines.append(whole)
            size += len(whole)
            if stream in cursors:
                cursors[stream] = seq
        part.waiting += size

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
