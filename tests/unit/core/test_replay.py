"""core.replay: from any cursor to live, a page a turn, from the ring or from the log."""

from __future__ import annotations

from dataclasses import replace

from core import wire
from core.limits import Limits
from core.replay import KEPT_PAGES_MAX, SEND_BYTES, encode
from core.stream import LIVE, Stream
from tests.fake_port import FakePort
from tests.hubs import SMALL, Bench, said


def test_a_replay_goes_a_page_a_turn() -> None:
    """No replay holds the shard: `replay_page_events` a turn, or `replay_page_bytes`, and at least one event."""
    bench = Bench(SMALL)
    room = bench.stream()
    bench.events(room, 7)
    amy = bench.follow(room, after=0)
    assert amy.seqs() == [1, 2, 3]
    assert bench.hub.turn(bench.now_s)
    assert amy.seqs() == [4, 5, 6]
    bench.hub.turn(bench.now_s)
    assert (amy.seqs(), amy.subs[room]) == ([7], LIVE)
    assert not bench.hub.turn(bench.now_s)
    tight = Bench(replace(Limits(), replay_page_bytes=200))
    room = tight.stream()
    tight.events(room, 3, size=150)
    bob = tight.follow(room, after=0)
    assert bob.seqs() == [1]
    while tight.hub.turn(tight.now_s):
        pass
    assert bob.seqs() == [2, 3]


def test_what_the_ring_lost_comes_from_the_log_once_for_all_who_wait() -> None:
    """Two at the same cursor cost one page; the ring takes over where the page ends."""
    bench = Bench(SMALL)
    room = bench.stream()
    bench.events(room, 12)
    assert room.base > 1
    ports = [bench.follow(room, after=0) for _ in range(2)]
    bench.hub.pump(ports[0])
    bench.hub.flush()
    assert bench.fetches == [(room, 0)]
    bench.hub.page(room, 0, bench.rows(room, 1, 10), 1)
    while bench.hub.turn(bench.now_s):
        pass
    for port in ports:
        assert port.seqs() == list(range(1, 13))


def test_a_page_that_meets_the_ring_makes_it_reach_further_back() -> None:
    """The next reader needs no log, as long as the ring's bounds allow it."""
    bench = Bench(replace(SMALL, ring_events_max=64))
    room = bench.stream(head=4)
    bench.events(room, 2)
    assert bench.follow(room, after=0).seqs() == []
    bench.hub.page(room, 0, bench.rows(room, 1, 4), 1)
    assert (room.base, bench.hub.ring_bytes) == (1, sum(map(len, room.frames)))
    bench.fetches.clear()
    bench.follow(room, after=0)
    assert bench.fetches == []
    for limits in (replace(SMALL, ring_events_max=5), replace(SMALL, ring_bytes_max=500)):
        bench = Bench(limits)
        room = bench.stream(head=4)
        bench.events(room, 2)
        bench.follow(room, after=0)
        bench.hub.page(room, 0, bench.rows(room, 1, 4), 1)
        assert room.base == 5


def test_a_page_that_failed_is_asked_for_again() -> None:
    """The log could not answer: the port waits, keeps its place, and asks at its next turn."""
    bench = Bench()
    room = bench.stream(head=4)
    amy, bob = bench.follow(room, after=0), bench.follow(room, after=0)
    bench.hub.drop(bob, bench.now_s)
    bench.hub.page_failed(room, 0)
    bench.hub.turn(bench.now_s)
    assert bench.fetches == [(room, 0), (room, 0)]
    bench.hub.page(room, 0, bench.rows(room, 1, 4), 1)
    assert amy.seqs() == [1, 2, 3, 4]


def test_a_page_for_who_is_elsewhere_by_now() -> None:
    """Gone, blocked or moved on: the page is for those who still stand where it starts."""
    bench = Bench()
    room = bench.stream(head=4)
    gone, blocked, moved = (bench.follow(room, f"user:{n}", after=0) for n in range(3))
    bench.hub.drop(gone, bench.now_s)
    bench.block(blocked)
    bench.sub(moved, room)
    bench.hub.page(room, 0, bench.rows(room, 1, 3), 1)
    assert moved.seqs() == []
    assert blocked.subs[room] == 0
    bench.unblock(blocked)
    assert bench.fetches == [(room, 0), (room, 0)]


def test_history_trimmed_under_a_laggard_is_a_reset() -> None:
    """What it still needed is no longer kept: told so, and it goes on from what is."""
    bench = Bench()
    room = bench.stream(head=4)
    amy = bench.follow(room, after=0)
    bench.hub.page(room, 0, bench.rows(room, 3, 4), 3)
    bench.hub.page(room, 2, bench.rows(room, 3, 4), 3)
    assert said(amy) == [("ok", None), ("reset", 3), ("event", 3), ("event", 4)]


