"""Removal from a stream: everything up to its place, nothing past it, whatever is late, lagging or trimmed."""

from __future__ import annotations

from tests.fake_port import FakePort
from tests.hubs import SMALL, Bench, joined, left, said


def test_a_removal_cuts_at_its_place() -> None:
    """The removed gets everything up to its removal and nothing past it, live or lagging, and is told."""
    bench = Bench(SMALL)
    room = bench.stream()
    bench.events(room, 4)
    live, lagging, other = bench.follow(room), bench.follow(room, after=0), bench.follow(room, "user:bob")
    for port in (live, lagging, other):
        port.frames()
    rows = [bench.event(room, 5, pos=5), left(room, 6, "user:amy", 6), bench.event(room, 7, pos=7)]
    assert bench.hub.ingest_events(0, rows, bench.now_s)
    bench.hub.flush()
    while bench.hub.turn(bench.now_s):
        pass
    assert said(live) == [("event", 5), ("event", 6), ("unsub", 6)]
    assert said(lagging) == [("event", 4), ("event", 5), ("event", 6), ("unsub", 6)]
    assert other.seqs() == [5, 6, 7]
    assert "user:amy" not in room.roles
    assert (live.subs, lagging.subs) == ({}, {})


def test_a_removal_reaches_a_blocked_port_when_it_drains() -> None:
    """Blocked at the time: its last events and the word of it wait for its socket, and nothing later slips in."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    amy.frames()
    bench.block(amy)
    bench.hub.ingest_events(0, [left(room, 1, "user:amy", 1), bench.event(room, 2, pos=2)], bench.now_s)
    bench.hub.ready[amy] = None  # as a page that failed would leave it
    bench.hub.turn(bench.now_s)
    bench.unblock(amy)
    assert not bench.hub.turn(bench.now_s)
    assert said(amy)[-2:] == [("event", 1), ("unsub", 1)]


def test_a_removal_during_a_tour(big_rooms: None) -> None:
    """Some were served by the tour and some not yet: all end at the same seq."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, "user:amy" if n < 4 else f"user:{n}") for n in range(6)]
    bench.events(room, 1)
    bench.hub.turn(bench.now_s)
    bench.hub.ingest_events(0, [left(room, 2, "user:amy", 2), bench.event(room, 3, pos=3)], bench.now_s)
    bench.hub.flush()
    while bench.hub.turn(bench.now_s):
        pass
    for port in ports[:4]:
        assert said(port)[1:] == [("event", 1), ("event", 2), ("unsub", 2)]
    assert all(port.seqs() == [1, 2, 3] for port in ports[4:])


def test_a_removal_during_a_tour_after_which_nothing_comes(big_rooms: None) -> None:
    """No later event rouses those whom the tour had not come to: they are brought to their end all the same."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, "user:amy" if n in (0, 5) else f"user:{n}") for n in range(6)]
    bench.events(room, 1)
    bench.hub.turn(bench.now_s)  # serves the last two
    assert room.tour is not None
    assert (ports[0] in room.tour.todo, ports[5] in room.tour.todo) == (True, False)
    bench.hub.ingest_events(0, [left(room, 2, "user:amy", 2)], bench.now_s)
    assert (ports[0] in room.tour.todo, ports[5] in room.live) == (False, False)
    while bench.hub.turn(bench.now_s):
        pass
    for port in (ports[0], ports[5]):
        assert said(port)[1:] == [("event", 1), ("event", 2), ("unsub", 2)]
    assert all(port.seqs() == [1, 2] for port in ports[1:5])


def test_removed_from_two_streams_each_ends_at_its_own_place() -> None:
    """A port that lags in both: the one that it has already ends, the other when it is there."""
    bench = Bench(SMALL)
    one, two = bench.stream(1), bench.stream(2)
    bench.events(one, 1)
    bench.events(two, 8)
    amy = FakePort()
    bench.sub(amy, one, after=0)
    bench.sub(amy, two, after=0)
    bench.block(amy)
    for stream, seq in ((one, 1), (two, 7)):
        bench.hub.remove(stream, "user:amy", seq, bench.now_s)
    bench.unblock(amy)
    while bench.hub.turn(bench.now_s):
        pass
    frames = [(f["op"], f["stream"], f["seq"]) for f in amy.frames() if f["op"] in ("event", "unsub") and "seq" in f]
    assert [seq for op, stream, seq in frames if (op, stream) == ("event", "chat:s2")] == list(range(1, 8))
    assert [frame for frame in frames if frame[0] == "unsub"] == [("unsub", "chat:s1", 1), ("unsub", "chat:s2", 7)]
    assert (amy.subs, amy.until) == ({}, {})


def test_removed_twice_the_first_counts() -> None:
    """Removed, back and removed again before it was told: the second removal used to raise the bar of the first."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    amy.frames()
    bench.block(amy)
    rows = [left(room, 1, "user:amy", 1), joined(room, 2, "user:amy", 2), left(room, 3, "user:amy", 3)]
    bench.hub.ingest_events(0, rows, bench.now_s)
    bench.unblock(amy)
    bench.hub.turn(bench.now_s)
    assert said(amy)[1:] == [("event", 1), ("unsub", 1)]


