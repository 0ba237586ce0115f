"""core.outbox: a slow socket costs its port a cut frame and a cursor, and nobody anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import wire
from core.outbox import Outbox
from core.stream import Latest, Port, SignalKey, Stream, latest_of
from tests.fake_port import FakePort
from tests.hubs import SMALL, Bench, said


@pytest.mark.parametrize("start", range(0, 500, 50))
def test_a_cut_anywhere_loses_nothing(start: int) -> None:
    """The socket takes any number of bytes of two rooms' events and an answer: the rest follows, nothing twice."""
    for room_bytes in range(start, start + 50):
        cut_at(room_bytes)


def cut_at(room_bytes: int) -> None:
    bench = Bench()
    one, two = bench.stream(1), bench.stream(2)
    amy = bench.follow(one)
    bench.sub(amy, two)
    amy.frames()
    amy.room = room_bytes
    pos = bench.hub.pos[0]
    batch = [
        (stream, seq, wire.encode_event(stream.name_b, seq, "message", "k", "user:bob", 0, b"1"))
        for seq in (1, 2)
        for stream in (one, two)
    ]
    bench.hub.ingest(0, pos + 1, pos + 4, batch)
    bench.hub.reply(amy, wire.encode_ok(9))
    bench.hub.flush()
    assert amy.blocked is (room_bytes < sum(len(frame) for _, _, frame in batch) + len(wire.encode_ok(9)))
    assert amy.rest != b"", "nothing is left of a frame that is whole on the wire"
    held = len(amy.rest or b"") + sum(map(len, amy.replies or ()))
    assert held < len(batch[0][2]) + 30
    bench.unblock(amy)
    assert not amy.blocked
    frames = amy.frames()
    for stream in (one, two):
        assert [frame["seq"] for frame in frames if frame.get("stream") == stream.name] == [1, 2]
    assert sum(frame["op"] == "ok" for frame in frames) == 1
    assert amy.calls == (["stall", "flow"] if amy.calls else [])


def test_a_slow_port_holds_a_cursor_and_no_events() -> None:
    """A thousand events for a port that takes nothing: its memory is one integer."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    amy.room = 0
    for _ in range(100):
        bench.events(room, 10)
    assert (amy.rest, amy.replies, amy.subs[room], bench.fetches) == (None, None, 0, [])
    bench.unblock(amy)
    while bench.hub.turn(bench.now_s):
        pass
    assert amy.seqs() == list(range(1, 1001))


def test_a_socket_that_takes_a_few_bytes_at_a_time() -> None:
    """Dribbled out, byte by byte with refusals between, frames stay whole and in order."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, room=3)
    bench.events(room, 2)
    for n in range(2_000):
        if not amy.blocked:
            break
        bench.unblock(amy, room=n % 3)
    assert amy.seqs() == [1, 2]
    bench.block(amy)
    bench.hub.reply(amy, wire.encode_ok(2))
    bench.hub.reply(amy, wire.encode_ok(3))
    assert amy.reply_bytes == sum(map(len, amy.replies or ())) > 2 * len(wire.encode_ok(2))
    bench.unblock(amy, room=0)
    bench.unblock(amy, room=30)
    bench.unblock(amy)
    assert [frame.get("id") for frame in amy.frames()] == [None, 2, 3]
    assert amy.reply_bytes == 0


def test_a_broken_port_is_told_once_and_harms_nobody(big_rooms: None) -> None:
    """``send`` fails: the port hears it once, its neighbours get everything, `drop` forgets it."""
    bench = Bench()
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bob.gone = True
    bench.events(room, 1)
    bench.events(room, 1)
    bench.hub.reply(bob, b"x")
    bench.hub.flush()
    bench.hub.pump(bob)
    bench.hub.drop(bob, bench.now_s)
    assert (bob.calls, bob.subs) == (["broken"], {})
    assert amy.seqs() == [1, 2]
    cy = bench.follow(room, "user:cy")
    bench.block(cy)
    cy.gone = True
    bench.hub.pump(cy)
    assert cy.calls == ["stall", "broken"]
    dee = bench.follow(room, "user:dee")
    dee.gone = True
    bench.hub.reply(dee, wire.encode_ok(1))
    bench.hub.flush()
    assert dee.calls == ["broken"]