def test_trimming_cuts_the_ring() -> None:
    """The ring forgets with the log, and its bytes are given back."""
    bench = Bench()
    room = bench.stream()
    bench.events(room, 4)
    bench.hub.trimmed(room, 3)
    bench.hub.trimmed(room, 2)
    assert (room.base, room.first, len(room.frames)) == (3, 3, 2)
    assert bench.hub.ring_bytes == sum(map(len, room.frames))
    bench.hub.trimmed(room, 9)
    assert (room.frames, bench.hub.ring_bytes, room.base) == ([], 0, 5)


def test_the_ring_is_bounded_in_bytes_too() -> None:
    """Large events: fewer are kept, and the newest always."""
    bench = Bench(replace(Limits(), ring_bytes_max=1_000))
    room = bench.stream()
    for _ in range(5):
        bench.events(room, 3, size=300)
        assert room.ring_bytes == bench.hub.ring_bytes == sum(map(len, room.frames)) <= 1_000
    bench.events(room, 1, size=5_000)
    assert (len(room.frames), room.base) == (1, 16)


def test_two_streams_are_brought_forward_side_by_side() -> None:
    """A page a turn is for the port, not for each of its streams; what is left over comes with the next turns."""
    bench = Bench(SMALL)
    one, two = bench.stream(1), bench.stream(2)
    bench.events(one, 5)
    bench.events(two, 4)
    amy = FakePort()
    for room in (one, two):
        bench.hub.reply(amy, wire.encode_ok(room.sid))
        bench.hub.subscribe(amy, room, 0, bench.now_s)
    bench.hub.flush()
    turns = []
    while frames := [(frame["stream"], frame["seq"]) for frame in amy.frames() if frame["op"] == "event"]:
        turns.append(frames)
        bench.hub.turn(bench.now_s)
    assert turns == [
        [("chat:s1", 1), ("chat:s1", 2), ("chat:s1", 3)],
        [("chat:s1", 4), ("chat:s1", 5), ("chat:s2", 1)],
        [("chat:s2", 2), ("chat:s2", 3), ("chat:s2", 4)],
    ]
    assert (amy.subs, amy.lag) == ({one: LIVE, two: LIVE}, {})


def test_a_removed_port_is_brought_to_its_end_and_no_further() -> None:
    """Page by page up to the last seq it may have, then it is told; the events past it stay away."""
    bench = Bench(SMALL)
    room = bench.stream()
    bench.events(room, 8)
    amy = bench.follow(room, after=0)
    bench.hub.remove(room, "user:amy", 7, bench.now_s)
    while bench.hub.turn(bench.now_s):
        pass
    assert said(amy) == [("ok", None), *(("event", seq) for seq in range(1, 8)), ("unsub", 7)]
    assert (amy.subs, room.behind) == ({}, {})


def test_a_removed_port_whose_last_events_were_trimmed_is_told_without_a_reset() -> None:
    """There is nothing to start again with: all that it may have is no longer kept."""
    bench = Bench()
    room = bench.stream(head=4)
    amy = bench.follow(room, after=0)
    bench.hub.remove(room, "user:amy", 2, bench.now_s)
    bench.hub.page(room, 0, bench.rows(room, 3, 4), 3)
    bench.hub.turn(bench.now_s)
    assert said(amy) == [("ok", None), ("unsub", 2)]
    assert bench.hub.resets == 0


def test_a_page_of_a_stream_let_go_meanwhile_is_dropped() -> None:
    """The stream that asked is not the one that is held now."""
    bench = Bench()
    old = bench.stream(head=4)
    bench.hub.evict(bench.now_s + 1e6)
    room = bench.stream(head=4)
    bench.hub.page(old, 0, bench.rows(room, 3, 4), 3)
    assert (old.first, old.frames, room.first, room.frames) == (1, [], 1, [])


def test_the_log_is_waited_for_by_its_own_stream_only() -> None:
    """One stream's events are no longer in its ring: the other's are, and go at once."""
    bench = Bench()
    one, two = bench.stream(1, head=4), bench.stream(2)
    bench.events(two, 2)
    amy = FakePort()
    for room in (one, two):
        bench.hub.subscribe(amy, room, 0, bench.now_s)
    bench.hub.flush()
    assert bench.fetches == [(one, 0)]
    assert (amy.seqs(), amy.subs) == ([1, 2], {one: 0, two: LIVE})


