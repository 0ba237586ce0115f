"""core.wire: what goes out is one whole JSON frame of the contract, and nothing that comes in raises."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import wire
from core.frames import parse_close
from core.wire import BadFrame, Close
from tests.fake_port import take_frames

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
NOON_MS = 1_795_262_400_007
NOON = "2026-11-21T12:00:00.007Z"


def one(frame: bytes) -> dict[str, Any]:
    data = bytearray(frame)
    (message,) = take_frames(data)
    assert not data, "more than one frame"
    return message


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed JSON"),
        (b"{", "malformed JSON"),
        (b'{"a":NaN}', "malformed JSON"),
        (b'{"a":1e999}', "malformed JSON"),
        (b'{"a":"\\ud800"}', "malformed JSON"),
        (b"[" * 100_000, "malformed JSON"),
        (b"[]", "one JSON object"),
        (b'"text"', "one JSON object"),
        (b"null", "one JSON object"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64"),
    ],
)
def test_what_is_no_message_is_named(payload: bytes, reason: str) -> None:
    """Every way of being no message comes back as a reason, never as an exception."""
    refused = wire.parse(payload, 64)
    assert isinstance(refused, BadFrame)
    assert reason in refused.reason


def test_what_is_a_message_comes_back_as_it_is() -> None:
    """Up to the depth allowed, and brackets inside strings are no depth."""
    deep = b'{"a":' + b"[" * 63 + b"]" * 63 + b"}"
    assert wire.parse(deep, 64) == json.loads(deep)
    text = orjson.dumps({"body": "[{" * 200})
    assert wire.parse(text, 64) == {"body": "[{" * 200}


@given(st.binary(max_size=200))
def test_parse_never_raises(payload: bytes) -> None:
    """Any bytes are a message or a reason."""
    assert isinstance(wire.parse(payload, 8), (dict, BadFrame))


def test_depth_is_counted_without_recursion() -> None:
    """A depth that would end the interpreter's stack is just a number here."""
    value: object = []
    for _ in range(50_000):
        value = [value]
    assert wire.too_deep(value, 64)
    assert not wire.too_deep(1, 2)
    assert not wire.too_deep([[]], 2)
    assert not wire.too_deep({"a": {"b": 1}}, 2)
    assert wire.too_deep({"a": {"b": []}}, 2)


def test_numbers_that_the_parser_had_to_round_are_found() -> None:
    """An integer beyond 64 bits became a double of other digits; wherever it hides, it shows."""
    fine = orjson.loads(b'{"a":[9007199254740993,-9223372036854775808,1.5,{"b":1e18}],"c":"x"}')
    assert not wire.beyond_64_bits(fine)
    for number in (b"123456789012345678901234567890", b"-123456789012345678901234567890", b"1e19"):
        assert wire.beyond_64_bits(orjson.loads(b'{"a":[1,{"b":' + number + b"}]}"))


@pytest.mark.parametrize("name", ["chat:ops-42", "flight:QX12-20261121", "trip:9", "user:amy", "chat:" + "x" * 128])
def test_stream_names(name: str) -> None:
    """kind:name as the contract says."""
    assert wire.is_stream(name)


@pytest.mark.parametrize(
    "name",
    ["chat", "chat:", "room:a", "chat:a b", 'chat:a"', "chat:a\n", "chat:" + "x" * 129, "Chat:a", 7, None, ["chat:a"]],
)
def test_what_is_no_stream_name(name: object) -> None:
    """Nothing that JSON would have to escape gets through, nor another type."""
    assert not wire.is_stream(name)


def test_other_names() -> None:
    """Principals, types, keys and seqs by their patterns."""
    assert wire.is_principal("user:amy@example.org")
    assert not wire.is_principal("amy")
    assert not wire.is_principal(7)
    assert wire.is_type("member.joined")
    assert not wire.is_type("Message")
    assert not wire.is_type(None)
    assert wire.is_key(KEY)
    assert not wire.is_key(KEY.upper())
    assert not wire.is_key(7)
    assert all(map(wire.is_seq, (0, 1, wire.SEQ_MAX)))
    assert not any(map(wire.is_seq, (-1, wire.SEQ_MAX + 1, 1.0, True, "1", None)))


def test_an_event() -> None:
    """The event frame holds every field of the contract, and the body as it is."""
    frame = wire.encode_event(b"chat:ops", 121, "message", KEY, "user:amy", NOON_MS, b'{"text":"hi"}')
    assert one(frame) == {
        "op": "event",
        "stream": "chat:ops",
        "seq": 121,
        "type": "message",
        "key": KEY,
        "by": "user:amy",
        "at": NOON,
        "body": {"text": "hi"},
    }


