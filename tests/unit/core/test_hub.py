"""core.hub: what is known of streams, how events come in, and how big rooms are served. Cursors are in test_replay,
slow sockets in test_outbox, removals in test_removal; `test_hub_properties` interleaves it all.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import hub as hub_module
from core import wire
from core.limits import Limits
from core.model import StreamFacts
from core.policy import OWNS
from core.stream import LIVE, Stream
from tests.fake_port import ENDLESS, FakePort
from tests.hubs import SMALL, Bench, joined, left, said

# Events in


def test_positions_decide_what_is_taken() -> None:
    """Seen is ignored, next is taken, a jump is refused and counted, an overlap gives only what is new."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    frames = [
        (room, seq, wire.encode_event(room.name_b, seq, "message", "k", "user:bob", 0, b"1")) for seq in (1, 2, 3)
    ]
    assert not bench.hub.ingest(0, 2, 3, frames[1:])
    assert not bench.hub.ingest(0, 3, 3, frames[2:])
    assert bench.hub.gaps == 2
    assert bench.hub.ingest(0, 1, 2, frames[:2])
    assert bench.hub.ingest(0, 1, 2, frames[:2])
    assert bench.hub.ingest(0, 2, 3, frames[1:])
    bench.hub.flush()
    assert said(amy) == [("ok", None), ("event", 1), ("event", 2), ("event", 3)]
    assert bench.hub.pos == [3]
    assert bench.fills == []  # what was seen is no hole
    stranger = wire.encode_event(room.name_b, 4, "message", "k", "user:bob", 0, b"1")
    assert bench.hub.ingest(0, 3, 3, [(room, 4, stranger)])
    assert room.head == 3  # its position was seen, whatever it says now


def test_a_batch_leaves_in_one_send() -> None:
    """Ten events and an answer of one turn cost a subscriber one ``send``."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    amy.sends.clear()
    bench.hub.reply(amy, wire.encode_ok(1))
    bench.events(room, 10)
    assert len(amy.sends) == 1
    assert said(amy)[1:] == [("ok", None), *(("event", seq) for seq in range(1, 11))]


def test_one_event_is_one_bytes_object_for_all(big_rooms: None) -> None:
    """Every subscriber is sent the same bytes; nothing is encoded or copied for each."""
    bench = Bench()
    room = bench.stream()
    given: list[bytes] = []
    for name in ("amy", "bob"):
        port = bench.follow(room, f"user:{name}")
        port.send = lambda data: given.append(data) or len(data)  # type: ignore[func-returns-value]
    bench.events(room)
    assert given[0] is given[1]


def test_a_hole_in_a_stream_is_filled_before_anything_later_shows() -> None:
    """Seq 1 is missing: 2 waits for it, the log is asked once, and both come in order."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    frame = wire.encode_event(room.name_b, 2, "message", "k", "user:bob", 0, b"1")
    assert bench.hub.ingest(0, 1, 1, [(room, 2, frame)])
    assert bench.hub.ingest(0, 2, 2, [(room, 2, frame)])
    bench.hub.flush()
    assert (bench.fills, room.want, room.head) == ([room], 2, 0)
    bench.hub.filled(room, bench.rows(room, 1, 1), bench.now_s, 2)
    assert bench.fills == [room, room]
    bench.hub.filled(room, bench.rows(room, 1, 2), bench.now_s, 2)
    assert said(amy) == [("ok", None), ("event", 1), ("event", 2)]


