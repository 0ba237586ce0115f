"""core.signals: markers and signals are conflated, told once, and never before the events they follow."""

from __future__ import annotations

from dataclasses import replace

from core.gossip import Gossip
from core.gossip_wire import parse_told
from core.limits import Limits
from core.model import Mark
from core.presence import AWAY, presence_value
from tests.fake_port import FakePort, Frame
from tests.hubs import Bench

GRACE_S = Limits().presence_grace_s


def told(port: FakePort, op: str = "signal") -> list[Frame]:
    """Signals (or markers) that reached the port since the last call, without their stream."""
    frames = [frame for frame in port.frames() if frame["op"] == op]
    return [{k: v for k, v in frame.items() if k not in ("op", "stream")} for frame in frames]


def presence(port: FakePort) -> list[tuple[str, str]]:
    return [(frame["by"], frame["value"]) for frame in told(port) if frame["kind"] == "presence"]


def test_presence_adds_up_over_devices() -> None:
    """Online while one device is, away when all are, offline when none is left."""
    assert [presence_value(count) for count in (0, 1, 2, AWAY, AWAY + 1, 2 * AWAY)] == [
        "offline",
        "online",
        "online",
        "away",
        "online",
        "away",
    ]


def test_arrivals_and_departures_are_told_to_others_only() -> None:
    """Coming is told at the next flush, going after the grace, and to nobody about themselves."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    bob = bench.follow(room, "user:bob")
    bench.signals()
    assert presence(amy) == [("user:bob", "online")]
    assert presence(bob) == [("user:amy", "online")]
    bench.hub.drop(bob, bench.now_s)
    bench.signals(GRACE_S - 0.1)
    assert presence(amy) == []
    bench.signals(0.2)
    assert presence(amy) == [("user:bob", "offline")]
    assert bench.hub.signals.online(room) == ([("user:amy", "online", 1)], 1)


def test_a_signal_that_a_full_socket_refused_is_told_as_it_is_later_and_behind_the_events() -> None:
    """What a socket takes nothing of is not kept as bytes: they came seconds late with an age of 0, before the events of
    the meantime, and a change meanwhile was told as two."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    bench.follow(room, "user:bob")
    bench.events(room, 2)
    bench.signals(GRACE_S)
    amy.frames()
    amy.room = 0  # and the hub does not know yet
    bench.hub.signals.typing(room, "user:bob", True, bench.now_s)
    bench.hub.signals.mark(room, "user:bob", 1, 1)
    bench.signals()
    assert amy.blocked
    assert amy.replies is None
    bench.events(room)
    bench.hub.signals.mark(room, "user:bob", 3, 2)
    bench.signals(3.0)
    bench.unblock(amy)
    assert [(f["op"], f.get("seq", f.get("delivered", f.get("age")))) for f in amy.frames()] == [
        ("event", 3),
        ("mark", 3),
        ("signal", 3.0),
    ]


def test_of_several_signals_a_socket_keeps_the_rest_of_one_frame_and_no_more() -> None:
    """The frame that was cut goes on where it was cut; the ones behind it are told as they are later."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    for who in ("user:bob", "user:cy", "user:dee"):
        bench.follow(room, who)
    bench.signals(GRACE_S)
    amy.frames()
    amy.room = 10
    for who in ("user:bob", "user:cy", "user:dee"):
        bench.hub.signals.typing(room, who, True, bench.now_s)
    bench.signals()
    assert 0 < len(amy.rest or b"") < 120
    bench.signals(2.0)
    bench.unblock(amy)
    assert [(f["by"], f["age"]) for f in amy.frames()] == [("user:bob", 0.0), ("user:cy", 2.0), ("user:dee", 2.0)]


def test_what_was_noted_for_a_port_and_refused_again_is_noted_again() -> None:
    """The same for markers and signals that had waited already: they wait on, each as one key."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    bench.follow(room, "user:bob")
    bench.signals(GRACE_S)
    bench.events(room, 1)
    amy.frames()
    bench.block(amy)
    bench.hub.signals.typing(room, "user:bob", True, bench.now_s)
    bench.hub.signals.mark(room, "user:bob", 1, 0)
    bench.signals()
    amy.room = sum(map(len, amy.replies or []))  # room for the answer that waits, and for nothing more
    bench.hub.pump(amy)
    bench.hub.flush()
    assert amy.blocked
    assert (len(amy.mark_keys or ()), len(amy.signal_keys or ())) == (1, 1)
    bench.unblock(amy)
    assert [frame["op"] for frame in amy.frames()] == ["ok", "mark", "signal"]


