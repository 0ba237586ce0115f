"""The bytes of readback.v1: frames in become dicts, facts become frames ready for a socket.

Promises: whatever `encode_*` returns is a whole WebSocket text frame holding one JSON object of docs/protocol.md, and
`parse` never raises. It does not decide anything; see `gateway.ops` for what an op does.

Event and answer frames are put together with ``%`` on bytes instead of a JSON encoder: every value that goes in
unescaped was checked against a pattern of `core.model` that allows no character JSON would escape. Measured: 0.75 us an
event against 1.6 us through orjson and a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

import orjson

from core.frames import CLOSE, close_payload, frame, text_frame
from core.model import KEY_RE, PRINCIPAL_RE, STREAM_RE, TYPE_RE

ID_MAX: Final = 2**53 - 1
SEQ_MAX: Final = 2**53 - 1
INT64_LIMIT: Final = 2.0**63


class Close(IntEnum):
    """Close codes: 4000-4499 come back (after retry_after), 4500-4999 do not until something changes."""

    INTERNAL = 4000
    DRAINING = 4001
    OVERLOADED = 4002
    HELLO_TIMEOUT = 4003
    RATE_LIMITED = 4004
    IDLE = 4005
    UNAVAILABLE = 4006
    BAD_FRAME = 4500
    UNAUTHORIZED = 4501
    REVOKED = 4502
    FORBIDDEN = 4503
    SUPERSEDED = 4504
    TOO_LARGE = 4505


class BadFrame:
    """Why a client message is no frame of ours; `Close.BAD_FRAME` follows."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parse(payload: bytes, depth_max: int) -> dict[str, Any] | BadFrame:
    """One client message as a dict, or why it cannot be one. ``payload`` is valid UTF-8 (the frame reader saw to it)."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return BadFrame(f"malformed JSON: {error.msg}")
    if message.__class__ is not dict:
        return BadFrame("a message is one JSON object")
    # Brackets inside strings count too: that only makes the exact walk happen when it need not.
    # Each level takes two of the payload's bytes.
    if (
        len(payload) > 2 * depth_max
        and payload.count(b"{") + payload.count(b"[") > depth_max
        and too_deep(message, depth_max)
    ):
        return BadFrame(f"nested deeper than {depth_max}")
    return message


def too_deep(value: object, depth_max: int) -> bool:
    """Whether lists and dicts nest deeper than ``depth_max``. Iterative: the input chose the depth, not us."""
    level: list[object] = [value]
    for _ in range(depth_max):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = [item for item in below if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def beyond_64_bits(value: object) -> bool:
    """Whether a parsed value holds a number of 2^63 or more that is no integer any more.

    The parser turns integers beyond 64 bits into doubles, whose digits are not those that were sent. Which of the two was
    written cannot be seen afterwards, so a double of that size counts too. Iterative, as `too_deep` is.
    """
    todo = [value]
    while todo:
        item = todo.pop()
        if item.__class__ is float:
            if not -INT64_LIMIT < item < INT64_LIMIT:
                return True
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
    return False


def is_stream(name: object) -> bool:
    return name.__class__ is str and STREAM_RE.match(name) is not None


def is_principal(name: object) -> bool:
    return isinstance(name, str) and PRINCIPAL_RE.match(name) is not None


def is_type(name: object) -> bool:
    return name.__class__ is str and TYPE_RE.match(name) is not None


def is_key(key: object) -> bool:
    """A UUID in canonical lower case. Callers lower-case first where they accept capitals."""
    return key.__class__ is str and KEY_RE.match(key) is not None


def is_seq(value: object) -> bool:
    """An integer that can be a cursor: 0 (before the first event) up to what JSON readers hold exactly."""
    return value.__class__ is int and 0 <= value <= SEQ_MAX


_last_at: tuple[int, bytes] = (-1, b"")
_last_second: tuple[int, bytes] = (-1, b"")


def at_bytes(at_ms: int) -> bytes:
    """RFC 3339 UTC with milliseconds. The last value is kept, since a commit batch shares one time, and so is the last
    second: formatting a date takes 4 us, which a welcome or a pong of another millisecond need not pay."""
    global _last_at, _last_second
    last = _last_at
    if last[0] == at_ms:
        return last[1]
    second, ms = divmod(at_ms, 1000)
    if _last_second[0] != second:
        _last_second = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode())
    text = b"%b.%03dZ" % (_last_second[1], ms)
    _last_at = (at_ms, text)
    return text


def event_json(stream: bytes, seq: int, type: str, key: str, by: str, at_ms: int, body: bytes) -> bytes:
    return b'{"op":"event","stream":"%b","seq":%d,"type":"%b","key":"%b","by":"%b","at":"%b","body":%b}' % (
        stream,
        seq,
        type.encode(),
        key.encode(),
        by.encode(),
        at_bytes(at_ms),
        body,
    )


def encode_event(stream: bytes, seq: int, type: str, key: str, by: str, at_ms: int, body: bytes) -> bytes:
    return text_frame(event_json(stream, seq, type, key, by, at_ms, body))


def encode_sent(id: int, stream: bytes, seq: int, at_ms: int, dup: bool) -> bytes:
    """The answer to a send: what was committed, or what the first send with this key committed."""
    return text_frame(
        b'{"op":"ok","id":%d,"stream":"%b","seq":%d,"at":"%b","dup":%b}'
        % (id, stream, seq, at_bytes(at_ms), b"true" if dup else b"false")
    )


def encode_pong(id: int | None, at_ms: int, resume: str | None) -> bytes:
    extra = b"" if resume is None else b',"resume":"%b"' % resume.encode()
    if id is None:
        return text_frame(b'{"op":"pong","time":"%b"%b}' % (at_bytes(at_ms), extra))
    return text_frame(b'{"op":"pong","id":%d,"time":"%b"%b}' % (id, at_bytes(at_ms), extra))


def encode(message: dict[str, Any]) -> bytes:
    """Any other message. Values are ours or came through `parse`, so orjson takes them all."""
    return text_frame(orjson.dumps(message))


def encode_ok(id: int, **fields: Any) -> bytes:
    return encode({"op": "ok", "id": id, **fields})


def encode_error(
    id: int | None,
    code: str,
    message: str,
    *,
    retry_after: float | None = None,
    head: int | None = None,
    facts: Mapping[str, object] | None = None,
) -> bytes:
    """``facts`` are more fields, as of a refused command its reason."""
    out: dict[str, Any] = {"op": "error", "code": code, "message": message}
    if facts is not None:
        out.update(facts)
    if id is not None:
        out["id"] = id
    if retry_after is not None:
        out["retry_after"] = retry_after
    if head is not None:
        out["head"] = head
    return encode(out)


def encode_reset(stream: str, reason: str, first: int, head: int) -> bytes:
    """What was asked for cannot be given; the events that follow start at ``first``."""
    return encode({"op": "reset", "stream": stream, "reason": reason, "first": first, "head": head})


def encode_mark(stream: str, by: str, delivered: int, read: int) -> bytes:
    return encode({"op": "mark", "stream": stream, "by": by, "delivered": delivered, "read": read})


def encode_signal(stream: str, kind: str, by: str | None, value: Any, age_s: float) -> bytes:
    """``by`` is whose it is; of kind `row`, the row's key."""
    out: dict[str, Any] = {"op": "signal", "stream": stream, "kind": kind}
    if by is not None:
        out["key" if kind == "row" else "by"] = by
    out["value"] = value
    out["age"] = round(max(age_s, 0.0), 1)
    return encode(out)


def encode_bye(close: Close, reason: str, retry_after: float | None = None) -> bytes:
    """The last words: a ``bye`` and the WebSocket close of the same meaning, in one piece."""
    bye = {"op": "bye", "code": close.name.lower(), "reason": reason, "retry_after": retry_after}
    return text_frame(orjson.dumps(bye)) + frame(CLOSE, close_payload(close, reason))
