"""core.shows: latest values go out in slices, once a flush, and to who was too slow as they are then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core import shows
from core.hub import Hub
from core.limits import Limits
from core.shows import Shows
from core.stream import Stream
from tests.fake_port import FakePort, Frame
from tests.hubs import Bench

TRUCK = "device:truck-7"
POSITION = ("position", TRUCK)


def shown(port: FakePort) -> list[Frame]:
    """Positions and the like that reached the port since the last call, without what is the same in all."""
    frames = [
        frame for frame in port.frames() if frame["op"] == "signal" and frame["kind"] not in ("presence", "online")
    ]
    return [{k: v for k, v in frame.items() if k not in ("op", "stream")} for frame in frames]


def flush(bench: Bench, slice_max: int = 100, *, large_rooms: bool = False) -> int:
    """All of it; how many times others had a turn."""
    return sum(1 for _ in bench.hub.signals.flush_live(lambda: bench.now_s, slice_max, large_rooms=large_rooms))


def waiting(bench: Bench) -> bool:
    return bench.hub.signals.shown_waiting


def frame(value: object, age: float = 0.0, by: str = TRUCK, kind: str = "position") -> Frame:
    return {"kind": kind, "by": by, "value": value, "age": age}


def test_what_is_shown_is_told_once_with_its_age() -> None:
    """The latest of what changed since the last flush; a callable is asked when it is told."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    signals = bench.hub.signals
    asked: list[int] = []

    def value() -> int:
        asked.append(1)
        return 3

    signals.show(room, POSITION, 1, bench.now_s)
    signals.show(room, POSITION, value, bench.now_s - 2.5)
    assert waiting(bench)
    assert signals.shown_deliveries == 1, "to amy"
    assert not asked
    flush(bench)
    assert shown(amy) == [frame(3, 2.5)]
    assert signals.latest(room, POSITION) == (value, bench.now_s - 2.5)
    assert not waiting(bench)
    assert signals.shown_deliveries == 0
    flush(bench)
    assert shown(amy) == []


def test_who_comes_gets_what_there_is() -> None:
    """What was shown without telling, too; and of what nobody followed nothing is kept to be told."""
    bench = Bench()
    room = bench.stream()
    signals = bench.hub.signals
    signals.show(room, POSITION, 1, bench.now_s)
    flush(bench)
    amy = bench.follow(room)
    assert shown(amy) == [frame(1)]
    signals.show(room, ("trail", TRUCK), [1], bench.now_s, tell=False)
    flush(bench)
    assert shown(amy) == []
    bob = bench.follow(room, "user:bob")
    assert shown(bob) == [frame(1), frame([1], kind="trail")]


def test_nobody_is_told_of_its_own_except_on_another_device() -> None:
    """One device alone knows where it is; the desk of who carries it does not."""
    bench = Bench()
    room = bench.stream()
    truck, amy = bench.follow(room, TRUCK), bench.follow(room)
    signals = bench.hub.signals
    signals.show(room, POSITION, 1, bench.now_s)
    signals.show(room, ("eta", "service:eta"), 2, bench.now_s)
    flush(bench)
    assert shown(truck) == [frame(2, by="service:eta", kind="eta")]
    assert len(shown(amy)) == 2
    desk = bench.follow(room, TRUCK)
    assert frame(1) in shown(desk)
    signals.show(room, POSITION, 3, bench.now_s)
    flush(bench)
    assert shown(truck) == shown(desk) == [frame(3)]
    phone = bench.follow(bench.stream(2, who=TRUCK), TRUCK)
    signals.show(next(iter(phone.subs)), POSITION, 4, bench.now_s)
    flush(bench)
    assert shown(phone) == []


def test_others_have_a_turn_between_slices() -> None:
    """After so many deliveries, however they lie in streams; what becomes of a port meanwhile is respected."""
    bench = Bench()
    rooms = [bench.stream(sid) for sid in (1, 2)]
    ports = [[bench.follow(room, f"user:u{n}") for n in range(5)] for room in rooms]
    for room in rooms:
        bench.hub.signals.show(room, POSITION, room.sid, bench.now_s)
    assert flush(bench, 4) == 2
    assert [[len(shown(port)) for port in of] for of in ports] == [[1] * 5] * 2
    for room in rooms:
        bench.hub.signals.show(room, POSITION, -room.sid, bench.now_s)
    going = bench.hub.signals.flush_live(lambda: bench.now_s, 4, large_rooms=False)
    next(going)
    assert [len(shown(port)) for port in ports[0]] == [1, 1, 1, 1, 0], "sent before others have their turn"
    bench.hub.drop(ports[0][4], bench.now_s)
    ports[1][0].room = 0
    bench.events(rooms[1])
    assert ports[1][0].blocked
    bench.hub.unsubscribe(ports[1][1], rooms[1], bench.now_s)
    bench.hub.signals.show(rooms[1], POSITION, 7, bench.now_s)
    for _ in going:
        pass
    assert [len(shown(port)) for port in ports[1]] == [0, 0, 1, 1, 1]
    bench.unblock(ports[1][0])
    assert shown(ports[1][0]) == [frame(7)]


