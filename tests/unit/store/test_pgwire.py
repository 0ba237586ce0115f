"""The bytes of an append: exact going out, distrusted coming in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model import Entry
from store import pgwire
from store.pgwire import AppendCodec, Malformed, ProtocolError, clamp, decode_verdicts, split_reply
from tests.unit.store.pgbytes import REPLY, VERDICTS, array, message

KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"


def entry(**kwargs: object) -> Entry:
    fields: dict[str, object] = {
        "tenant": "demo",
        "sid": 7,
        "key": KEY,
        "type": "message",
        "by": "user:amy",
        "body": b"{}",
    }
    return Entry(**(fields | kwargs))  # type: ignore[arg-type]


def unpack_bind(message: bytes) -> list[list[bytes | None]]:
    """The arrays of a Bind message, read by the protocol's rules; what follows it must be Execute and Sync."""
    assert message[:1] == b"B"
    (length,) = struct.unpack_from("!i", message, 1)
    body, rest = message[5 : 1 + length], message[1 + length :]
    assert rest == b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"
    assert body.startswith(b"\0append\0\0\x01\0\x01\0\x09")
    at, arrays = 14, []
    for _ in range(9):
        size, dimensions, _, _, count, bound = struct.unpack_from("!iiiiii", body, at)
        assert (dimensions, bound) == (1, 1)
        end, at, items = at + 4 + size, at + 24, []
        for _ in range(count):
            (item,) = struct.unpack_from("!i", body, at)
            items.append(None if item < 0 else body[at + 4 : at + 4 + item])
            at += 4 + max(item, 0)
        assert at == end
        arrays.append(items)
    assert body[at:] == b"\0\x01\0\x01"
    return arrays


def test_a_batch_in_the_protocol_s_own_terms() -> None:
    """Nine arrays, element by element."""
    batch = [entry(), entry(sid=2**40, expect=5, ref=-1, privileged=True, body="ž".encode(), by="service:ops")]
    tenants, sids, keys, types, bys, bodies, expects, refs, privileges = unpack_bind(AppendCodec().encode(batch))
    assert tenants == [b"demo", b"demo"]
    assert sids == [struct.pack("!q", 7), struct.pack("!q", 2**40)]
    assert keys == [bytes.fromhex(KEY.replace("-", ""))] * 2
    assert types == [b"message", b"message"]
    assert bys == [b"user:amy", b"service:ops"]
    assert bodies == [b"{}", "ž".encode()]
    assert expects == [None, struct.pack("!q", 5)]
    assert refs == [None, struct.pack("!q", -1)]
    assert privileges == [b"\0", b"\1"]


@pytest.mark.parametrize(
    "change",
    [{"key": "x"}, {"key": KEY.upper()}, {"key": " " + KEY[1:]}, {"type": "A"}, {"type": "member.left"}, {"by": "amy"}],
)
def test_what_cannot_be_stored_is_not_sent(change: dict[str, str]) -> None:
    """Malformed, before a byte goes out; and the codec works on."""
    codec = AppendCodec()
    with pytest.raises(Malformed):
        codec.encode([entry(), entry(**change)])
    assert len(unpack_bind(codec.encode([entry()]))) == 9


def test_impossible_tenants_and_numbers_are_sent_as_unknown_ones() -> None:
    """Nobody has the empty tenant; nothing has the number 2^63 - 1."""
    tenants, sids, *_ = unpack_bind(AppendCodec().encode([entry(tenant="No/Such"), entry(sid=2**80)]))
    assert tenants == [b"", b"demo"]
    assert sids[1] == struct.pack("!q", 2**63 - 1)
    assert clamp(-(2**80)) == -(2**63 - 1)


def test_names_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-lived link's memory of principals is bounded."""
    monkeypatch.setattr(pgwire, "REMEMBERED_MAX", 10)
    codec = AppendCodec()
    for n in range(100):
        codec.encode([entry(by=f"user:u{n}")])
    assert len(codec._bys) <= 10


def test_a_reply_becomes_verdicts() -> None:
    """One for each entry, in order."""
    reply = split_reply(bytearray(REPLY))
    assert reply is not None
    assert reply.row is not None
    assert decode_verdicts(reply.row, 2) == VERDICTS


def test_a_reply_may_come_in_any_pieces() -> None:
    """Nothing until it is whole; a notice in between changes nothing."""
    reply = REPLY[:5] + message(b"N", b"SNOTICE\0\0") + REPLY[5:]
    for cut in range(len(reply)):
        assert split_reply(bytearray(reply[:cut])) is None
    assert split_reply(bytearray(reply)) is not None


def test_an_error_is_the_reply() -> None:
    """With its code; a fatal one needs no ReadyForQuery, because none comes."""
    error = message(b"E", b"SERROR\0VERROR\0C22021\0Mbad bytes\0\0")
    assert split_reply(bytearray(error)) is None
    reply = split_reply(bytearray(error + message(b"Z", b"I")))
    assert reply is not None
    assert reply.error is not None
    assert (reply.error.sqlstate, reply.error.fatal) == ("22021", False)
    fatal = split_reply(bytearray(message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0")))
    assert fatal is not None
    assert fatal.error is not None
    assert fatal.error.fatal


@pytest.mark.parametrize(
    "bad",
    [
        REPLY + b"Z",
        REPLY + REPLY,
        message(b"G", b""),
        b"D\xff\xff\xff\xff",
        b"D\x7f\xff\xff\xff",
        message(b"D", b"\0\x01\xff\xff\xff\xff"),
    ],
)
def test_bytes_that_are_no_reply(bad: bytes) -> None:
    """Too much, too long, unasked for, or null: an error, never a guess."""
    with pytest.raises(ProtocolError):
        split_reply(bytearray(bad))


@pytest.mark.parametrize("count", [1, 3])
def test_verdicts_must_be_as_many_as_entries(count: int) -> None:
    """One too few or too many would answer a stranger."""
    reply = split_reply(bytearray(REPLY))
    assert reply is not None
    assert reply.row is not None
    with pytest.raises(ProtocolError):
        decode_verdicts(reply.row, count)


def test_verdicts_that_cannot_be_read() -> None:
    """An unknown outcome, a missing column, a half element."""
    good = split_reply(bytearray(REPLY))
    assert good is not None
    assert good.row is not None
    for row in (
        [memoryview(array("h", 2, 0, 6)), *good.row[1:]],
        good.row[:4],
        [good.row[0][:-1], *good.row[1:]],
    ):
        with pytest.raises(ProtocolError):
            decode_verdicts(row, 2)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.binary(max_size=300))
def test_noise_is_never_a_row(noise: bytes) -> None:
    """Whatever arrives is incomplete, an error, or refused; nothing else is raised."""
    try:
        reply = split_reply(bytearray(noise))
    except ProtocolError:
        return
    assert reply is None or reply.row is None or reply.error is not None or noise[:1] == b"D"