def test_a_removal_that_the_facts_already_count_in() -> None:
    """Facts say: removed at 1, back at 2. The news of it comes later and used to end who was rightly there."""
    for known in (False, True):
        bench = Bench()
        if known:
            bench.stream(who="user:bob")
        room = bench.stream(head=2)
        amy = bench.follow(room, after=2)
        assert (room.ahead == {"user:amy": 2}) == known
        bench.hub.ingest_events(0, [left(room, 1, "user:amy", 1), joined(room, 2, "user:amy", 2)], bench.now_s)
        bench.hub.flush()
        assert said(amy) == [("ok", None)]
        assert room.roles["user:amy"] == "member"
        if known:
            bench.hub.filled(room, bench.rows(room, 1, 2), bench.now_s, 2)
        bench.hub.ingest_events(0, [left(room, 3, "user:amy", 3)], bench.now_s)
        bench.hub.flush()
        while bench.hub.turn(bench.now_s):
            pass
        assert said(amy) == [("event", 3), ("unsub", 3)]


def test_a_removal_whose_place_was_trimmed() -> None:
    """The removed lagged, and the log trimmed past its removal: it used to follow for ever without a word."""
    bench = Bench(SMALL)
    room = bench.stream()
    bench.events(room, 2)
    amy = bench.follow(room)
    amy.frames()
    bench.block(amy)
    bench.hub.ingest_events(0, [left(room, 3, "user:amy", 3)], bench.now_s)
    bench.events(room, 12)
    bench.hub.trimmed(room, 10)
    bench.unblock(amy)
    assert bench.fetches == [(room, 2)]
    bench.hub.page(room, 2, bench.rows(room, 10, 15), 10)
    while bench.hub.turn(bench.now_s):
        pass
    assert said(amy)[1:] == [("unsub", 3)]


def test_a_removal_amid_a_hole_keeps_nobody_busy() -> None:
    """The removal is known before the events up to it: the loop used to spin until the hole was filled."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    bench.hub.ingest_events(0, [left(room, 3, "user:amy", 1)], bench.now_s)
    bench.hub.flush()
    assert not bench.hub.turn(bench.now_s)
    rows = [*bench.rows(room, 1, 2), left(room, 3, "user:amy", 1)]
    bench.hub.filled(room, rows, bench.now_s, 3)
    while bench.hub.turn(bench.now_s):
        pass
    assert said(amy) == [("ok", None), ("event", 1), ("event", 2), ("event", 3), ("unsub", 3)]


def test_open_streams_and_strange_bodies_remove_nobody() -> None:
    """Who leaves an open stream may stay; a change that names nobody changes nothing."""
    bench = Bench()
    room = bench.stream(open=True)
    amy = bench.follow(room)
    bodies = [b"null", b'{"principal":["user:amy"]}', b'{"principal":"user:amy"}', None]  # None: trimmed
    rows = [left(room, n, "", n)._replace(body=body) for n, body in enumerate(bodies, 1)]
    bench.hub.ingest_events(0, rows, bench.now_s)
    bench.hub.flush()
    assert amy.seqs() == [1, 2, 3, 4]
    assert list(amy.subs) == [room]


def test_a_removal_that_was_trimmed_before_it_was_met() -> None:
    """Nobody can say any more who was removed: all are let go and may come in again. It used to pass unseen."""
    bench = Bench()
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bench.hub.ingest_events(0, [left(room, 1, "", 1)._replace(body=None), bench.event(room, 2, pos=2)], bench.now_s)
    bench.hub.flush()
    for port in (amy, bob):
        assert said(port) == [("ok", None), ("event", 1), ("unsub", 1)]
    assert room.roles == {}


def test_rows_with_a_gap_before_a_membership_change_are_refused() -> None:
    """The change is not applied before its place has come."""
    bench = Bench()
    room = bench.stream()
    bench.follow(room)
    assert not bench.hub.ingest_events(0, [left(room, 2, "user:amy", 2)], bench.now_s)
    assert room.members_seq == 0