def test_a_hole_that_was_trimmed_is_jumped_over(big_rooms: None) -> None:
    """The log forgot what was missing. It used to be asked for without end; now whoever stood before it is reset."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(3)]
    bench.hub.turn(bench.now_s)
    bench.events(room)  # on tour, one port still to come
    assert room.tour is not None
    room.want = 9
    bench.hub.filled(room, bench.rows(room, 8, 9), bench.now_s, 9)
    assert (room.head, room.base, room.first, room.tour) == (9, 8, 8, None)
    while bench.hub.turn(bench.now_s) or bench.fetches:
        for stream, after in bench.fetches:
            bench.hub.page(stream, after, bench.rows(room, 8, 9), 8)
        bench.fetches.clear()
    for port in ports:
        assert said(port)[-3:] == [("reset", 8), ("event", 8), ("event", 9)]
        assert port.subs[room] == LIVE


def test_what_was_trimmed_before_the_node_met_it_is_a_reset_and_no_event_without_its_body() -> None:
    """A node that missed a batch, and reads the partition after a trim, showed its followers an event whose body was null."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    amy.frames()
    rows = [bench.event(room, 1, body=None, pos=1), bench.event(room, 2, body=None, pos=2), bench.event(room, 3, pos=3)]
    assert bench.hub.ingest_events(0, rows, bench.now_s)
    bench.hub.flush()
    assert bench.hub.pos[0] == 3
    assert said(amy) == []
    assert bench.fills == [room] * len(bench.fills) != []
    bench.hub.filled(room, [bench.event(room, 3)], bench.now_s, room.want)
    bench.hub.turn(bench.now_s)
    while bench.fetches:
        stream, after = bench.fetches.pop()
        bench.hub.page(stream, after, [bench.event(room, 3)], 3)
    bench.hub.turn(bench.now_s)
    assert said(amy) == [("reset", 3), ("event", 3)]


