"""The bytes of one prepared statement: how a batch of entries becomes Postgres messages, and a reply becomes verdicts.

Sans-I/O, and only as much of the frontend protocol (version 3, binary format) as `store.writer` needs for
``readback.append``: connecting and authenticating is asyncpg's. Why it exists is docs/decisions/0011: on Trio the same
call through asyncpg costs four times the CPU.

This is the hot path of every send. Arrays are joined from encoded elements; those that repeat (tenants, types,
principals) are encoded and checked once and remembered.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.model import KEY_RE, PRINCIPAL_RE, TENANT_RE, TYPE_RE, Entry, Outcome, Verdict

STATEMENT = b"append"
APPEND_SQL = b"select outcomes, partitions, poss, seqs, ats from readback.append($1, $2, $3, $4, $5, $6, $7, $8, $9)"
REMEMBERED_MAX = 65_536  # encoded names kept, a kind; forgotten all at once when full
REPLY_BYTES_MAX = 16_777_216  # a reply is 50 bytes an entry: this is nonsense on the wire, not a reply
INT64_MAX = 2**63 - 1

_OID_BOOL, _OID_INT8, _OID_TEXT, _OID_UUID = 16, 20, 25, 2950
_OID_ARRAYS = (1009, 1016, 2951, 1009, 1009, 1009, 1016, 1016, 1000)

_int32 = struct.Struct("!i").pack
_element8 = struct.Struct("!iq").pack  # an int8 element: its length, its value
_header = struct.Struct("!iiiii").pack  # dimensions, has nulls, element type, count, lower bound
_NULL = _int32(-1)
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"
_OUTCOMES = tuple(Outcome)
_BIND_HEAD = b"\0" + STATEMENT + b"\0" + struct.pack("!hhh", 1, 1, 9)  # unnamed portal; all parameters binary
_BIND_TAIL = struct.pack("!hh", 1, 1)  # all results binary
_EXECUTE_SYNC = b"E" + _int32(9) + b"\0" + _int32(0) + b"S" + _int32(4)


class Malformed(Exception):
    """An entry that the log could not store; its sender gets FORBIDDEN and its neighbours get a batch without it."""


class _Remembered(dict[str, bytes]):
    """name → its bytes as an array element, for names that `allowed` lets in; `instead` is sent for others, if given."""

    def __init__(self, allowed: Callable[[str], object], instead: str | None = None) -> None:
        super().__init__()
        self._allowed = allowed
        self._instead = instead

    def __missing__(self, name: str) -> bytes:
        if not self._allowed(name):
            if self._instead is None:
                raise Malformed(name)
            return self[self._instead]
        encoded = name.encode()
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[name] = element = _int32(len(encoded)) + encoded
        return element


def is_sendable_type(type: str) -> bool:
    """``member.*`` belongs to put_member and remove_member."""
    return TYPE_RE.match(type) is not None and not type.startswith("member.")


class AppendCodec:
    """Encodes batches; remembers names, and nothing of a batch."""

    def __init__(self) -> None:
        # No stream is the empty tenant's: an entry of an impossible tenant is answered NOT_FOUND like any stranger's.
        self._tenants = _Remembered(lambda name: not name or TENANT_RE.match(name), instead="")
        self._types = _Remembered(is_sendable_type)
        self._bys = _Remembered(PRINCIPAL_RE.match)

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """Bind, Execute and Sync for one batch. `Malformed` where any entry cannot be stored."""
        count = len(entries)
        tenants, types, bys, is_key = self._tenants, self._types, self._bys, KEY_RE.match
        keys = [entry.key for entry in entries]
        for key in keys:
            if is_key(key) is None:
                raise Malformed(key)
        bodies = []
        for entry in entries:
            body = entry.body
            bodies.append(_int32(len(body)))
            bodies.append(body)
        arrays = (
            b"".join([tenants[entry.tenant] for entry in entries]),
            _numbers([entry.sid for entry in entries]),
            bytes.fromhex("00000010" + "00000010".join(keys).replace("-", "")),
            b"".join([types[entry.type] for entry in entries]),
            b"".join([bys[entry.by] for entry in entries]),
            b"".join(bodies),
            _numbers([entry.expect for entry in entries]),
            _numbers([entry.ref for entry in entries]),
            b"".join([_TRUE if entry.privileged else _FALSE for entry in entries]),
        )
        parts = [_BIND_HEAD]
        for array, oid, nullable in zip(arrays, _ELEMENTS, _NULLABLE, strict=True):
            parts += (_int32(20 + len(array)), _header(1, nullable, oid, count, 1), array)
        parts.append(_BIND_TAIL)
        bind = b"".join(parts)
        return b"B" + _int32(4 + len(bind)) + bind + _EXECUTE_SYNC


_ELEMENTS = (_OID_TEXT, _OID_INT8, _OID_UUID, _OID_TEXT, _OID_TEXT, _OID_TEXT, _OID_INT8, _OID_INT8, _OID_BOOL)
_NULLABLE = (0, 0, 0, 0, 0, 0, 1, 1, 0)


def _numbers(numbers: Sequence[int | None]) -> bytes:
    """int8 elements. A number beyond 64 bits is as unknown to the log as the last one within."""
    try:
        return b"".join([_NULL if number is None else _element8(8, number) for number in numbers])
    except struct.error:
        return _numbers([None if number is None else clamp(number) for number in numbers])


def clamp(number: int) -> int:
    return max(-INT64_MAX, min(number, INT64_MAX))


def parse_message() -> bytes:
    """Parse and Sync: prepares ``STATEMENT``, once a link."""
    body = STATEMENT + b"\0" + APPEND_SQL + b"\0" + struct.pack("!h9i", 9, *_OID_ARRAYS)
    return b"P" + _int32(4 + len(body)) + body + b"S" + _int32(4)


class ServerError(Exception):
    """An ErrorResponse: Postgres said no. ``fatal`` where the server ends the link with it."""

    def __init__(self, sqlstate: str, message: str, fatal: bool) -> None:
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate
        self.fatal = fatal


class ProtocolError(Exception):
    """Bytes that no Postgres sends here: the link is not to be used again."""


@dataclass(slots=True)
class Reply:
    """What one request came to: a row's columns, or an error."""

    row: list[memoryview] | None = None
    error: ServerError | None = None