def test_unsubscribed_amid_a_turn() -> None:
    """Events gathered for a stream that is left in the same turn are not taken up again when the socket is full."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, room=10)
    frame = wire.encode_event(room.name_b, 1, "message", "k", "user:bob", 0, b"1")
    bench.hub.ingest(0, 1, 1, [(room, 1, frame)])
    bench.hub.unsubscribe(amy, room, bench.now_s)
    bench.hub.flush()
    bench.unblock(amy)
    assert said(amy) == [("ok", None), ("event", 1)]  # half of it was on the wire
    assert (amy.subs, amy.lag) == ({}, None)


def test_dropped_amid_a_turn() -> None:
    """A port dropped with something gathered is not sent to; one blocked since it was touched keeps its answers."""
    bench = Bench()
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    amy.frames(), bob.frames()
    bench.hub.reply(amy, wire.encode_ok(1))
    bench.hub.reply(bob, wire.encode_ok(2))
    bench.hub.drop(amy, bench.now_s)
    bob.blocked = True
    bench.hub.flush()
    assert said(amy) == []
    assert bob.replies == [wire.encode_ok(2)]


def test_the_lower_half_asks_the_upper() -> None:
    """An outbox alone knows bytes; where a port stands and what it lags behind is not its business."""
    outbox, port = Outbox(), FakePort()
    stream = Stream("demo", "chat:a", 1, 0, 0, 1, False)
    for ask in (
        lambda: outbox._behind(port, stream, 0),
        lambda: outbox._gather(port, []),
        lambda: outbox._latest(port),
        lambda: outbox._not_now(port, latest_of([], []), 0),
    ):
        with pytest.raises(NotImplementedError):
            ask()
    outbox.reply(port, wire.encode_ok(1))
    outbox.flush()
    assert said(port) == [("ok", None)]


def test_what_is_latest_goes_when_the_rest_is_on_the_wire() -> None:
    """Markers and signals noted for a port are asked for once it took everything else, and not before."""

    class Latest(Outbox):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[FakePort] = []

        def _latest(self, port: Port) -> None:
            assert isinstance(port, FakePort)
            self.asked.append(port)

    outbox, port = Latest(), FakePort()
    stream = Stream("demo", "chat:a", 1, 0, 0, 1, False)
    port.mark_keys = {(stream, "user:bob"): None}
    port.room = 1
    outbox.reply(port, wire.encode_ok(1))
    outbox.flush()
    assert outbox.asked == []
    port.room = 1 << 20
    outbox.pump(port)
    outbox.pump(port)  # twice in a turn is once
    outbox.flush()
    assert (outbox.asked, said(port)) == ([port], [("ok", None)])
    port.mark_keys, port.signal_keys = None, {(stream, ("typing", "user:bob")): None}
    outbox.pump(port)
    outbox.flush()
    assert outbox.asked == [port, port]
    port.signal_keys = None
    outbox.pump(port)
    outbox.flush()
    assert outbox.asked == [port, port]


def test_half_a_frame_stays_apart_from_the_answers_behind_it() -> None:
    """The socket takes nothing once more: the tail of an event goes first still, and is no answer that waits."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, room=20)
    bench.events(room, 1)
    bench.hub.reply(amy, wire.encode_ok(1))
    half = amy.rest
    assert half is not None
    bench.unblock(amy, room=0)
    assert (amy.rest, amy.replies, amy.reply_bytes) == (half, [wire.encode_ok(1)], len(wire.encode_ok(1)))
    bench.unblock(amy)
    assert said(amy) == [("ok", None), ("event", 1), ("ok", None)]


def test_a_lone_chunk_goes_out_as_it_is() -> None:
    """Also in a small room each subscriber is handed the same bytes, not a copy."""
    bench = Bench()
    room = bench.stream()
    given: list[bytes] = []
    for name in ("amy", "bob"):
        port = bench.follow(room, f"user:{name}")
        port.send = lambda data: given.append(data) or len(data)  # type: ignore[func-returns-value]
    bench.events(room, 2)
    assert given[0] is given[1]


def test_a_cut_in_the_last_frame_of_a_page_moves_nobody() -> None:
    """All its frames are on the wire, in whole or in part, so its cursor stands where it should."""
    for frames, cursor, moved in ((2, 4, 0), (1, 3, 1)):
        bench = Bench(replace(SMALL, replay_page_events=2))
        room = bench.stream()
        bench.events(room, 6)
        amy = bench.follow(room, after=0)
        lagged = bench.hub.lagged
        amy.room = frames * len(room.frames[0]) - 5
        bench.hub.turn(bench.now_s)
        assert (amy.blocked, amy.subs[room], bench.hub.lagged - lagged) == (True, cursor, moved)
        bench.unblock(amy)
        while bench.hub.turn(bench.now_s):
            pass
        assert amy.seqs() == [1, 2, 3, 4, 5, 6]


def test_a_port_that_closed_amid_a_turn_is_not_sent_to() -> None:
    """What it had gathered is dropped."""
    outbox, port = Outbox(), FakePort()
    outbox.reply(port, wire.encode_ok(1))
    port.closed = True
    outbox.flush()
    assert (port.out, port.sends) == (None, [])


def test_markers_and_signals_are_cut_like_events() -> None:
    """At every byte: what is on the wire whole is said, one frame goes on from where it was cut, the keys of the others
    are noted."""

    class Noting(Outbox):
        def _not_now(self, port: Port, latest: Latest, at: int) -> None:
            noted.extend(key for _, key in latest.keys[at:])

    stream = Stream("demo", "chat:a", 1, 0, 0, 1, False)
    frames = [wire.encode_mark("chat:a", f"user:u{n}", 10**n, 0) for n in range(3)]
    keys: list[tuple[Stream, str | SignalKey]] = [(stream, f"user:u{n}") for n in range(3)]
    ends = [sum(map(len, frames[:n])) for n in range(4)]
    for room in range(ends[-1]):
        noted: list[str | SignalKey] = []
        outbox, port = Noting(), FakePort(room=room)
        outbox.reply(port, latest_of(frames, keys))
        outbox.reply(port, wire.encode_ok(1))
        outbox.flush()
        begun = sum(end < room for end in ends)  # frames of which anything is on the wire
        assert port.rest != b""
        assert noted == [f"user:u{n}" for n in range(begun, 3)]
        port.room = 1 << 20
        outbox.pump(port)
        outbox.flush()
        assert [frame.get("by", frame["op"]) for frame in port.frames()] == [
            *(f"user:u{n}" for n in range(begun)),
            "ok",
        ]
