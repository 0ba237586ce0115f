"""Replies of Postgres to an append, made by the protocol's rules, for tests to cut and spoil."""

from __future__ import annotations

import struct

from core.model import Outcome, Verdict


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", 4 + len(body)) + body


def array(format: str, size: int, *values: int) -> bytes:
    packed = b"".join(struct.pack(f"!i{format}", size, value) for value in values)
    return struct.pack("!iiiii", 1, 0, 20, len(values), 1) + packed


def data_row(*columns: bytes) -> bytes:
    return message(b"D", struct.pack("!h", len(columns)) + b"".join(struct.pack("!i", len(c)) + c for c in columns))


VERDICTS = [Verdict(Outcome.OK, 3, 10, 4, 1_700_000_000_000), Verdict(Outcome.CONFLICT, 3, 0, 9, 0)]
ROW = data_row(
    array("h", 2, 0, 4),
    array("i", 4, 3, 3),
    array("q", 8, 10, 0),
    array("q", 8, 4, 9),
    array("q", 8, 1_700_000_000_000, 0),
)
REPLY = message(b"2", b"") + ROW + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