def test_a_reconnect_within_the_grace_is_not_seen() -> None:
    """Nobody flaps: who is back in time never left."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    bob = bench.follow(room, "user:bob")
    bench.signals()
    amy.frames()
    bench.hub.drop(bob, bench.now_s)
    bench.signals(GRACE_S / 2)
    assert bench.hub.signals.online(room)[1] == 2
    bench.follow(room, "user:bob")
    bench.signals(GRACE_S)
    assert presence(amy) == []


def test_a_device_less_is_not_told() -> None:
    """Two devices, one leaves: still online, so nothing is said. It used to be said each time."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    phone, _desk = bench.follow(room, "user:bob"), bench.follow(room, "user:bob")
    bench.signals()
    amy.frames()
    assert bench.hub.signals.online(room)[0][1] == ("user:bob", "online", 2)
    bench.hub.drop(phone, bench.now_s)
    bench.signals(1.0)
    assert presence(amy) == []


def test_the_last_active_device_leaves_an_away_one() -> None:
    """The desk goes, the phone is away: others see "away"."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    phone, desk = bench.follow(room, "user:bob"), bench.follow(room, "user:bob")
    bench.hub.signals.set_away(phone, True)
    bench.signals()
    amy.frames()
    bench.hub.drop(desk, bench.now_s)
    bench.signals()
    assert presence(amy) == [("user:bob", "away")]


def test_a_second_device_brings_back_from_away() -> None:
    """The first device is away; the second joins online: others used to go on seeing "away"."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    phone = bench.follow(room, "user:bob")
    bench.hub.signals.set_away(phone, True)
    bench.hub.signals.set_away(phone, True)
    bench.signals()
    assert presence(amy) == [("user:bob", "away")]
    desk = bench.follow(room, "user:bob")
    bench.signals()
    assert presence(amy) == [("user:bob", "online")]
    bench.hub.signals.set_away(desk, True)
    bench.signals()
    assert presence(amy) == [("user:bob", "away")]
    bench.hub.signals.set_away(desk, False)
    bench.hub.signals.set_away(phone, False)
    bench.signals()
    assert presence(amy) == [("user:bob", "online")]


def test_back_online_after_leaving_away() -> None:
    """Away, cut off, back within the grace as online: the change used to be lost with the reconnect."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    phone = bench.follow(room, "user:bob")
    bench.hub.signals.set_away(phone, True)
    bench.signals()
    amy.frames()
    bench.hub.drop(phone, bench.now_s)
    assert bench.hub.signals.online(room)[0][1] == ("user:bob", "away", 1)
    bench.follow(room, "user:bob")
    bench.signals()
    assert presence(amy) == [("user:bob", "online")]


def test_large_rooms_get_a_count() -> None:
    """Past `presence_list_max` names give way to one number, once a second, and the list is cut."""
    bench = Bench(replace(Limits(), presence_list_max=2))
    room = bench.stream()
    ports = [bench.follow(room, f"user:{name}") for name in ("amy", "bob", "cy")]
    bench.signals(large_rooms=False)
    assert told(ports[0]) == []
    bench.signals()
    everybody = ["user:amy", "user:bob", "user:cy"]
    assert told(ports[0]) == [{"kind": "online", "value": 3, "joined": everybody, "age": 0.0}]
    people, count = bench.hub.signals.online(room)
    assert (len(people), count) == (2, 3)


def test_typing_ends_by_itself_unless_repeated() -> None:
    """Told when it starts and when it ends, not when it is repeated; a repeat moves the end."""
    bench = Bench()
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bench.signals()
    amy.frames(), bob.frames()
    signals = bench.hub.signals
    signals.typing(room, "user:bob", True, bench.now_s)
    bench.signals(0.2)
    assert told(amy) == [{"kind": "typing", "by": "user:bob", "value": True, "age": 0.2}]
    assert told(bob) == []
    bench.signals(4.0)
    signals.typing(room, "user:bob", True, bench.now_s)
    bench.signals(4.0)
    assert told(amy) == []
    bench.signals(2.0)
    assert told(amy) == [{"kind": "typing", "by": "user:bob", "value": False, "age": 0.0}]
    signals.typing(room, "user:bob", False, bench.now_s)
    bench.signals()
    assert told(amy) == []


def test_typing_that_was_on_when_shedding_began_still_ends() -> None:
    """Overload sheds new typing. It used to shed the end of the old as well, and the key stayed for ever."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    signals = bench.hub.signals
    signals.typing(room, "user:bob", True, bench.now_s)
    bench.signals()
    signals.shed_typing = True
    signals.typing(room, "user:cy", True, bench.now_s)
    amy.frames()
    bench.signals(7.0)
    assert told(amy) == [{"kind": "typing", "by": "user:bob", "value": False, "age": 0.0}]
    assert not room.signals