def test_what_was_trimmed_after_the_node_had_it_is_no_hole() -> None:
    """Read again, with the rows behind it: seen is seen, and nothing is asked."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    bench.events(room, 1)
    rows = [bench.event(room, 1, body=None, pos=1), bench.event(room, 2, pos=2)]
    assert bench.hub.ingest_events(0, rows, bench.now_s)
    bench.hub.flush()
    assert (said(amy), bench.fills) == ([("ok", None), ("event", 1), ("event", 2)], [])


def test_when_all_that_was_missing_is_trimmed_head_moves_all_the_same() -> None:
    """No rows are left at all: head is what was wanted, and who waits there is live (and gets markers) at once."""
    bench = Bench()
    room = bench.stream()
    room.want = 2
    amy = bench.follow(room, after=2)
    bench.hub.filled(room, [], bench.now_s, 2)
    bench.hub.turn(bench.now_s)
    assert (room.head, amy.subs[room]) == (2, LIVE)
    bench.events(room)
    assert said(amy) == [("ok", None), ("event", 3)]


def test_rows_for_a_stream_let_go_meanwhile_are_dropped() -> None:
    """Answers to questions about a stream that was evicted change nothing."""
    bench = Bench()
    room = bench.stream()
    bench.now_s += 1e6
    bench.hub.evict(bench.now_s)
    bench.hub.filled(room, bench.rows(room, 1, 2), bench.now_s, 2)
    bench.hub.page(room, 0, bench.rows(room, 1, 2), 1)
    assert (room.head, bench.hub.by_sid, bench.hub.by_name) == (0, {}, {})


# Streams


def test_facts_older_than_a_membership_change_are_not_believed() -> None:
    """A change seen after the snapshot makes its roles stale: asked again."""
    bench = Bench()
    room = bench.stream()
    bench.hub.loading()
    bench.hub.ingest_events(0, [joined(room, 1, "user:bob", 1)], bench.now_s)
    assert bench.hub.load([(bench.facts(1, head=0), "user:bob"), (None, "user:bob")], bench.now_s) == [False, True]
    bench.hub.loading()
    assert bench.hub.load([(bench.facts(1, head=1), "user:bob")], bench.now_s) == [True]
    assert room.role("user:bob", 0) == "member"
    assert room.role("user:eve", 0) is None
    assert room.role("user:eve", OWNS) == "owner"


def test_what_an_unknown_stream_receives_while_its_facts_are_read_is_not_lost() -> None:
    """Events between the snapshot and `load` become a hole that is filled, also when told late and again."""
    bench = Bench()
    other = Stream("demo", "chat:s7", 7, 0, 0, 1, False)
    bench.hub.note_unknown(7, 3)
    bench.hub.loading()
    bench.hub.note_unknown(7, 1)
    rows = [left(other, 2, "user:bob", 1), bench.event(other, 3, pos=2)]
    bench.hub.ingest_events(0, rows, bench.now_s)
    bench.hub.ingest_events(0, [rows[0]._replace(seq=1)], bench.now_s)  # the same position again, as old news
    assert bench.hub.load([(bench.facts(7, head=1), "user:bob")], bench.now_s) == [False]
    bench.hub.loading()
    bench.hub.note_unknown(7, 3)
    assert bench.hub.load([(bench.facts(7, head=2), "user:bob")], bench.now_s) == [True]
    room = bench.hub.by_sid[7]
    assert (room.head, room.want, bench.fills) == (2, 3, [room])


def test_what_unknown_streams_receive_is_forgotten_when_no_facts_are_asked() -> None:
    """Nothing is remembered of streams that nobody asks about, and nothing longer than the last question."""
    bench = Bench()
    other = Stream("demo", "chat:s7", 7, 0, 0, 1, False)
    assert bench.hub.ingest_events(0, [bench.event(other, 1)], bench.now_s)
    bench.hub.loading()
    bench.hub.loading()
    bench.hub.ingest_events(0, [bench.event(other, 2)], bench.now_s)
    bench.hub.loaded()
    assert bench.hub.load([(bench.facts(7, head=1), "user:amy")], bench.now_s) == [True]
    assert bench.hub.by_sid[7].want == 2
    bench.now_s += 1e6
    bench.fills.clear()
    bench.hub.filled(bench.hub.by_sid[7], bench.rows(other, 2, 2), bench.now_s, 2)
    bench.hub.evict(bench.now_s)
    bench.hub.loading()
    bench.hub.load([(bench.facts(7, head=2), "user:amy")], bench.now_s)
    assert (bench.hub.by_sid[7].want, bench.fills) == (2, [])


def test_a_stream_evicted_while_facts_are_on_their_way_leaves_what_it_knew() -> None:
    """The facts are older than what the evicted stream had seen: the difference used to be lost until the next event."""
    bench = Bench()
    room = bench.stream()
    bench.hub.loading()
    bench.events(room, 2)
    bench.now_s += 1e6
    bench.hub.evict(bench.now_s)
    assert not bench.hub.by_sid
    assert bench.hub.load([(bench.facts(1, head=0), "user:amy")], bench.now_s) == [True]
    again = bench.hub.by_sid[1]
    assert (again.head, again.want, bench.fills) == (0, 2, [again])


def test_idle_streams_are_let_go_by_time_and_by_room() -> None:
    """Warm for `stream_idle_s`; the longest idle first when rings hold too much; never one that is followed."""
    bench = Bench(replace(Limits(), rings_bytes_max=3_000))
    rooms = [bench.stream(sid) for sid in (1, 2, 3)]
    amy = bench.follow(rooms[0])
    for room in rooms:
        bench.events(room, 10)
    assert bench.hub.ring_bytes > 3_000
    bench.hub.limits = replace(bench.hub.limits, rings_bytes_max=1 << 20)
    bench.hub.evict(bench.now_s)
    assert list(bench.hub.by_sid) == [1, 2, 3]  # young, and room enough
    bench.hub.limits = replace(bench.hub.limits, rings_bytes_max=3_000)
    rooms[1].want = 99  # a hole is being filled: not this one
    bench.stream(4)  # just loaded for somebody: its ring is empty, so there is nothing to gain
    bench.hub.evict(bench.now_s)
    assert list(bench.hub.by_sid) == [1, 2, 4]
    bench.hub.unsubscribe(amy, rooms[0], bench.now_s)
    bench.hub.evict(bench.now_s + 1e6)
    assert list(bench.hub.by_sid) == [1, 2]  # somebody is within the grace of presence still
    bench.signals(10)
    bench.hub.evict(bench.now_s + 1e6)
    assert list(bench.hub.by_sid) == [2]


def test_facts_are_taken_as_they_are() -> None:
    """What the log says of a stream is what the hub shows of it."""
    bench = Bench()
    facts = StreamFacts(5, "demo", "trip:t", 0, 9, 4, True, None)
    bench.hub.loading()
    assert bench.hub.load([(facts, "user:amy")], bench.now_s) == [True]
    room = bench.hub.by_name["demo", "trip:t"]
    assert (room.head, room.first, room.open, room.live_at, room.floor) == (9, 4, True, 9, 9)
    bench.hub.loading()
    assert bench.hub.load([(replace(facts, first=6), "user:amy")], bench.now_s) == [True]
    assert room.first == 6
    assert ENDLESS > wire.SEQ_MAX


def test_starting_over_leaves_no_stream_behind() -> None:
    """The log was restored: other positions, nothing in memory, everybody who listened for a stream is told; no port may
    follow any more."""
    bench = Bench(partitions=2)
    room, other = bench.stream(1), bench.stream(2)
    gone: list[Stream] = []
    bench.hub.on_let_go = gone.append
    amy = bench.follow(room)
    bench.events(room, 3)
    with pytest.raises(AssertionError, match=r"^a port still follows a stream$"):
        bench.hub.forget([5, 6])
    bench.block(amy)
    bench.events(room, 1)
    assert (amy in room.live, amy in room.behind) == (False, True)
    with pytest.raises(AssertionError, match=r"^a port still follows a stream$"):
        bench.hub.forget([5, 6])
    bench.hub.drop(amy, bench.now_s)
    pos, gone[:] = bench.hub.pos, []
    bench.hub.forget([5, 6])
    assert gone == [room, other]
    assert (bench.hub.by_sid, bench.hub.by_name, bench.hub.idle, bench.hub.ring_bytes) == ({}, {}, {}, 0)
    assert bench.hub.pos is pos
    assert pos == [5, 6]
    bench.signals(1e6)
    assert bench.stream(1) is not room


def test_whether_facts_are_on_their_way() -> None:
    """From the question to its answer, however many there are at once."""
    bench = Bench()
    seen = [bench.hub.is_loading]
    for step in (bench.hub.loading, bench.hub.loading, bench.hub.loaded, bench.hub.loaded):
        step()
        seen.append(bench.hub.is_loading)
    assert seen == [False, True, True, True, False]


def test_facts_of_many_are_taken_each_for_itself() -> None:
    """No such stream, one whose roles are stale, a good one: each answer in its place. What comes into memory is told."""
    bench = Bench()
    held: list[Stream] = []
    bench.hub.on_held = held.append
    stale = bench.stream(1)
    bench.hub.loading()
    bench.hub.ingest_events(0, [joined(stale, 1, "user:bob", 1)], bench.now_s)
    facts = [None, bench.facts(1, head=0), bench.facts(2, head=3), bench.facts(2, head=3), None]
    assert bench.hub.load([(fact, "user:amy") for fact in facts], bench.now_s) == [True, False, True, True, True]
    room = bench.hub.by_sid[2]
    assert (held, list(bench.hub.idle)) == ([stale, room], [stale, room])
    assert (room.partition, room.ahead) == (0, {})
    far = StreamFacts(3, "demo", "chat:s3", 5, 0, 1, False, "member")
    bench.hub.loading()
    bench.hub.load([(far, "user:amy")], bench.now_s)
    assert bench.hub.by_sid[3].partition == 5


def test_old_facts_do_not_undo_newer_ones() -> None:
    """Amy was in at head 5. Facts of head 3, that come later, do not let the removal at 4 end her."""
    bench = Bench()
    room = bench.stream()
    for head in (5, 3):
        bench.hub.loading()
        bench.hub.load([(bench.facts(1, head=head), "user:amy")], bench.now_s)
    assert (room.ahead, room.want) == ({"user:amy": 5}, 5)
    amy = bench.follow(room)
    bench.hub.filled(room, [*bench.rows(room, 1, 3), left(room, 4, "user:amy", 4)], bench.now_s, 5)
    bench.hub.filled(room, [left(room, 5, "user:bob", 5), left(room, 6, "user:amy", 6)], bench.now_s, 6)
    assert said(amy) == [("ok", None), *(("event", seq) for seq in range(1, 7)), ("unsub", 6)]
    assert room.ahead == {}


def test_the_latest_of_what_an_unknown_stream_received_counts() -> None:
    """Its events come out of order and again, from the bus and from the log: the highest is what is wanted."""
    other = Stream("demo", "chat:s7", 7, 0, 0, 1, False)
    for by_note in (True, False):
        bench = Bench()
        bench.hub.loading()
        for seq in (3, 1):
            if by_note:
                bench.hub.note_unknown(7, seq)
            else:
                bench.hub.ingest_events(0, [bench.event(other, seq)], bench.now_s)
        bench.hub.load([(bench.facts(7), "user:amy")], bench.now_s)
        assert bench.hub.by_sid[7].want == 3


def test_the_bounds_of_idleness_to_the_second() -> None:
    """Let go when the time is up and not before, and only where the rings hold more than they may."""
    bench = Bench()
    gone: list[Stream] = []
    bench.hub.on_let_go = gone.append
    room = bench.stream()
    bench.events(room)
    bench.hub.limits = replace(bench.hub.limits, rings_bytes_max=bench.hub.ring_bytes)
    bench.hub.evict(bench.now_s + bench.hub.limits.stream_idle_s - 0.5)
    assert gone == []
    bench.hub.evict(bench.now_s + bench.hub.limits.stream_idle_s)
    assert (gone, bench.hub.ring_bytes) == ([room], 0)


def test_a_stream_of_others_people_is_held_for_the_grace() -> None:
    """Who left here may come back; whom other nodes have does not matter."""
    bench = Bench(replace(Limits(), stream_idle_s=1.0))
    grace_s = bench.hub.limits.presence_grace_s
    room = bench.stream()
    bench.hub.signals.far_count(room, "b", "user:bob", 1, bench.now_s)
    bench.now_s += 100.0
    bench.hub.drop(bench.follow(room), bench.now_s)
    bench.hub.evict(bench.now_s + grace_s - 0.5)
    assert list(bench.hub.by_sid) == [1]
    bench.hub.evict(bench.now_s + grace_s)
    assert bench.hub.by_sid == {}


# Subscribing


def test_a_cursor_starts_where_it_says() -> None:
    """At head: live. Before: what is missing from the ring, then live. In the hole before what is wanted: it waits."""
    bench = Bench()
    room = bench.stream()
    bench.events(room, 5)
    assert said(bench.follow(room)) == [("ok", None)]
    assert said(bench.follow(room, after=3)) == [("ok", None), ("event", 4), ("event", 5)]
    room.want = 7
    early = bench.follow(room, after=6)
    bench.events(room, 2)
    bench.hub.turn(bench.now_s)
    assert said(early) == [("ok", None), ("event", 7)]
    bench.events(room)
    assert said(early) == [("event", 8)]


@pytest.mark.parametrize(
    ("after", "reset", "reason"),
    [(9, None, "ahead"), (6, None, "ahead"), (1, None, "trimmed"), (2, None, "trimmed"), (4, "epoch", "epoch")],
)
def test_a_cursor_that_cannot_be_honoured_is_reset(after: int, reset: str | None, reason: str) -> None:
    """Past head, before what is kept, of another epoch: told so, then everything from ``first``."""
    bench = Bench()
    room = bench.stream(head=3, first=4)
    bench.events(room, 2)
    amy = FakePort()
    bench.hub.reply(amy, wire.encode_ok(1))
    bench.hub.subscribe(amy, room, after, bench.now_s, reset)
    bench.hub.flush()
    assert said(amy) == [("ok", None), ("reset", 4), ("event", 4), ("event", 5)]
    assert (amy.seen[1]["reason"], amy.seen[1]["head"]) == (reason, 5)
    bench.hub.subscribe(amy, room, after, bench.now_s, reset)
    assert bench.hub.resets == 2


def test_subscribing_again_starts_again() -> None:
    """A second sub replaces the first; a second unsub does nothing."""
    bench = Bench()
    room = bench.stream()
    bench.events(room, 2)
    amy = bench.follow(room)
    bench.sub(amy, room, after=1)
    assert said(amy) == [("ok", None), ("ok", None), ("event", 2)]
    bench.hub.unsubscribe(amy, room, bench.now_s)
    bench.hub.unsubscribe(amy, room, bench.now_s)
    assert list(bench.hub.idle) == [room]


def test_a_dropped_port_leaves_nothing_behind() -> None:
    """Nothing waits for it, nothing is said to it, no turn comes to it."""
    bench = Bench(SMALL)
    room = bench.stream()
    bench.events(room, 8)
    amy = bench.follow(room, after=0)
    assert amy in bench.hub.ready
    bench.block(amy)
    bench.hub.reply(amy, wire.encode_ok(1))
    bench.hub.signals.mark(room, "user:bob", 1, 1)
    bench.signals()
    bench.hub.drop(amy, bench.now_s)
    assert (amy.closed, amy.blocked, amy in bench.hub.ready) == (True, True, False)
    assert [amy.out, amy.replies, amy.rest, amy.mark_keys, amy.signal_keys] == [None] * 5
    bench.hub.reply(amy, wire.encode_ok(2))
    assert (amy.out, amy.replies, room.live, room.behind, list(bench.hub.idle)) == (None, None, {}, {}, [room])


def test_what_a_socket_refused_of_markers_and_signals_is_told_with_its_value_of_later() -> None:
    """Kept as keys: the marker that is true then, the signal with its age of then."""
    bench = Bench()
    room = bench.stream(head=9)
    amy = bench.follow(room)
    bench.signals()
    amy.frames()
    amy.room = 10
    for who in ("user:bob", "user:cy"):
        bench.hub.signals.mark(room, who, 4, 1)
    bench.hub.signals.typing(room, "user:dee", True, bench.now_s)
    bench.signals()
    assert (amy.mark_keys, amy.signal_keys) == ({(room, "user:cy"): None}, {(room, ("typing", "user:dee")): None})
    bench.hub.signals.mark(room, "user:cy", 7, 7)
    bench.signals(2.0)
    bench.unblock(amy)
    assert [(f.get("by"), f.get("read", f.get("age"))) for f in amy.frames()] == [
        ("user:bob", 1),
        ("user:cy", 7),
        ("user:dee", 2.0),
    ]


# Big rooms


def test_who_is_dropped_during_a_tour_costs_no_search(big_rooms: None) -> None:
    """A storm of ends in a big room: the tour keeps the closed ports and passes over them, lagging ones are just gone."""
    bench = Bench(SMALL)
    room, other = bench.stream(1), bench.stream(2)
    bench.events(other, 5)
    ports = [bench.follow(room, f"user:{n}") for n in range(6)]
    bench.sub(ports[0], other, after=0)  # a page is more than one turn
    bench.events(room, 1)
    bench.block(ports[1])
    assert room.tour is not None
    todo = len(room.tour.todo)
    bench.hub._behind(ports[1], room, 0)
    for port in ports[:3]:
        bench.hub.drop(port, bench.now_s)
    assert len(room.tour.todo) == todo
    while bench.hub.turn(bench.now_s):
        pass
    assert [port.seqs() for port in ports[3:]] == [[1]] * 3
    assert (len(room.live), room.behind, other.behind) == (3, {}, {})


def test_what_was_delivered_is_counted(big_rooms: None) -> None:
    """Events times subscribers, in small rooms, larger ones and those on tour."""
    bench = Bench(SMALL)
    delivered = []
    for sid, people in enumerate((1, 2, 3), 1):
        room = bench.stream(sid)
        for n in range(people):
            bench.follow(room, f"user:{n}")
        bench.events(room, 4)
        delivered.append(bench.hub.delivered)
    assert delivered == [4, 12, 24]


def test_which_way_a_room_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the bound with the turn's other bytes, above it at once, above a slice by a tour."""
    monkeypatch.setattr(hub_module, "GATHER_PORTS_MAX", 2)
    for people, at_once, tour in ((2, 0, False), (3, 3, False), (4, 4, False), (5, 0, True)):
        bench = Bench(replace(SMALL, slice_deliveries=4))
        room = bench.stream()
        ports = [bench.follow(room, f"user:{n}") for n in range(people)]
        for port in ports:
            port.sends.clear()
        frame = wire.encode_event(room.name_b, 1, "message", "k", "user:bob", 0, b"1")
        bench.hub.ingest(0, 1, 1, [(room, 1, frame)])
        assert (sum(len(port.sends) for port in ports), room.tour is not None) == (at_once, tour)
        bench.hub.flush()
        while bench.hub.turn(bench.now_s):
            pass
        assert all(port.sends == [frame] for port in ports)