def test_times_keep_their_milliseconds() -> None:
    """RFC 3339 UTC with exactly three digits, also when the same time comes twice."""
    assert wire.at_bytes(NOON_MS) == wire.at_bytes(NOON_MS) == NOON.encode()
    assert wire.at_bytes(0) == b"1970-01-01T00:00:00.000Z"


def test_answers() -> None:
    """ok, pong and error, with and without what is optional."""
    assert one(wire.encode_sent(4, b"chat:ops", 121, NOON_MS, False)) == {
        "op": "ok",
        "id": 4,
        "stream": "chat:ops",
        "seq": 121,
        "at": NOON,
        "dup": False,
    }
    assert one(wire.encode_sent(-4, b"chat:ops", 1, 0, True))["dup"] is True
    assert one(wire.encode_ok(1, stream="a")) == {"op": "ok", "id": 1, "stream": "a"}
    assert one(wire.encode_pong(9, NOON_MS, None)) == {"op": "pong", "id": 9, "time": NOON}
    assert one(wire.encode_pong(None, NOON_MS, "r1.a")) == {"op": "pong", "time": NOON, "resume": "r1.a"}
    assert one(wire.encode_error(4, "conflict", "no", retry_after=1.5, head=7)) == {
        "op": "error",
        "id": 4,
        "code": "conflict",
        "message": "no",
        "retry_after": 1.5,
        "head": 7,
    }
    assert one(wire.encode_error(None, "bad_request", "no")) == {"op": "error", "code": "bad_request", "message": "no"}


def test_what_the_server_says_unasked() -> None:
    """reset, mark and signal."""
    assert one(wire.encode_reset("chat:ops", "trimmed", 50, 121)) == {
        "op": "reset",
        "stream": "chat:ops",
        "reason": "trimmed",
        "first": 50,
        "head": 121,
    }
    assert one(wire.encode_mark("chat:ops", "user:bob", 121, 119)) == {
        "op": "mark",
        "stream": "chat:ops",
        "by": "user:bob",
        "delivered": 121,
        "read": 119,
    }
    signal = one(wire.encode_signal("chat:ops", "typing", "user:amy", True, 1.26))
    assert (signal["by"], signal["value"], signal["age"]) == ("user:amy", True, 1.3)
    count = one(wire.encode_signal("chat:ops", "online", None, 812, -1.0))
    assert "by" not in count
    assert count["age"] == 0.0
    row = one(wire.encode_signal("flight:board", "row", "QX12", None, 0.04))
    assert (row["key"], row["value"], row["age"]) == ("QX12", None, 0.0)
    assert "by" not in row


@pytest.mark.parametrize("close", list(Close))
def test_last_words(close: Close) -> None:
    """bye and the close frame say the same, in one piece; the range says whether to come back."""
    data = bytearray(wire.encode_bye(close, "because " * 40, 1.5))
    size = int.from_bytes(data[2:4], "big")
    bye = json.loads(data[4 : 4 + size])
    assert bye == {"op": "bye", "code": close.name.lower(), "reason": "because " * 40, "retry_after": 1.5}
    rest = data[4 + size :]
    assert rest[0] == 0x88
    assert rest[1] == len(rest) - 2 <= 125
    parsed = parse_close(bytes(rest[2:]))
    assert isinstance(parsed, tuple)
    assert parsed[0] == close
    assert (4000 <= close <= 4499) == (
        close.name
        not in {
            "BAD_FRAME",
            "UNAUTHORIZED",
            "REVOKED",
            "FORBIDDEN",
            "SUPERSEDED",
            "TOO_LARGE",
        }
    )


def test_times_within_one_second_differ_in_their_milliseconds() -> None:
    """The formatted second is kept, the rest is not."""
    assert wire.at_bytes(NOON_MS).decode() == NOON
    assert wire.at_bytes(NOON_MS + 1).decode() == "2026-11-21T12:00:00.008Z"
    assert wire.at_bytes(NOON_MS + 1_000).decode() == "2026-11-21T12:00:01.007Z"
    assert wire.at_bytes(NOON_MS).decode() == NOON


def test_an_error_tells_more_where_there_is_more() -> None:
    """Of a refused command its reason, and of a conflict the head; each only where it is."""
    told = wire.encode_error(4, "rejected", "no", facts={"reason": "over_duty", "cite": "CAO 48.1"})
    error = {"op": "error", "code": "rejected", "message": "no", "reason": "over_duty", "cite": "CAO 48.1", "id": 4}
    assert orjson.loads(told[2:]) == error
    assert orjson.loads(wire.encode_error(None, "internal", "no")[2:]) == {
        "op": "error",
        "code": "internal",
        "message": "no",
    }
