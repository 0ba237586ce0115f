"""How a load generator speaks to each kind of server: Readback's own wire, and the same inside Socket.IO's framing.

`Dialect` is plain: JSON text frames as docs/protocol.md has them, which every peer but one speaks. `SocketIO` wraps the
same JSON in Engine.IO and Socket.IO packets (WebSocket transport only): an operation is an event with an
acknowledgement, an answer is the acknowledgement, an event of a stream is an event.

Only prefixes are compared on the hot path; a server whose answers start otherwise would count as having sent nothing,
and the run would fail on its counts rather than flatter anybody.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import orjson

Streams = Mapping[str, Mapping[str, int]]


class OpeningError(Exception):
    """The server did not welcome the connection; the message is what it said instead."""


class Dialect:
    """Readback's wire. A server without tokens ignores the field."""

    name = "plain"
    path = "/v1/ws"
    event_prefix = b'{"op":"event"'
    answer_prefix = b'{"op":"ok"'
    pong_prefix = b'{"op":"pong"'

    def request(self, op: str, ident: int, message: bytes) -> bytes:
        """The frame's payload that carries ``message``, whose JSON names ``op`` and ``ident`` already."""
        return message

    def hello(self, token: str | None, streams: Streams, *, publish: bool = False) -> bytes:
        fields: dict[str, Any] = {"op": "hello", "id": 1, "streams": streams}
        if token is not None:
            fields["token"] = token
        if publish:
            fields["publish"] = True
        return self.request("hello", 1, orjson.dumps(fields))

    def resume(self, token: str, log: str, cursors: Mapping[str, int]) -> bytes:
        fields = {"op": "resume", "id": 1, "resume": token, "log": log, "streams": cursors}
        return self.request("resume", 1, orjson.dumps(fields))

    def first(self, hello: bytes) -> bytes | None:
        """What the client sends as soon as the upgrade is done."""
        return hello

    def opening(self, payload: bytes, hello: bytes) -> tuple[bytes | None, dict[str, Any] | None]:
        """One frame during the opening: what to send in return, and the welcome once it is there.

        `OpeningError` when the server refuses.
        """
        message = orjson.loads(payload)
        if message["op"] == "welcome":
            return None, message
        if message["op"] in ("error", "bye"):
            raise OpeningError(payload.decode(errors="replace"))
        return None, None

    def control(self, payload: bytes) -> bytes | None:
        """The answer to a frame that keeps the connection alive; ``None`` for any other."""
        return None

    def ping(self, ident: int, size: int) -> bytes:
        """A ping padded to about ``size`` bytes (unknown fields are ignored)."""
        bare = b'{"op":"ping","id":%d' % ident
        pad = max(0, size - len(bare) - len(b',"pad":""}'))
        return self.request("ping", ident, b'%s,"pad":"%s"}' % (bare, b"x" * pad))

    def send(self, ident: int, stream: bytes, key: bytes, body: bytes) -> bytes:
        message = b'{"op":"send","id":%d,"stream":"%s","key":"%s","type":"message","body":%s}' % (
            ident,
            stream,
            key,
            body,
        )
        return self.request("send", ident, message)


class SocketIO(Dialect):
    name = "socketio"
    path = "/socket.io/?EIO=4&transport=websocket"
    event_prefix = b'42["event",'
    answer_prefix = b"43"
    pong_prefix = b"43"

    def __init__(self) -> None:
        self.recover: dict[str, str] = {}
        """``pid`` and ``offset`` of a session to recover, where the server keeps any."""

    def request(self, op: str, ident: int, message: bytes) -> bytes:
        return b'42%d["%s",%s]' % (ident, op.encode(), message)

    def first(self, hello: bytes) -> bytes | None:
        return None

    def opening(self, payload: bytes, hello: bytes) -> tuple[bytes | None, dict[str, Any] | None]:
        if payload.startswith(b"0{"):
            return b"40" + (orjson.dumps(self.recover) if self.recover else b""), None
        if payload.startswith(b"40"):
            pid = orjson.loads(payload[2:]).get("pid")
            if pid:
                self.recover = {"pid": pid, **({"offset": self.recover["offset"]} if "offset" in self.recover else {})}
            return hello, None
        if payload.startswith(b"43"):
            welcome: dict[str, Any] = orjson.loads(payload[payload.index(b"[") :])[0]
            return None, welcome
        if payload.startswith(b"44"):
            raise OpeningError(payload.decode(errors="replace"))
        return self.control(payload), None

    def control(self, payload: bytes) -> bytes | None:
        return b"3" if payload == b"2" else None


def dialect_of(name: str) -> Dialect:
    """A new one for each connection where it holds state; `ValueError` for an unknown name."""
    if name == "plain":
        return Dialect()
    if name == "socketio":
        return SocketIO()
    raise ValueError(f"no dialect {name!r}")


class Keys:
    """Idempotency keys: a random prefix a process, then a counter. Unique, and cheaper than a UUID each."""

    __slots__ = ("_next", "_prefix")

    def __init__(self) -> None:
        self._prefix = str(uuid.uuid4())[:24].encode()
        self._next = 0

    def __call__(self) -> bytes:
        self._next += 1
        return b"%s%012x" % (self._prefix, self._next)


def sent_at_ns(payload: bytes) -> int:
    """The send time that travels in an event's body as its first field, ``{"t":…,``. -1 where there is none."""
    at = payload.find(b'"t":')
    return -1 if at < 0 else int(payload[at + 4 : payload.index(b",", at)])


def seq_of(payload: bytes) -> int:
    """The seq of an event, read without parsing the rest."""
    at = payload.index(b'"seq":') + 6
    end = payload.index(b",", at)
    return int(payload[at:end])


def body(at_ns: int, size: int) -> bytes:
    """A body of about ``size`` bytes that carries its send time."""
    head = b'{"t":%d,"text":"' % at_ns
    return b'%s%s"}' % (head, b"x" * max(0, size - len(head) - 2))
