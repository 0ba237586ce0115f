"""core.turns: a turn goes so far and no further, tenants share it, and what it leaves is served in the next ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from core import wire
from core.limits import Limits
from core.replay import SEND_BYTES
from core.stream import LIVE, Stream
from core.turns import Turns
from tests.fake_port import FakePort
from tests.hubs import SMALL, Bench, left, said

PAGE = replace(SMALL, turn_replay_bytes=1)
"""A turn has room for one page, and for one slice."""


def laggards(bench: Bench, stream: Stream, count: int, name: str = "n") -> list[FakePort]:
    """Ports that the end of the allowance left at the beginning of a stream."""
    ports = []
    for n in range(count):
        bench.hub.allowance = 0
        ports.append(bench.follow(stream, f"user:{name}{n}", after=0))
        ports[-1].frames()
    return ports


def turns(bench: Bench) -> int:
    count = 1
    while bench.hub.turn(bench.now_s):
        count += 1
    return count


def test_the_middle_asks_the_upper() -> None:
    """What a room and a removal are is not known here."""
    middle = Turns(Limits(), lambda stream, after: None)
    stream = Bench().stream()
    port = FakePort()
    with pytest.raises(NotImplementedError):
        middle._deliver(stream, 1)
    with pytest.raises(NotImplementedError):
        middle._rouse(stream)
    with pytest.raises(NotImplementedError):
        middle._end(port, stream, 1, 0.0)


def test_a_turn_goes_so_far_and_no_further() -> None:
    """Five laggards and room for two pages: three turns, each begins where the last one ended, nobody twice."""
    bench = Bench(replace(SMALL, turn_replay_bytes=2 * SEND_BYTES))
    room = bench.stream()
    bench.events(room, 2)
    ports = laggards(bench, room, 5)
    assert bench.hub.more
    served = []
    for turn in (1, 2, 3):
        assert bench.hub.turn(bench.now_s) is (turn < 3)
        served.append(sum(port.subs[room] == LIVE for port in ports))
    assert served == [2, 4, 5]
    assert [port.seqs() for port in ports] == [[1, 2]] * 5
    assert not bench.hub.more


def test_what_a_page_is_charged() -> None:
    """Its bytes, and a send: the allowance says what is left of a turn."""
    bench = Bench()
    room = bench.stream()
    bench.events(room, 2)
    size = sum(map(len, room.frames))
    before = bench.hub.allowance
    bench.follow(room, after=0)
    assert bench.hub.allowance == before - SEND_BYTES - size == Limits().turn_replay_bytes - SEND_BYTES - size
    bench.follow(room)
    assert bench.hub.allowance == before - SEND_BYTES - size  # at head there is nothing to pay
    laggards(bench, room, 1)
    bench.hub.turn(bench.now_s)
    assert bench.hub.allowance == before - SEND_BYTES - size


def test_live_ports_do_not_wait_for_turns() -> None:
    """With the allowance used up and others in line, what is committed goes out at once to who is at head."""
    bench = Bench(PAGE)
    busy = bench.stream(1, tenant="busy")
    bench.events(busy, 3)
    laggards(bench, busy, 4)
    bench.hub.turn(bench.now_s)
    quiet = bench.stream(2, tenant="quiet")
    amy = bench.follow(quiet)
    bench.events(quiet)
    assert amy.seqs() == [1]
    assert len(bench.hub.line) == 3


def test_one_laggard_is_served_before_anothers_thousand() -> None:
    """A hundred of one tenant are in line; the only one of another, come last, is served in the next turn."""
    bench = Bench(replace(SMALL, turn_replay_bytes=20 * SEND_BYTES))
    busy, quiet = bench.stream(1, tenant="busy"), bench.stream(2, tenant="quiet")
    bench.events(busy, 3)
    bench.events(quiet, 3)
    crowd = laggards(bench, busy, 100)
    assert bench.hub.turn(bench.now_s)
    amy = laggards(bench, quiet, 1)[0]
    bench.hub.turn(bench.now_s)
    assert amy.seqs() == [1, 2, 3]
    turns(bench)
    assert all(port.seqs() == [1, 2, 3] for port in crowd)


def test_tenants_share_turns_by_weight() -> None:
    """Three pages of one to one of the other."""
    bench = Bench(PAGE, weight=lambda tenant: 3 if tenant == "gold" else 1)
    rooms = {name: bench.stream(sid, tenant=name) for sid, name in enumerate(("gold", "lead"), 1)}
    ports = {}
    for name, room in rooms.items():
        bench.events(room, 3, size=30_000)
        ports[name] = laggards(bench, room, 40)
    for _ in range(40):
        bench.hub.turn(bench.now_s)
    served = Counter(name for name, people in ports.items() for port in people if port.subs[rooms[name]] == LIVE)
    assert 27 <= served["gold"] <= 33
    assert served.total() == 40
    turns(bench)
    assert all(port.seqs() == [1, 2, 3] for people in ports.values() for port in people)


def test_nobody_is_in_line_twice() -> None:
    """A laggard that is roused by every event while it waits has one place, and one page when its turn comes."""
    bench = Bench(PAGE)
    room = bench.stream()
    bench.events(room, 2)
    first, second = laggards(bench, room, 2)
    bench.hub.turn(bench.now_s)
    assert (len(bench.hub.line), first.subs[room]) == (1, LIVE)
    bench.events(room)
    assert second in bench.hub.ready
    bench.hub._line_up()
    assert len(bench.hub.line) == 1
    second.sends.clear()
    turns(bench)
    assert (len(second.sends), second.seqs(), first.seqs()) == (1, [1, 2, 3], [1, 2, 3])


def test_who_left_the_line_is_passed_over() -> None:
    """Gone, blocked, or no longer behind: no page, nothing paid, and the next one has its turn at once."""
    bench = Bench(PAGE)
    room = bench.stream()
    bench.events(room, 2)
    first, gone, shut, off, last = laggards(bench, room, 5)
    bench.hub.turn(bench.now_s)
    bench.hub.drop(gone, bench.now_s)
    bench.block(shut)
    bench.hub.unsubscribe(off, room, bench.now_s)
    assert not bench.hub.turn(bench.now_s)
    assert (first.seqs(), last.seqs(), gone.seqs(), off.seqs()) == ([1, 2], [1, 2], [], [])
    bench.hub.allowance = 1
    bench.unblock(shut)
    assert shut.seqs() == [1, 2]


def test_who_is_ready_for_nothing_stays_out_of_line() -> None:
    """It caught up or unsubscribed between two turns."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    bench.hub.ready[amy] = None
    assert bench.hub.more
    assert not bench.hub.turn(bench.now_s)
    assert len(amy.sends) == 1