def test_two_big_rooms_tour_side_by_side(big_rooms: None) -> None:
    """A slice of each, each turn."""
    bench = Bench(SMALL)
    rooms = [bench.stream(sid) for sid in (1, 2)]
    ports = [[bench.follow(room, f"user:{n}") for n in range(6)] for room in rooms]
    for room in rooms:
        bench.events(room)
    for turn in (1, 2, 3):
        assert bench.hub.turn(bench.now_s) is (turn < 3)
        assert [sum(len(port.sends) == 2 for port in people) for people in ports] == [2 * turn, 2 * turn]


@pytest.mark.parametrize(("meanwhile", "lagged", "asked"), [(7, 0, 0), (8, 0, 0), (9, 3, 1), (10, 3, 1)])
def test_the_ring_after_a_tour_to_the_event(big_rooms: None, meanwhile: int, lagged: int, asked: int) -> None:
    """As long as the ring begins where the tour ended, the next tour is of the ring; one event later the log is asked."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(3)]
    for _ in range(1 + meanwhile):
        bench.events(room, 1)
    while bench.hub.turn(bench.now_s):
        pass
    assert (bench.hub.lagged, len(bench.fetches)) == (lagged, asked)
    for stream, after in bench.fetches:
        bench.hub.page(stream, after, bench.rows(room, after + 1, after + 3), 1)
    while bench.hub.turn(bench.now_s):
        pass
    for port in ports:
        assert port.seqs() == list(range(1, 2 + meanwhile))


def test_a_big_room_goes_out_in_slices(big_rooms: None) -> None:
    """Six ports, two a turn; what comes meanwhile goes on the next tour, in order."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(6)]
    bench.events(room, 1)
    assert sum(port.seqs() == [1] for port in ports) == 0
    bench.hub.turn(bench.now_s)
    assert sum(bool(port.sends[1:]) for port in ports) == 2
    bench.events(room, 1)
    while bench.hub.turn(bench.now_s):
        pass
    for port in ports:
        assert port.seqs() == [1, 2]