def split_reply(data: bytearray) -> Reply | None:
    """The reply at the start of ``data`` once it is whole (ends with ReadyForQuery), else ``None``.

    Raises `ProtocolError` where more follows, since nothing more was asked, and where the last message is cut off by
    an absurd length. A fatal error ends a reply too: no ReadyForQuery follows it.
    """
    reply = Reply()
    view = memoryview(bytes(data))
    at, end = 0, len(view)
    while at + 5 <= end:
        kind = view[at]
        (length,) = struct.unpack_from("!i", view, at + 1)
        if not 4 <= length <= REPLY_BYTES_MAX:
            raise ProtocolError(f"a message of {length} bytes")
        stop = at + 1 + length
        if stop > end:
            return None
        body = view[at + 5 : stop]
        if kind == 0x5A:  # Z, ReadyForQuery
            if stop != end:
                raise ProtocolError("more than the reply")
            return reply
        if kind == 0x44:  # D, DataRow
            try:
                reply.row = _columns(body)
            except struct.error:
                raise ProtocolError("a row that ends too soon") from None
        elif kind == 0x45:  # E, ErrorResponse
            reply.error = _server_error(bytes(body))
            if reply.error.fatal:
                return reply
        elif kind not in b"12CNSAt":  # parse/bind/command complete, notice, parameter status, notification
            raise ProtocolError(f"an unexpected message {chr(kind)!r}")
        at = stop
    return None


def _columns(body: memoryview) -> list[memoryview]:
    (count,) = struct.unpack_from("!h", body)
    columns, at = [], 2
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        if length < 0:
            raise ProtocolError("a null array")
        columns.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    return columns


def _server_error(body: bytes) -> ServerError:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    severity = fields.get(b"V", fields.get(b"S", ""))
    return ServerError(fields.get(b"C", "XX000"), fields.get(b"M", ""), severity in ("FATAL", "PANIC"))


def decode_verdicts(row: Sequence[memoryview], count: int) -> list[Verdict]:
    """The five parallel arrays of ``readback.append``, which must be as long as the batch was."""
    try:
        outcomes = [_OUTCOMES[value] for _, value in struct.iter_unpack("!ih", row[0][20:])]
        partitions = [value for _, value in struct.iter_unpack("!ii", row[1][20:])]
        positions, seqs, times = ([value for _, value in struct.iter_unpack("!iq", column[20:])] for column in row[2:])
    except (struct.error, IndexError, ValueError) as error:
        raise ProtocolError(f"verdicts that cannot be read: {error}") from None
    if not len(outcomes) == len(partitions) == len(positions) == len(seqs) == len(times) == count:
        raise ProtocolError(f"verdicts for {len(outcomes)} entries, and {count} were sent")
    return list(map(Verdict, outcomes, partitions, positions, seqs, times))