def test_a_page_is_bounded_in_bytes_to_the_byte() -> None:
    """Two events that fill it exactly are one page; a byte less, and each goes alone; a byte more, and nobody is called
    again who has all."""
    frame_bytes = len(wire.encode_event(b"chat:s1", 1, "message", "k", "user:amy", 0, b'""'))
    for more, pages, ready in ((0, [[1, 2], [3]], False), (-1, [[1], [2], [3]], False), (1, [[1, 2], [3]], False)):
        bench = Bench(replace(Limits(), replay_page_bytes=2 * frame_bytes + more))
        room = bench.stream()
        bench.events(room, 3)
        amy = bench.follow(room, after=0)
        got = []
        while seqs := amy.seqs():
            got.append(seqs)
            bench.hub.turn(bench.now_s)
        assert (got, amy in bench.hub.ready) == (pages, ready)
    assert room.ring_bytes == 3 * frame_bytes
    other = bench.stream(2)
    bench.events(other, 1)
    bench.hub.limits = replace(Limits(), replay_page_bytes=3 * frame_bytes)
    both = FakePort()
    for stream in (room, other):
        bench.hub.subscribe(both, stream, 0, bench.now_s)
    bench.hub.flush()
    assert [(f["stream"], f["seq"]) for f in both.frames()] == [("chat:s1", 1), ("chat:s1", 2), ("chat:s1", 3)]
    bench.hub.limits = replace(Limits(), replay_page_bytes=2 * frame_bytes + 1)
    last = bench.follow(room, after=1)
    assert (last.seqs(), last in bench.hub.ready) == ([2, 3], False)  # one byte of the page is left over


def test_what_is_replayed_is_counted() -> None:
    """Events taken from rings and pages, ports that fell behind, cursors that could not be honoured."""
    bench = Bench()
    room = bench.stream(head=4)
    bench.events(room, 2)
    for count in (1, 2):
        bench.follow(room, f"user:{count}", after=4)
        assert (bench.hub.replayed, bench.hub.lagged) == (2 * count, count)
    bench.follow(room, after=0), bench.follow(room, after=0)
    bench.hub.page(room, 0, bench.rows(room, 1, 4), 1)
    assert (bench.hub.replayed, bench.hub.lagged, bench.hub.resets) == (4 + 2 * 6, 4, 0)
    late = [bench.follow(bench.stream(2, head=4), after=0) for _ in range(2)]
    bench.hub.page(bench.hub.by_sid[2], 0, bench.rows(bench.hub.by_sid[2], 3, 4), 3)
    assert bench.hub.resets == 2
    for port in late:
        (reset,) = [frame for frame in port.frames() if frame["op"] == "reset"]
        assert reset == {"op": "reset", "stream": "chat:s2", "reason": "trimmed", "first": 3, "head": 4}


def test_the_last_event_trimmed_under_a_laggard_is_a_reset_too() -> None:
    """No row is left to show the gap: what is kept begins past head."""
    bench = Bench()
    room = bench.stream(head=1)
    amy = bench.follow(room, after=0)
    bench.hub.page(room, 0, [], 2)
    assert (said(amy), amy.subs[room]) == ([("ok", None), ("reset", 2)], LIVE)


def test_a_page_without_rows_sends_nothing() -> None:
    """The log has not got there yet: asked once more, and not a byte goes out."""
    bench = Bench()
    room = bench.stream(head=4)
    amy = bench.follow(room, after=2)
    amy.frames()
    bench.hub.page(room, 2, [], 1)
    assert (bench.fetches, bytes(amy.wire), amy.subs[room]) == ([(room, 2), (room, 2)], b"", 2)


def test_a_failed_page_that_nobody_waits_for_is_nothing() -> None:
    """Failed twice, or for a cursor that nobody has."""
    bench = Bench()
    room = bench.stream(head=4)
    bench.hub.page_failed(room, 0)
    bench.follow(room, after=0)
    for _ in range(2):
        bench.hub.page_failed(room, 0)
    assert len(bench.hub.ready) == 1


def test_a_page_extends_the_ring_up_to_each_of_its_bounds() -> None:
    """Events, bytes of the stream, bytes of all rings: to the last one, and not one more."""
    page_bytes = sum(len(encode(Bench().stream(), row)) for row in Bench().rows(Bench().stream(), 1, 4))
    for room_for, extended in ((0, True), (-1, False)):
        for bound in ("ring_events_max", "ring_bytes_max", "rings_bytes_max"):
            bench = Bench()
            room, other = bench.stream(head=4), bench.stream(2)
            bench.events(other, 5)
            bench.events(room, 2)
            exact = {
                "ring_events_max": 6,
                "ring_bytes_max": room.ring_bytes + page_bytes,
                "rings_bytes_max": bench.hub.ring_bytes + page_bytes,
            }[bound]
            bench.hub.limits = replace(bench.hub.limits, **{bound: exact + room_for})
            bench.follow(room, after=0)
            bench.hub.page(room, 0, bench.rows(room, 1, 4), 1)
            assert (room.base == 1) is extended, bound
            assert room.ring_bytes == sum(map(len, room.frames))
            assert bench.hub.ring_bytes == room.ring_bytes + other.ring_bytes