def test_who_comes_and_goes_during_a_tour(big_rooms: None) -> None:
    """Joining at head, leaving before one's slice, coming back, breaking: each gets its own, once."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(6)]
    bench.events(room, 1)
    back = ports[0]
    bench.hub.unsubscribe(back, room, bench.now_s)
    bench.sub(back, room)
    bench.hub.drop(ports[1], bench.now_s)
    bench.events(room, 1)  # head is past the tour's end
    new = bench.follow(room, "user:new")
    while bench.hub.turn(bench.now_s):
        pass
    assert (back.seqs(), ports[1].seqs(), new.seqs()) == ([2], [], [])
    assert all(port.seqs() == [1, 2] for port in ports[2:])
    bench.events(room, 1)
    while bench.hub.turn(bench.now_s):
        pass
    assert [port.seqs() for port in (back, new, ports[2])] == [[3]] * 3


def test_a_tour_slower_than_the_ring(big_rooms: None) -> None:
    """So much came during the tour that the ring moved on: the log has it, for who lags and who waits at head."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(3)]
    bench.events(room, 1)
    for _ in range(30):
        bench.events(room, 1)
    late = bench.follow(room, "user:late")
    assert late.subs[room] == 31
    bench.hub.turn(bench.now_s)
    bench.hub.turn(bench.now_s)
    for _ in range(60):
        bench.hub.turn(bench.now_s)
        for stream, after in bench.fetches:
            bench.hub.page(stream, after, bench.rows(room, after + 1, min(after + 5, 31)), 1)
        bench.fetches.clear()
    for port in ports:
        assert port.seqs() == list(range(1, 32))
    assert late.subs[room] == LIVE


