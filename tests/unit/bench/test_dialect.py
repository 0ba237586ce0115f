"""bench.gen.dialect: what a generator sends is the wire contract's, and what it reads by prefix is really there."""

from __future__ import annotations

import re

import orjson
import pytest

from bench.gen.dialect import (
    Dialect,
    Keys,
    OpeningError,
    SocketIO,
    body,
    dialect_of,
    sent_at_ns,
    seq_of,
)
from core.model import KEY_RE

EVENT = (
    b'{"op":"event","stream":"chat:a","seq":121,"type":"message","key":"k","by":"user:a","at":"2026-01-01T00:00:00.000Z",'
    b'"body":{"t":987654321,"text":"x"}}'
)


def test_a_hello_carries_the_token_and_the_streams() -> None:
    """As the wire contract has it; no token where a server knows none."""
    hello = orjson.loads(Dialect().hello("secret", {"chat:a": {"after": 3}}))
    assert hello == {"op": "hello", "id": 1, "token": "secret", "streams": {"chat:a": {"after": 3}}}
    assert "token" not in orjson.loads(Dialect().hello(None, {}))


def test_a_resume_carries_the_cursors() -> None:
    """Token, log epoch, and a cursor a stream."""
    resume = orjson.loads(Dialect().resume("r1.x", "epoch", {"chat:a": 7}))
    assert resume == {"op": "resume", "id": 1, "resume": "r1.x", "log": "epoch", "streams": {"chat:a": 7}}


@pytest.mark.parametrize("size", [30, 130, 1000])
def test_a_ping_is_as_long_as_asked(size: int) -> None:
    """Padded in a field that servers ignore."""
    ping = Dialect().ping(7, size)
    assert orjson.loads(ping)["op"] == "ping"
    assert abs(len(ping) - size) <= 12


def test_a_send_is_whole() -> None:
    """Stream, key, type and body, with the send time in front of the body."""
    sent = orjson.loads(Dialect().send(4, b"chat:a", b"k", body(123, 60)))
    assert (sent["op"], sent["id"], sent["stream"], sent["key"], sent["type"]) == ("send", 4, "chat:a", "k", "message")
    assert sent["body"]["t"] == 123
    assert len(body(123, 60)) == 60


def test_the_send_time_and_the_seq_are_read_without_parsing() -> None:
    """`"at":` beside `"t":` does not confuse it; a body without a time says so."""
    assert sent_at_ns(EVENT) == 987654321
    assert seq_of(EVENT) == 121
    assert sent_at_ns(b'{"at":"x"}') == -1


def test_the_opening_of_readback_ends_with_the_welcome() -> None:
    """The hello goes first; signals before the welcome are passed over."""
    plain = Dialect()
    assert plain.first(b"hello") == b"hello"
    assert plain.opening(b'{"op":"signal"}', b"hello") == (None, None)
    assert plain.opening(b'{"op":"welcome","id":1}', b"hello") == (None, {"op": "welcome", "id": 1})


@pytest.mark.parametrize("op", ["error", "bye"])
def test_a_refusal_ends_the_opening_with_its_words(op: str) -> None:
    """What the server said is what the run reports."""
    with pytest.raises(OpeningError, match="unauthorized"):
        Dialect().opening(b'{"op":"%s","code":"unauthorized"}' % op.encode(), b"hello")


def test_socketio_opens_in_its_own_steps() -> None:
    """Engine.IO's handshake, then Socket.IO's connect, then the hello as an event with an acknowledgement."""
    theirs = SocketIO()
    hello = theirs.hello(None, {"chat:a": {}})
    assert theirs.first(hello) is None
    assert theirs.opening(b'0{"sid":"e"}', hello) == (b"40", None)
    assert theirs.opening(b'40{"sid":"s"}', hello) == (hello, None)
    assert hello.startswith(b'421["hello",{')
    assert theirs.opening(b'431[{"op":"welcome","streams":{}}]', hello) == (None, {"op": "welcome", "streams": {}})


def test_socketio_recovers_with_its_session_and_offset() -> None:
    """A session id given once comes back with the last offset in the next connect."""
    theirs = SocketIO()
    theirs.opening(b'40{"sid":"s","pid":"p1"}', b"hello")
    theirs.recover["offset"] = "o9"
    reply, _ = theirs.opening(b'0{"sid":"e2"}', b"hello")
    assert reply is not None
    assert orjson.loads(reply[2:]) == {"pid": "p1", "offset": "o9"}
    theirs.opening(b'40{"sid":"s2","pid":"p1"}', b"hello")
    assert theirs.recover["offset"] == "o9"


def test_socketio_keeps_its_connection_alive() -> None:
    """Its pings are answered; nothing else is."""
    assert SocketIO().control(b"2") == b"3"
    assert SocketIO().control(b'42["event"]') is None
    assert Dialect().control(b"2") is None


def test_socketio_says_when_it_is_refused() -> None:
    """A connect error ends the opening."""
    with pytest.raises(OpeningError, match="not allowed"):
        SocketIO().opening(b'44{"message":"not allowed"}', b"hello")


def test_keys_are_uuids_and_never_repeat() -> None:
    """Two generators do not meet either: each has its own prefix."""
    keys, others = Keys(), Keys()
    made = [keys() for _ in range(1000)] + [others() for _ in range(1000)]
    assert len(set(made)) == 2000
    assert all(KEY_RE.match(key.decode()) for key in made)


def test_dialects_go_by_name() -> None:
    """An unknown name is an error, not the plain one."""
    assert re.match("plain", dialect_of("plain").name)
    assert isinstance(dialect_of("socketio"), SocketIO)
    with pytest.raises(ValueError, match="no dialect"):
        dialect_of("morse")