def test_who_follows_several_streams_gets_one_send() -> None:
    """What changed in all of them; who follows one of them gets that."""
    bench = Bench()
    rooms = [bench.stream(sid) for sid in (1, 2, 3)]
    amy, bob = bench.follow(rooms[0]), bench.follow(rooms[2], "user:bob")
    for room in rooms[1:]:
        bench.sub(amy, room)
    for port in (amy, bob):
        port.frames()
        port.sends.clear()
    for room in rooms:
        bench.hub.signals.show(room, POSITION, room.sid, bench.now_s)
    assert flush(bench) == 0
    assert [each["value"] for each in shown(amy)] == [1, 2, 3]
    assert shown(bob) == [frame(3)]
    assert (len(amy.sends), len(bob.sends)) == (1, 1)


def test_what_is_followed_by_many_is_gathered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that others have their turns, however much moved: who follows several then gets several sends, and all of it."""
    monkeypatch.setattr(shows, "GATHERED", 4)
    bench = Bench()
    rooms = [bench.stream(sid) for sid in range(1, 6)]
    ports = [bench.follow(rooms[0], f"user:u{n}") for n in range(2)]
    for port in ports:
        for room in rooms[1:]:
            bench.sub(port, room)
        port.frames()
        port.sends.clear()
    for room in rooms:
        bench.hub.signals.show(room, POSITION, room.sid, bench.now_s)
    assert flush(bench, 4) == 2
    assert [[each["value"] for each in shown(port)] for port in ports] == [[1, 2, 3, 4, 5]] * 2
    assert [len(port.sends) for port in ports] == [3, 3]


def test_ages_are_of_about_the_moment_of_the_send() -> None:
    """Others took a while between the slices of a room: what was encoded before is encoded again."""
    bench = Bench()
    room = bench.stream()
    ports = [bench.follow(room, f"user:u{n}") for n in range(3)]
    bench.hub.signals.show(room, POSITION, 1, bench.now_s)
    for _ in bench.hub.signals.flush_live(lambda: bench.now_s, 1, large_rooms=False):
        bench.now_s += shows.FRESH_S * 0.75
    ages = [each["age"] for port in ports for each in shown(port)]
    assert ages == [0.0, 0.0, 0.1]


def test_who_was_too_slow_gets_the_latest_only() -> None:
    """However much it moved while its socket took nothing, one frame, with the age of then; and so for who lags behind."""
    bench = Bench(replace(Limits(), ring_events_max=8, replay_page_events=3))
    room = bench.stream()
    amy = bench.follow(room)
    amy.frames()
    amy.room = 0
    bench.events(room)
    for number in range(50):
        bench.hub.signals.show(room, POSITION, number, bench.now_s)
        flush(bench)
    assert amy.replies is None
    bench.now_s += 9.0
    bench.signals(0.0)
    bench.unblock(amy)
    frames = amy.frames()
    assert [each["op"] for each in frames] == ["event", "signal"]
    assert (frames[-1]["value"], frames[-1]["age"]) == (49, 9.0)


def test_what_is_shown_no_more_is_told_as_null() -> None:
    """Once, to who follows, and to nobody who comes later."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    signals = bench.hub.signals
    signals.show(room, POSITION, 1, bench.now_s)
    flush(bench)
    signals.unshow(room, POSITION)
    signals.unshow(room, POSITION)
    flush(bench)
    assert shown(amy) == [frame(1), frame(None)]
    assert shown(bench.follow(room, "user:bob")) == []


def test_a_large_room_is_told_once_a_second() -> None:
    """What moved meanwhile is kept, the latest of it."""
    bench = Bench(replace(Limits(), presence_list_max=2))
    room = bench.stream()
    ports = [bench.follow(room, f"user:u{n}") for n in range(4)]
    for value in (1, 2):
        bench.hub.signals.show(room, POSITION, value, bench.now_s)
        flush(bench)
        assert not any(shown(port) for port in ports)
        assert waiting(bench)
    flush(bench, large_rooms=True)
    assert [shown(port) for port in ports] == [[frame(2)]] * 4


def test_a_stream_that_was_let_go_tells_nothing() -> None:
    """Nor does a hub that starts over."""
    bench = Bench()
    signals = bench.hub.signals
    room = bench.stream()
    signals.show(room, POSITION, 1, bench.now_s)
    signals.let_go(room)
    assert not waiting(bench)
    signals.show(room, POSITION, 1, bench.now_s)
    signals.forget()
    assert not waiting(bench)


def test_rows_are_nobody_s() -> None:
    """A row whose key looks like a principal's name is told to that principal, too."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    bench.hub.signals.rows(room, {"user:amy": (1, bench.now_s)}, bench.now_s)
    bench.hub.flush()
    assert [each["key"] for each in shown(amy)] == ["user:amy"]
    late = FakePort("user:amy")
    bench.sub(late, room)
    assert [each["key"] for each in shown(late)] == ["user:amy"]


def test_a_row_that_never_was_cannot_go() -> None:
    """Nobody is told anything."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    bench.hub.signals.rows(room, {"seat:12A": (None, bench.now_s)}, bench.now_s)
    bench.hub.flush()
    assert shown(amy) == []


def test_the_middle_alone_sends_nothing() -> None:
    """Encoding and noting are the upper half's."""
    middle: Any = Shows(Hub(1, Limits(), fetch=lambda stream, after: None, fill=lambda stream: None))
    stream = Stream("demo", "trip:9", 1, 0, 0, 1, open=True)
    with pytest.raises(NotImplementedError):
        middle.note_again(None, [])
    with pytest.raises(NotImplementedError):
        middle._encode(stream, POSITION, 0.0)
