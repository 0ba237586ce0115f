"""readback.v1 as this client writes and reads it: names checked, frames built, fields taken out with their types.

Reading is strict where a wrong field would break a promise (seq, stream) and forgiving elsewhere, for servers add
fields. A frame that cannot be read raises `Malformed`, which costs that connection and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from readback_client._errors import Rejected, WireError, wire_error
from readback_client._values import Event

SUBPROTOCOL = "readback.v1"
STREAM_RE = re.compile(r"(chat|flight|trip|user|audit):[A-Za-z0-9._~-]{1,128}\Z")
KEY_RE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

Frame = Mapping[str, object]


class Malformed(Exception):
    """The server sent what the contract does not allow; the message is for a log or a status line."""


def check_stream(stream: str) -> str:
    """The name itself, or `ValueError`.

    >>> check_stream("chat:ops")
    'chat:ops'
    """
    if not isinstance(stream, str) or STREAM_RE.match(stream) is None:
        raise ValueError(f"{stream!r} is not a stream name: kind:name, kind one of chat, flight, trip, user, audit")
    return stream


def check_key(key: str) -> str:
    """The key as the wire wants it (canonical lower-case UUID), or `ValueError`."""
    lowered = key.lower()
    if KEY_RE.match(lowered) is None:
        raise ValueError(f"{key!r} is not a UUID, so it cannot be a send's key")
    return lowered


def check_body(body: object) -> None:
    """Refuses what JSON cannot say. orjson would write NaN as null, and silence is the one thing not wanted here."""
    if not isinstance(body, Mapping):
        raise TypeError(f"a body is a mapping (a JSON object), not {type(body).__name__}")
    pending: list[object] = [body]
    while pending:
        value = pending.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"a body cannot carry {value!r}: JSON has no such number")
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)


def encode(fields: Mapping[str, object]) -> str:
    """Compact JSON text; `TypeError` where a value has no JSON form."""
    try:
        return orjson.dumps(fields).decode()
    except orjson.JSONEncodeError as error:
        raise TypeError(f"cannot be written as JSON: {error}") from None


def spliced(op: str, id: int, tail: str) -> str:
    """A frame from fields encoded once (``tail``, a JSON object) and the id of this attempt."""
    rest = tail[1:] if tail == "{}" else "," + tail[1:]
    return f'{{"op":"{op}","id":{id}{rest}'


def decode(text: str | bytes) -> Frame:
    if isinstance(text, bytes):
        raise Malformed("the server sent a binary frame")
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Malformed("the server sent what is not JSON") from None
    if not isinstance(frame, dict):
        raise Malformed("the server sent JSON that is not an object")
    return frame


def text_of(frame: Frame, name: str) -> str:
    value = frame.get(name)
    if not isinstance(value, str):
        raise Malformed(f"a frame without its {name!r}")
    return value


def seq_of(frame: Frame, name: str) -> int:
    value = frame.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Malformed(f"a frame without its {name!r}")
    return value


def maybe_seq(frame: Frame, name: str) -> int | None:
    value = frame.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def maybe_seconds(frame: Frame, name: str) -> float | None:
    """A finite, non-negative number of seconds, or ``None``: a server's NaN or -1 must not become a sleep."""
    value = frame.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    seconds = float(value)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def frame_of(frame: Frame, name: str) -> Frame:
    value = frame.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"a frame without its {name!r}")
    return value


def time_of(frame: Frame, name: str) -> datetime:
    """RFC 3339, in UTC.

    >>> time_of({"at": "2026-11-21T09:30:00.250Z"}, "at").isoformat()
    '2026-11-21T09:30:00.250000+00:00'
    """
    try:
        return datetime.fromisoformat(text_of(frame, "at")).astimezone(UTC)
    except ValueError:
        raise Malformed(f"a frame whose {name!r} is not a time") from None


def event_of(frame: Frame, stream: str | None = None) -> Event:
    """An `event` frame, or an element of a history answer (which need not repeat the stream)."""
    body = frame.get("body")
    key = frame.get("key")
    return Event(
        stream if stream is not None else text_of(frame, "stream"),
        seq_of(frame, "seq"),
        text_of(frame, "type"),
        key if isinstance(key, str) else "",
        text_of(frame, "by"),
        time_of(frame, "at"),
        body if isinstance(body, dict) else None,
    )


def error_of(frame: Frame) -> WireError:
    message = frame.get("message")
    error = wire_error(
        text_of(frame, "code"),
        message if isinstance(message, str) else "",
        maybe_seconds(frame, "retry_after"),
        maybe_seq(frame, "head"),
    )
    if isinstance(error, Rejected):
        reason, cite = frame.get("reason"), frame.get("cite")
        error.reason = reason if isinstance(reason, str) else ""
        error.cite = cite if isinstance(cite, str) else ""
        error.dup = frame.get("dup") is True
    return error