def test_who_joins_late_learns_who_types_and_for_how_long() -> None:
    """The age of a signal noted for a port is its age when it is sent; it used to be 0 always."""
    bench = Bench()
    room = bench.stream()
    bench.hub.signals.typing(room, "user:bob", True, bench.now_s)
    bench.now_s += 3.0
    amy = bench.follow(room, "user:amy")
    assert told(amy) == [{"kind": "typing", "by": "user:bob", "value": True, "age": 3.0}]


def test_markers_only_rise() -> None:
    """Past head counts as head, back is ignored, read implies delivered; all of it waits for the write-behind once."""
    bench = Bench()
    room = bench.stream(head=10)
    signals = bench.hub.signals
    assert signals.mark(room, "user:amy", 4, 0)
    assert not signals.mark(room, "user:amy", 3, 0)
    assert signals.mark(room, "user:amy", 0, 7)
    assert room.marks["user:amy"] == (7, 7)
    assert signals.mark(room, "user:amy", 99, 99)
    assert room.marks["user:amy"] == (10, 10)
    assert signals.take_unsaved(5) == {"demo": [Mark(room.sid, "user:amy", 10, 10)]}
    assert signals.take_unsaved(5) == {}


def test_unsaved_markers_come_back_but_never_over_newer_ones() -> None:
    """What could not be stored is put back, unless it was raised meanwhile."""
    bench = Bench()
    room = bench.stream(head=10)
    signals = bench.hub.signals
    signals.mark(room, "user:amy", 4, 4)
    signals.mark(room, "user:bob", 5, 5)
    taken = signals.take_unsaved(1)
    assert taken == {"demo": [Mark(room.sid, "user:amy", 4, 4)]}
    signals.mark(room, "user:amy", 6, 6)
    signals.put_back("demo", taken["demo"])
    assert {mark.delivered for mark in signals.take_unsaved(9)["demo"]} == {6, 5}


def test_stored_markers_do_not_undo_what_was_raised() -> None:
    """Markers read from the log meet those raised here meanwhile: the higher stays."""
    bench = Bench()
    room = bench.stream(head=10)
    bench.hub.signals.mark(room, "user:amy", 8, 2)
    bench.hub.signals.load_marks(room, [Mark(room.sid, "user:amy", 5, 5), Mark(room.sid, "user:bob", 3, 1)])
    assert room.marks == {"user:amy": (8, 5), "user:bob": (3, 1)}
    amy = bench.follow(room, "user:amy")
    assert told(amy, "mark") == [{"by": "user:bob", "delivered": 3, "read": 1}]


def test_markers_before_signals() -> None:
    """What leaves together leaves in the order of its class."""
    bench = Bench()
    room = bench.stream(head=3)
    amy = bench.follow(room, "user:amy")
    bench.signals()
    bench.hub.signals.typing(room, "user:bob", True, bench.now_s)
    bench.hub.signals.mark(room, "user:bob", 3, 3)
    amy.frames()
    bench.signals()
    assert [frame["op"] for frame in amy.frames()] == ["mark", "signal"]
    late = bench.follow(room, "user:cy")
    assert [frame["op"] for frame in late.frames()] == ["ok", "mark", "signal"]


