"""core.signals: rows of read models are signals that are nobody's, latest only by key, and sent when they are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.limits import Limits
from core.stream import Stream
from tests.fake_port import FakePort, Frame
from tests.hubs import Bench


def told(port: FakePort) -> list[Frame]:
    """Row signals that reached the port since the last call."""
    return [frame for frame in port.frames() if frame["op"] == "signal" and frame["kind"] == "row"]


def say(bench: Bench, room: Stream, **rows: Any) -> None:
    """These rows are as they are since now."""
    bench.hub.signals.rows(room, {key: (value, bench.now_s) for key, value in rows.items()}, bench.now_s)
    bench.hub.flush()


def test_a_row_is_sent_at_once_with_its_key() -> None:
    """Without waiting for the next flush of signals; a row that is gone has the value null."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    say(bench, room, QX1={"gate": "4"}, QX2={})
    assert told(amy) == [
        {"op": "signal", "stream": room.name, "kind": "row", "key": "QX1", "value": {"gate": "4"}, "age": 0.0},
        {"op": "signal", "stream": room.name, "kind": "row", "key": "QX2", "value": {}, "age": 0.0},
    ]
    say(bench, room, QX1=None)
    assert [(frame["key"], frame["value"]) for frame in told(amy)] == [("QX1", None)]


def test_who_begins_to_follow_gets_all_rows_there_are_and_none_that_is_gone() -> None:
    """Each as it is now, with how long it has been so."""
    bench = Bench()
    room = bench.stream()
    bench.follow(room, "user:bob")
    say(bench, room, QX1={"n": 1}, QX2={"n": 2}, QX3={"n": 3})
    say(bench, room, QX2=None, QX3={"n": 4})
    bench.now_s += 2.0
    bench.signals()
    amy = bench.follow(room)
    assert [(frame["key"], frame["value"], frame["age"]) for frame in told(amy)] == [
        ("QX1", {"n": 1}, 2.0),
        ("QX3", {"n": 4}, 2.0),
    ]


def test_rows_are_kept_while_nobody_follows() -> None:
    """Nothing is encoded for nobody, and nothing is missing for who comes."""
    bench = Bench()
    room = bench.stream()
    say(bench, room, QX1={"n": 1}, QX2={"n": 2})
    say(bench, room, QX2=None)
    assert [frame["key"] for frame in told(bench.follow(room))] == ["QX1"]


def test_a_row_that_was_never_there_is_not_told_to_be_gone() -> None:
    """Nor is anything else sent."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    say(bench, room, QX1=None)
    assert amy.frames()[1:] == []


def test_a_slow_client_gets_the_latest_of_each_row_once() -> None:
    """However often they changed while its socket was full; one that came and went is told as gone."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    amy.frames()
    bench.block(amy)
    for n in range(50):
        say(bench, room, QX1={"n": n}, QX2={"n": n})
    say(bench, room, QX2=None)
    assert len(amy.signal_keys or ()) == 2
    bench.unblock(amy)
    assert [(frame["key"], frame["value"]) for frame in told(amy)] == [("QX1", {"n": 49}), ("QX2", None)]


def test_who_is_behind_in_the_events_gets_rows_after_them() -> None:
    """Events first, as with every signal."""
    bench = Bench(replace(Limits(), replay_page_events=3))
    room = bench.stream()
    bench.follow(room, "user:bob")
    bench.events(room, 2)
    amy = FakePort("user:amy")
    bench.sub(amy, room, 0)
    say(bench, room, QX1={"n": 1})
    while bench.hub.turn(bench.now_s):
        pass
    ops = [(frame["op"], frame.get("seq", frame.get("key"))) for frame in amy.frames()]
    assert [op for op in ops if op[0] in ("event", "signal")][:3] == [("event", 1), ("event", 2), ("signal", "QX1")]


def test_a_row_named_like_a_follower_is_told_to_it() -> None:
    """A row is nobody's, whatever its key is; also where it had to wait."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    amy.frames()
    bench.hub.signals.rows(room, {"user:amy": (1, bench.now_s)}, bench.now_s)
    bench.hub.flush()
    assert len(told(amy)) == 1
    bench.block(amy)
    bench.hub.signals.rows(room, {"user:amy": (2, bench.now_s)}, bench.now_s)
    bench.unblock(amy)
    assert [frame["value"] for frame in told(amy)] == [2]


def test_in_a_large_room_rows_are_as_quick() -> None:
    """Where presence is told as counts and once a second, rows are still told one by one and at once."""
    bench = Bench(replace(Limits(), presence_list_max=2))
    room = bench.stream()
    ports = [bench.follow(room, f"user:u{n}") for n in range(5)]
    bench.signals()
    for port in ports:
        port.frames()
    say(bench, room, QX1={"n": 1})
    assert [len(told(port)) for port in ports] == [1] * 5


def test_a_stream_that_is_let_go_takes_its_rows_along() -> None:
    """And the typing of those who typed there, but no more than that."""
    bench = Bench(replace(Limits(), stream_idle_s=10.0, presence_grace_s=1.0))
    room, other = bench.stream(1), bench.stream(2)
    amy, bob = bench.follow(room), bench.follow(other, "user:bob")
    say(bench, room, QX1={"n": 1})
    bench.hub.signals.typing(room, "user:cy", True, bench.now_s)
    bench.hub.signals.typing(other, "user:cy", True, bench.now_s)
    bench.hub.drop(amy, bench.now_s)
    bench.signals(1.5)
    bench.now_s += 20.0
    bench.hub.evict(bench.now_s)
    assert room.sid not in bench.hub.by_sid
    assert bob.subs
    assert list(bench.hub.signals._typing) == [(other, "user:cy")]