def test_a_row_becomes_the_event_that_everybody_gets() -> None:
    """Its body as it was sent; a trimmed one shows as null."""
    bench = Bench()
    room = bench.stream(head=2)
    amy = bench.follow(room, after=0)
    rows = [bench.event(room, 1, body=b'{"text":"hi"}'), bench.event(room, 2, body=None)]
    bench.hub.page(room, 0, rows, 1)
    events = [frame for frame in amy.frames() if frame["op"] == "event"]
    assert [event["body"] for event in events] == [{"text": "hi"}, None]
    assert events[0] == {
        "op": "event",
        "stream": "chat:s1",
        "seq": 1,
        "type": "message",
        "key": rows[0].key,
        "by": "user:amy",
        "at": "1970-01-01T00:00:00.000Z",
        "body": {"text": "hi"},
    }


# -- the allowance ----------------------------------------------------------------------------------------------------

PAGE = replace(SMALL, turn_replay_bytes=1)
"""Room for one page between two turns."""


def paged(bench: Bench, count: int, head: int = 2, after: int = 0) -> tuple[Stream, list[FakePort]]:
    """A stream of which the ring holds nothing, and ports that wait for the same page of the log."""
    room = bench.stream(1, head=head)
    ports = []
    for n in range(count):
        bench.hub.allowance = 1
        ports.append(bench.follow(room, f"user:{n}", after=after))
        ports[-1].frames()
    room.base = 100  # so that a page does not become the ring's
    return room, ports


def test_past_the_allowance_one_waits_for_a_turn() -> None:
    """The page of a port that comes then is put off, from the ring as from the log; its answers are not."""
    bench = Bench(PAGE)
    room, far = bench.stream(1), bench.stream(2, head=5)
    bench.events(room, 2)
    bench.hub.allowance = 0
    amy, bob = bench.follow(room, after=0), bench.follow(far, after=0)
    assert (said(amy), said(bob), bench.fetches) == ([("ok", None)], [("ok", None)], [])
    assert list(bench.hub.ready) == [amy, bob]
    while bench.hub.turn(bench.now_s):
        pass
    assert (amy.seqs(), bench.fetches) == ([1, 2], [(far, 0)])


def test_going_live_takes_no_allowance() -> None:
    """A port that has everything is live with the flush, whatever others used up."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 1)
    bench.hub.page(room, 0, bench.rows(room, 1, 2), 1)
    assert bench.hub.allowance <= 0
    assert (ports[0].subs[room], ports[0].seqs(), list(bench.hub.ready)) == (LIVE, [1, 2], [])


def test_a_page_of_the_log_is_kept_for_those_who_wait_for_their_turn() -> None:
    """Five wait and a turn has room for one: the log is read once, and what was kept is let go in the end."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 5)
    assert bench.fetches == [(room, 0)]
    bench.hub.page(room, 0, bench.rows(room, 1, 2), 1)
    assert [port.subs[room] == LIVE for port in ports] == [True] + [False] * 4
    assert list(bench.hub._kept) == [(room, 0)]
    for turn in range(4):
        assert bench.hub.turn(bench.now_s) is (turn < 3)
    assert [port.seqs() for port in ports] == [[1, 2]] * 5
    assert (len(bench.fetches), bench.hub._kept) == (1, {})