def test_a_removed_port_is_let_go_in_its_turn() -> None:
    """It waits in line at its end; then it is told."""
    bench = Bench(PAGE)
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bench.block(amy)
    bench.events(room)
    assert bench.hub.ingest_events(0, [left(room, 2, "user:amy", 2)], bench.now_s)
    bench.unblock(amy)
    turns(bench)
    assert said(amy)[-2:] == [("event", 2), ("unsub", 2)]
    assert room not in amy.subs
    assert bob.seqs() == [1, 2]


def test_a_removed_port_gets_what_it_may_have_first() -> None:
    """One turn brings it to its end, the next one lets it go."""
    bench = Bench(PAGE)
    room = bench.stream()
    bench.events(room)
    port = laggards(bench, room, 1)[0]
    assert bench.hub.ingest_events(0, [left(room, 2, "user:n0", 2)], bench.now_s)
    assert bench.hub.turn(bench.now_s)
    assert said(port) == [("event", 1), ("event", 2)]
    assert not bench.hub.turn(bench.now_s)
    assert said(port) == [("unsub", 2)]


def test_big_rooms_share_a_turn(big_rooms: None) -> None:
    """One slice a turn, and two tenants with big rooms: slices go by turns, also when one has five rooms."""
    bench = Bench(PAGE)
    rooms = [bench.stream(sid, tenant="busy") for sid in range(1, 6)] + [bench.stream(6, tenant="quiet")]
    ports = {room: [bench.follow(room, f"user:{n}") for n in range(4)] for room in rooms}
    for people in ports.values():
        for port in people:
            port.frames()
    for room in rooms:
        bench.events(room, size=40_000)
    done: list[bool] = []
    while not done or bench.hub.more:
        bench.hub.turn(bench.now_s)
        done.append(rooms[5] not in bench.hub.touring)
    assert done.index(True) <= 3
    assert len(done) == 12
    assert all(port.seqs() == [1] for people in ports.values() for port in people)


def test_big_rooms_of_a_tenant_of_weight_go_out_faster(big_rooms: None) -> None:
    """Three slices of one to one of the other, where both have many rooms."""
    bench = Bench(PAGE, weight=lambda tenant: 3 if tenant == "gold" else 1)
    rooms = {"gold": [bench.stream(sid, tenant="gold") for sid in range(1, 21)]}
    rooms["lead"] = [bench.stream(sid, tenant="lead") for sid in range(21, 41)]
    for room in (*rooms["gold"], *rooms["lead"]):
        for n in range(4):
            bench.follow(room, f"user:{n}")
        bench.events(room, size=28_000)
    for _ in range(20):
        bench.hub.turn(bench.now_s)
    slices = {
        name: sum(4 - (0 if room.tour is None else len(room.tour.todo)) for room in some) // 2
        for name, some in rooms.items()
    }
    assert sum(slices.values()) == 20
    assert 13 <= slices["gold"] <= 17