def test_a_blocked_port_gets_the_latest_value_once() -> None:
    """A hundred changes while it is blocked are one key here and one frame there."""
    bench = Bench()
    room = bench.stream(head=3)
    amy = bench.follow(room, "user:amy")
    bench.signals()
    amy.frames()
    bench.block(amy)
    for n in range(100):
        bench.hub.signals.mark(room, "user:bob", n // 40 + 1, 0)
        bench.hub.signals.typing(room, "user:bob", n % 2 == 0, bench.now_s)
        bench.signals()
    assert amy.mark_keys is not None
    assert amy.signal_keys is not None
    assert (len(amy.mark_keys), len(amy.signal_keys)) == (1, 1)
    bench.unblock(amy)
    frames = [frame for frame in amy.frames() if frame["op"] in ("mark", "signal")]
    assert [(frame["op"], frame.get("delivered", frame.get("value"))) for frame in frames] == [
        ("mark", 3),
        ("signal", False),
    ]


def test_a_lagging_port_gets_events_first() -> None:
    """A marker waits until its port has the event that it speaks of."""
    bench = Bench(replace(Limits(), replay_page_events=2))
    room = bench.stream()
    bench.events(room, 5)
    bob = bench.follow(room, "user:bob", after=0)
    bench.hub.signals.mark(room, "user:amy", 5, 5)
    bench.signals()
    bench.hub.turn(bench.now_s)
    bench.hub.turn(bench.now_s)
    ops = [frame["op"] for frame in bob.frames()]
    assert ops == ["ok"] + ["event"] * 5 + ["mark"]


def test_a_lagging_port_of_a_large_room_gets_the_last_aggregate() -> None:
    """A port that was blocked when the aggregate went out gets it later; it used to wait for the next marker."""
    bench = Bench(replace(Limits(), presence_list_max=1))
    room = bench.stream(head=2)
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bench.signals()
    amy.frames()
    bench.block(amy)
    bench.hub.signals.mark(room, "user:bob", 2, 1)
    bench.signals()
    bench.unblock(amy)
    assert told(amy, "marks") == [{"seq": 2, "delivered": 1, "read": 0}]
    assert told(bob, "marks") == [{"seq": 2, "delivered": 1, "read": 0}]
    bench.hub.signals.mark(room, "user:cy", 2, 2)
    late = bench.follow(room, "user:dee")
    assert told(late, "marks") == [{"seq": 2, "delivered": 2, "read": 1}]


def test_what_was_noted_for_a_stream_no_longer_followed_is_dropped() -> None:
    """Keys of a stream that the port left meanwhile say nothing to it."""
    bench = Bench()
    room = bench.stream(head=2)
    amy = bench.follow(room, "user:amy")
    bench.signals()
    amy.frames()
    bench.block(amy)
    bench.hub.signals.mark(room, "user:bob", 2, 1)
    bench.hub.signals.typing(room, "user:bob", True, bench.now_s)
    bench.signals()
    bench.hub.unsubscribe(amy, room, bench.now_s)
    bench.unblock(amy)
    assert [frame["op"] for frame in amy.frames()] == ["ok"]  # to what blocked it


def test_one_person_alone_is_sent_nothing_about_itself() -> None:
    """Where all that is dirty is one's own, no empty bytes go out."""
    bench = Bench()
    room = bench.stream(head=2)
    amy = bench.follow(room, "user:amy")
    bench.hub.signals.mark(room, "user:amy", 2, 1)
    sends = len(amy.sends)
    bench.signals()
    assert len(amy.sends) == sends


def test_presence_of_someone_gone_meanwhile_reads_offline() -> None:
    """A key noted while blocked is read when it goes out: by then the person may be gone."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    bench.signals()
    bench.block(amy)
    bob = bench.follow(room, "user:bob")
    bench.signals()
    bench.hub.drop(bob, bench.now_s)
    bench.signals(GRACE_S + 1)
    bench.unblock(amy)
    assert presence(amy) == [("user:bob", "offline")]


# Beside other nodes, and under overload


def test_what_is_said_here_is_told_on_and_what_is_told_is_not() -> None:
    """Typing and markers of this node go to the others; theirs are shown here and go no further."""
    bench = Bench()
    gossip = Gossip(bench.hub, "a", bench.hub.limits)
    room = bench.stream(head=5)
    amy = bench.follow(room, "user:amy")
    gossip.take(bench.now_s)
    signals = bench.hub.signals
    signals.typing(room, "user:bob", True, bench.now_s)
    signals.mark(room, "user:bob", 3, 2)
    signals.far_typing(room, "user:cy", True, bench.now_s)
    signals.far_mark(room, "user:cy", 4, 4)
    signals.far_mark(room, "user:cy", 1, 1)
    bench.signals()
    by = [(frame["op"], frame["by"]) for frame in amy.frames() if frame["op"] in ("mark", "signal")]
    assert by == [("mark", "user:bob"), ("mark", "user:cy"), ("signal", "user:bob"), ("signal", "user:cy")]
    ((_, payload),) = [message for message in gossip.take(bench.now_s) if message[0] == "signals:0"]
    told_on = parse_told(payload)
    assert told_on is not None
    assert (told_on.typing, told_on.marks) == ([[1, "user:bob", True]], [[1, "user:bob", 3, 2]])
    assert list(signals.unsaved.values()) == [Mark(1, "user:bob", 3, 2)]


def test_typing_from_elsewhere_is_shed_too() -> None:
    """Its beginning; its end is taken, or it would stay."""
    bench = Bench()
    room = bench.stream()
    signals = bench.hub.signals
    signals.far_typing(room, "user:bob", True, bench.now_s)
    signals.shed_typing = True
    signals.far_typing(room, "user:cy", True, bench.now_s)
    signals.typing(room, "user:dee", True, bench.now_s)
    assert (list(room.signals), signals.typing_shed) == ([("typing", "user:bob")], 2)
    signals.far_typing(room, "user:bob", False, bench.now_s)
    assert room.signals == {}


def test_a_marker_ahead_of_the_log_waits_for_its_event() -> None:
    """Raised where the event is known already: kept, and told when the event is here, also to who was blocked."""
    bench = Bench()
    room = bench.stream(head=1)
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bench.signals()
    bench.hub.signals.far_mark(room, "user:cy", 2, 1)
    bench.signals()
    late = bench.follow(room, "user:dee")
    bench.block(bob)
    bench.signals()
    assert told(amy, "mark") == told(late, "mark") == []
    bench.events(room)
    bench.signals()
    bench.unblock(bob)
    for port in (amy, bob, late):
        assert [frame["op"] for frame in port.frames() if frame["op"] in ("event", "mark")] == ["event", "mark"]


def test_a_key_noted_for_a_port_is_read_when_it_is_free() -> None:
    """Blocked in one stream and lagging in another: what waits for the lagging one goes on waiting."""
    bench = Bench(replace(Limits(), replay_page_events=1))
    one, two = bench.stream(1), bench.stream(2)
    bench.events(one, 3)
    amy = bench.follow(one, after=0)
    bench.sub(amy, two)
    bench.hub.signals.mark(one, "user:bob", 3, 3)
    bench.hub.signals.typing(one, "user:bob", True, bench.now_s)
    bench.signals()
    while bench.hub.turn(bench.now_s):
        pass
    ops = [frame["op"] for frame in amy.frames() if frame["op"] in ("event", "mark", "signal")]
    assert ops == ["event", "event", "event", "mark", "signal"]


def test_a_person_learns_of_its_own_markers_by_another_device() -> None:
    """Read on the phone, seen at the desk, whether it was blocked meanwhile or not; one device alone is told nothing."""
    bench = Bench()
    room = bench.stream(head=3)
    phone, desk = bench.follow(room, "user:amy"), bench.follow(room, "user:amy")
    bench.signals()
    bench.block(desk)
    bench.hub.signals.mark(room, "user:amy", 2, 2)
    bench.signals()
    bench.unblock(desk)
    assert told(phone, "mark") == told(desk, "mark") == [{"by": "user:amy", "delivered": 2, "read": 2}]
    bench.hub.drop(phone, bench.now_s)
    bench.block(desk)
    bench.hub.signals.mark(room, "user:amy", 3, 3)
    bench.signals()
    bench.unblock(desk)
    assert told(desk, "mark") == []


def test_presence_is_shed_as_a_whole_and_told_in_the_end() -> None:
    """Who comes and goes is not told, counted once a room and flush; afterwards what is, is."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    bench.signals()
    signals = bench.hub.signals
    signals.shed_presence = True
    bench.follow(room, "user:bob")
    bench.signals()
    signals.typing(room, "user:cy", True, bench.now_s)
    bench.signals()
    assert (presence(amy), signals.presence_shed) == ([], 2)
    quiet = bench.stream(2)
    signals.shed_presence = False
    dee = bench.follow(quiet, "user:dee")
    bench.signals()
    signals.shed_presence = True
    signals.typing(quiet, "user:cy", True, bench.now_s)
    bench.signals()
    assert ([frame["kind"] for frame in told(dee)], signals.presence_shed) == (["typing"], 2)
    bench.follow(room, "user:eve")
    bench.signals()
    amy.frames()
    signals.shed_presence = False
    bench.signals()
    assert presence(amy) == [("user:eve", "online")]


def test_a_room_that_nobody_follows_any_more_is_told_nothing() -> None:
    """What was dirty is clean; who begins to follow gets what there is by then."""
    bench = Bench()
    room = bench.stream(head=2)
    amy = bench.follow(room, "user:amy")
    bench.hub.signals.mark(room, "user:bob", 2, 1)
    bench.hub.signals.typing(room, "user:bob", True, bench.now_s)
    bench.hub.drop(amy, bench.now_s)
    bench.signals()
    assert (room.dirty_marks, room.dirty_signals, room.moved) == (set(), set(), None)
    bob = bench.follow(room, "user:cy")
    assert [frame["op"] for frame in bob.frames()] == ["ok", "mark", "signal"]


def test_a_stream_let_go_takes_its_keys_along() -> None:
    """Typing, graces and what was dirty or withheld: nothing of it comes due for a stream that is not held."""
    bench = Bench()
    room = bench.stream(head=2)
    amy = bench.follow(room, "user:amy")
    signals = bench.hub.signals
    signals.shed_presence = True
    bench.signals()
    signals.typing(room, "user:bob", True, bench.now_s)
    bench.hub.drop(amy, bench.now_s)
    signals.let_go(room)
    bench.hub.signals.shed_presence = False
    bench.signals(1e6)
    assert (room.signals.keys(), room.present) == ({("typing", "user:bob")}, {"user:amy": 0})


def test_a_hub_that_starts_over_keeps_the_markers_that_are_not_stored() -> None:
    """They are of the log; typing and presence are of nobody any more."""
    bench = Bench()
    room = bench.stream(head=2)
    amy = bench.follow(room, "user:amy")
    signals = bench.hub.signals
    signals.mark(room, "user:amy", 2, 1)
    signals.typing(room, "user:amy", True, bench.now_s)
    bench.hub.drop(amy, bench.now_s)
    signals.forget()
    bench.signals(1e6)
    assert room.signals
    assert signals.take_unsaved(9) == {"demo": [Mark(1, "user:amy", 2, 1)]}


def test_a_room_that_became_large_and_small_again_tells_its_markers() -> None:
    """Large: the aggregate, with its seq; small again: everybody's, or the aggregate where too many have any."""
    bench = Bench(replace(Limits(), presence_list_max=4))
    room = bench.stream(head=3)
    ports = [bench.follow(room, f"user:u{n}") for n in range(5)]
    bench.signals()
    signals = bench.hub.signals
    ports[0].frames()
    signals.mark(room, "user:u1", 3, 2)
    bench.signals(large_rooms=False)
    assert told(ports[0], "marks") == []
    bench.signals()
    assert told(ports[0], "marks") == [{"seq": 3, "delivered": 1, "read": 0}]
    signals.mark(room, "user:u2", 3, 3)
    bench.signals()
    assert told(ports[0], "marks") == [{"seq": 3, "delivered": 2, "read": 1}]
    for port in ports[2:]:
        bench.hub.drop(port, bench.now_s)
    bench.signals(GRACE_S + 1)
    marks = [{"by": "user:u1", "delivered": 3, "read": 2}, {"by": "user:u2", "delivered": 3, "read": 3}]
    frames = ports[0].frames()
    assert [{k: f[k] for k in ("by", "delivered", "read")} for f in frames if f["op"] == "mark"] == marks
    (signal,) = [frame for frame in frames if frame["op"] == "signal"]
    assert [one["by"] for one in signal["people"]] == ["user:u0", "user:u1"]


def test_a_blocked_port_of_a_large_room_gets_the_count_of_then() -> None:
    """It missed names, so it is told the number of now, and that there is more."""
    bench = Bench(replace(Limits(), presence_list_max=2))
    room = bench.stream()
    ports = [bench.follow(room, f"user:u{n}") for n in range(3)]
    bench.signals()
    ports[0].frames()
    bench.block(ports[0])
    bench.follow(room, "user:u3")
    bench.signals()
    bench.follow(room, "user:u4")
    bench.unblock(ports[0])
    assert told(ports[0])[0] == {"kind": "online", "value": 5, "more": True, "age": 0.0}
    bench.signals()
    ports[0].frames()
    bench.hub.signals.set_away(ports[1], True)
    bench.signals()
    assert told(ports[0]) == []  # the number is the same


def test_a_value_may_be_asked_for_when_it_is_told() -> None:
    """What changes faster than it is told is put together once a telling."""
    bench = Bench()
    room = bench.stream()
    amy = bench.follow(room)
    bench.hub.signals.show(room, ("position", "device:truck-7"), lambda: {"lat": 1}, bench.now_s)
    for _ in bench.hub.signals.flush_live(lambda: bench.now_s, 10, large_rooms=False):
        pass
    assert [each["value"] for each in told(amy) if each["kind"] == "position"] == [{"lat": 1}]