def test_one_is_served_of_every_page_that_was_read() -> None:
    """Also when nothing is left to give: what nobody takes would be read for ever."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 3)
    bench.hub.allowance = -1_000_000
    bench.hub.page(room, 0, bench.rows(room, 1, 2), 1)
    assert [port.seqs() for port in ports] == [[1, 2], [], []]
    assert list(bench.hub.ready) == ports[1:]


def test_a_page_from_the_log_is_paid_like_one_from_the_ring() -> None:
    """A send and its bytes, of each who got it; who was there in vain pays nothing."""
    bench = Bench(SMALL)
    room, ports = paged(bench, 3)
    bench.hub.drop(ports[1], bench.now_s)
    bench.hub.allowance = 1_000_000
    bench.hub.page(room, 0, bench.rows(room, 1, 2), 1)
    size = len(ports[0].sends[-1])
    assert bench.hub.allowance == 1_000_000 - 2 * (SEND_BYTES + size)


def test_a_kept_page_is_given_in_pages() -> None:
    """No more of it in a turn than a page has, and nothing past head or past where the port is live; the rest is asked."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 3, head=9)
    room.fetching[0] = list(ports)
    bench.hub.page(room, 0, bench.rows(room, 1, 5), 1)
    bench.hub.turn(bench.now_s)
    assert [port.subs[room] for port in ports] == [5, 3, 0]
    room.head = room.want = 2  # as if the log had told of events that this node has not heard of yet
    bench.hub.turn(bench.now_s)
    bench.hub.turn(bench.now_s)
    assert ports[2].seqs() == [1, 2]
    bench = Bench(PAGE)
    room, ports = paged(bench, 2, head=5, after=1)
    bench.hub.page(room, 1, bench.rows(room, 2, 4), 1)
    room.head = room.want = 3
    bench.hub.turn(bench.now_s)
    bench.hub.turn(bench.now_s)
    assert ports[1].seqs() == [2, 3]


def test_after_a_kept_page_one_goes_on() -> None:
    """It was read when head was 1 and is given when head is 5: the rest is asked for. Who took it used to stand there."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 2, head=5)
    bench.hub.page(room, 0, bench.rows(room, 1, 1), 1)
    while bench.hub.turn(bench.now_s):
        pass
    assert (ports[1].seqs(), room.fetching) == ([1], {1: ports})


def test_a_kept_page_that_was_trimmed_is_not_given() -> None:
    """The log is asked again, and says where to begin."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 2, head=5)
    bench.hub.page(room, 0, bench.rows(room, 1, 3), 1)
    assert list(bench.hub._kept) == [(room, 0)]
    bench.hub.trimmed(room, 2)
    bench.fetches.clear()
    bench.hub.turn(bench.now_s)
    assert (ports[1].seqs(), (room, 0) in bench.fetches) == ([], True)


def test_a_page_with_a_hole_before_it_is_not_kept() -> None:
    """Who comes later is told by a reset too, from a reading of its own."""
    bench = Bench(PAGE)
    room, ports = paged(bench, 2, head=5)
    bench.hub.allowance = 0
    bench.hub.page(room, 0, bench.rows(room, 3, 4), 1)
    assert (bench.hub._kept, ports[1] in bench.hub.ready) == ({}, True)
    assert bench.hub.resets == 1
    bench.hub.page(room, 2, [], 1)
    assert bench.hub._kept == {}


def test_pages_are_kept_within_bounds() -> None:
    """Sixteen, the oldest go; each once; none larger than a ring may be."""
    bench = Bench(replace(PAGE, ring_bytes_max=10))
    room = bench.stream(1)
    for after in range(20):
        bench.hub._keep(room, after, [b"12345", b"67890"])
    bench.hub._keep(room, 19, [b"other"])
    bench.hub._keep(room, 99, [b"12345", b"678901"])
    assert [after for _, after in bench.hub._kept] == list(range(4, 20))
    assert bench.hub._kept[room, 19] == [b"12345", b"67890"]
    assert len(bench.hub._kept) == KEPT_PAGES_MAX


def test_what_is_up_to_date_goes_live_behind_what_is_not() -> None:
    """Past the allowance, in one stream it waits for its turn; in the next it has everything and waits for nothing."""
    bench = Bench(PAGE)
    room, other = bench.stream(1), bench.stream(2)
    bench.events(room, 2)
    port = bench.follow(other)
    bench.hub.allowance = 0
    bench.sub(port, room, 0)
    bench.hub._behind(port, other, other.head)
    bench.hub._touch(port)
    bench.hub.flush()
    assert (port.subs, list(bench.hub.ready)) == ({other: LIVE, room: 0}, [port])


def test_the_last_byte_of_the_allowance_is_there_to_be_used() -> None:
    """Who waits for a page of the log gets it while anything is left, and its tenant has it on its account."""
    bench = Bench(SMALL)
    room, ports = paged(bench, 3)
    size = sum(len(encode(room, row)) for row in bench.rows(room, 1, 2))
    bench.hub.line.put(room.tenant, 0, ports[0])
    credit = bench.hub.line._lines[room.tenant].credit
    bench.hub.allowance = 1 + SEND_BYTES + size
    bench.hub.page(room, 0, bench.rows(room, 1, 2), 1)
    assert [port.seqs() for port in ports] == [[1, 2], [1, 2], []]
    assert bench.hub.line._lines[room.tenant].credit == credit - 2 * (SEND_BYTES + size)