def test_a_turn_that_is_used_up_to_the_byte_is_over(big_rooms: None) -> None:
    """Of pages, and of slices."""
    bench = Bench()
    room = bench.stream()
    bench.events(room, 2)
    exactly = SEND_BYTES + sum(map(len, room.frames))
    bench.hub.limits = replace(SMALL, turn_replay_bytes=exactly)
    laggards(bench, room, 2)
    assert bench.hub.turn(bench.now_s)
    assert (bench.hub.allowance, len(bench.hub.line)) == (0, 1)
    bench = Bench(replace(SMALL, turn_replay_bytes=1_000))
    rooms = [bench.stream(sid) for sid in (1, 2)]
    for room in rooms:
        for n in range(3):
            bench.follow(room, f"user:{n}")
        bench.events(room)
    bench.hub.limits = replace(SMALL, turn_replay_bytes=2 * (SEND_BYTES + len(rooms[0].frames[0])))
    bench.hub.turn(bench.now_s)
    assert [room.tour is not None and len(room.tour.todo) for room in rooms] == [1, 3]


def test_a_slice_is_charged_by_its_ports(big_rooms: None) -> None:
    """Two ports and the frame: what a turn has left decides whether another room's slice goes out in it."""
    bench = Bench(replace(SMALL, turn_replay_bytes=2 * SEND_BYTES + 300))
    rooms = [bench.stream(sid) for sid in (1, 2)]
    ports = {room: [bench.follow(room, f"user:{n}") for n in range(3)] for room in rooms}
    for room in rooms:
        bench.events(room)
    assert bench.hub.turn(bench.now_s)
    assert [room.tour is not None and len(room.tour.todo) for room in rooms] == [1, 1]  # a second slice began in it
    assert not bench.hub.turn(bench.now_s)
    assert all(port.seqs() == [1] for people in ports.values() for port in people)


def test_tours_and_pages_do_not_take_from_each_other(big_rooms: None) -> None:
    """With room for one of each, each turn brings a slice and a page."""
    bench = Bench(PAGE)
    room, other = bench.stream(1), bench.stream(2)
    bench.events(other, 3)
    ports = [bench.follow(room, f"user:{n}") for n in range(6)]
    late = laggards(bench, other, 3)
    bench.events(room)
    for turn in (1, 2, 3):
        bench.hub.turn(bench.now_s)
        assert sum(len(port.sends) == 2 for port in ports) == 2 * turn
        assert sum(port.subs[other] == LIVE for port in late) == turn


def test_a_tour_that_was_broken_off_leaves_its_place(big_rooms: None) -> None:
    """The log forgot a hole while the room was in line for its next slice: there is nothing left to do there."""
    bench = Bench(PAGE)
    first, second = bench.stream(1), bench.stream(2)
    for room in (first, second):
        for n in range(4):
            bench.follow(room, f"user:{n}")
        bench.events(room)
    bench.hub.turn(bench.now_s)
    assert list(bench.hub.touring) == [first, second]
    bench.hub._jump(second, 9)
    while bench.hub.touring:
        bench.hub.turn(bench.now_s)
    assert [room.tour for room in (first, second)] == [None, None]
    bench.hub.turn(bench.now_s)
    assert len(bench.hub._tours) == 0


def test_a_tour_whose_ring_moved_on(big_rooms: None) -> None:
    """What came during the tour: from the ring where it begins soon enough, else everybody goes to the log."""
    for more, fetched in ((1, 0), (30, 1)):
        bench = Bench(SMALL)
        room = bench.stream()
        ports = [bench.follow(room, f"user:{n}") for n in range(3)]
        bench.events(room)
        for _ in range(more):
            bench.events(room)
        turns(bench)
        assert len(bench.fetches) == fetched
        for stream, after in bench.fetches:
            bench.hub.page(stream, after, bench.rows(room, after + 1, room.head), 1)
        turns(bench)
        assert all(port.seqs() == list(range(1, room.head + 1)) for port in ports)


def test_a_direct_send_meets_every_kind_of_port(big_rooms: None) -> None:
    """Free, full, half full, blocked, broken, with an answer waiting: each has its events once, from its own place."""
    bench = Bench()
    room = bench.stream()
    free, full, half, shut, dead, asked = (bench.follow(room, f"user:{n}") for n in range(6))
    full.room, half.room, dead.gone = 0, 20, True
    bench.block(shut)
    said(asked)
    bench.hub.reply(asked, wire.encode_ok(7))
    bench.events(room)
    assert said(asked) == [("ok", None), ("event", 1)]
    assert dead.calls == ["broken"]
    bench.hub.drop(dead, bench.now_s)
    for port in (full, half, shut):
        bench.unblock(port)
    assert [port.seqs() for port in (free, full, half, shut)] == [[1]] * 4


def test_starting_over_leaves_nobody_in_line(big_rooms: None) -> None:
    """`forget` clears the line of pages, that of slices, and the pages kept."""
    bench = Bench(PAGE)
    room = bench.stream()
    ports = [bench.follow(room, f"user:{n}") for n in range(6)]
    bench.events(room, 2)
    ports += laggards(bench, room, 3)
    bench.hub.turn(bench.now_s)
    bench.hub._kept[room, 0] = []
    for port in ports:
        bench.hub.drop(port, bench.now_s)
    bench.hub.forget([0])
    assert (bench.hub.more, len(bench.hub.line), len(bench.hub._tours), bench.hub._kept) == (False, 0, 0, {})