def test_a_room_that_shrinks_during_its_tour(big_rooms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tour ends with few left: the next events go the way of small rooms, in the same turn."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(3)]
    bench.events(room, 1)
    bench.events(room, 1)
    monkeypatch.setattr(hub_module, "GATHER_PORTS_MAX", 64)
    while bench.hub.turn(bench.now_s):
        pass
    assert [port.seqs() for port in ports] == [[1, 2]] * 3


def test_a_big_room_does_not_overtake_an_answer(big_rooms: None) -> None:
    """The ok to a sub waits for the turn's end; the room's events used to go out directly, before it."""
    bench = Bench()
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    amy.frames()
    bench.hub.reply(amy, wire.encode_ok(7))
    bench.events(room)
    assert said(amy) == [("ok", None), ("event", 1)]
    assert bob.seqs() == [1]


def test_a_direct_send_that_is_cut(big_rooms: None) -> None:
    """Full, half taken, blocked before: each is caught up from its own place; one that broke is told so and left."""
    bench = Bench()
    room = bench.stream()
    full, half, shut, dead = (bench.follow(room, f"user:{n}") for n in range(4))
    full.frames(), half.frames()
    full.room, half.room = 0, 20
    bench.block(shut)
    dead.gone = True
    bench.events(room, 2)
    assert (dead.calls, dead.closed) == (["broken"], True)
    assert (full.calls, full.blocked, half.calls, half.blocked) == (["stall"], True, ["stall"], True)
    bench.hub.drop(dead, bench.now_s)
    assert (full.subs[room], half.subs[room], shut.subs[room]) == (0, 1, 0)
    for port in (full, half, shut):
        bench.unblock(port)
        assert port.seqs() == [1, 2]


def test_markers_wait_for_the_tour(big_rooms: None) -> None:
    """A marker of an event still on tour used to reach the last ports before the event."""
    bench = Bench(SMALL)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(4)]
    bench.signals()
    for port in ports:
        port.frames()
    bench.events(room, 1)
    bench.hub.turn(bench.now_s)
    bench.hub.signals.mark(room, "user:x", 1, 1)
    bench.signals()
    late = bench.follow(room, "user:late")
    assert all(op != "mark" for port in (*ports, late) for op, _ in said(port, signals=True))
    while bench.hub.turn(bench.now_s):
        pass
    bench.signals()
    for port in (*ports, late):
        assert ("mark", 1) in said(port, signals=True)
