"""core.presence: the sum over nodes, and what large rooms are told instead of every name."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from core import gossip_wire, presence
from core.gossip import NODES, Gossip
from core.limits import Limits
from core.presence import Presence
from core.stream import Stream
from tests.fake_port import FakePort, Frame
from tests.hubs import Bench

GRACE_S = Limits().presence_grace_s
FOUR = replace(Limits(), presence_list_max=4)
"""Large from five on, until three are left."""


def online(port: FakePort) -> list[Frame]:
    frames = [frame for frame in port.frames() if frame.get("kind") == "online"]
    return [{k: v for k, v in frame.items() if k not in ("op", "stream", "kind", "age")} for frame in frames]


def room_of(count: int, limits: Limits = FOUR) -> tuple[Bench, Stream, list[FakePort]]:
    bench = Bench(limits)
    room = bench.stream(head=3)
    ports = [bench.follow(room, f"user:u{n}") for n in range(count)]
    bench.signals()
    return bench, room, ports


# Other nodes' people


def test_the_sum_is_what_counts() -> None:
    """Absolute values of each node, taken as often as they come; the difference is this node's own."""
    bench, room, (amy,) = room_of(1)
    signals = bench.hub.signals
    amy.frames()
    for count in (1, 1, 3, presence.AWAY, presence.AWAY + 1):
        signals.far_count(room, "b", "user:bob", count, bench.now_s)
        signals.far_count(room, "c", "user:u0", 2, bench.now_s)
        assert signals.own(room, "user:bob") == 0
        assert signals.own(room, "user:u0") == 1
    assert signals.online(room)[0] == [("user:u0", "online", 3), ("user:bob", "online", 2)]
    signals.far_state(room, "b", {"user:cy": 1}, bench.now_s)
    assert room.far == {"b": {"user:cy": 1}, "c": {"user:u0": 2}}
    bench.signals(GRACE_S + 1)
    assert [person[0] for person in signals.online(room)[0]] == ["user:u0", "user:cy"]
    signals.far_state(room, "b", {"user:cy": 1, "user:dee": 1}, bench.now_s)
    signals.far_count(room, "b", "user:dee", 0, bench.now_s)
    assert room.far == {"b": {"user:cy": 1}, "c": {"user:u0": 2}}
    signals.far_state(room, "b", {}, bench.now_s)
    signals.far_count(room, "c", "user:u0", 0, bench.now_s)
    signals.far_count(room, "c", "user:u0", 0, bench.now_s)
    assert room.far is None


def test_a_node_that_is_gone_takes_its_people_with_it() -> None:
    """At once or after the grace; who is here as well stays, as what is left of it."""
    for grace in (False, True):
        bench, room, (amy, *_) = room_of(2)
        signals = bench.hub.signals
        signals.far_state(room, "b", {"user:bob": 1, "user:u0": 1}, bench.now_s)
        bench.signals()
        amy.frames()
        signals.far_gone(room, "c", bench.now_s, grace=grace)
        signals.far_gone(room, "b", bench.now_s, grace=grace)
        bench.signals()
        said = [(f["by"], f["value"]) for f in amy.frames() if f["op"] == "signal"]
        assert said == ([] if grace else [("user:bob", "offline")])
        assert room.far is None
        bench.signals(GRACE_S + 1)
        assert room.present == {"user:u0": 1, "user:u1": 1}


# Large rooms


def test_who_keeps_a_list_can_keep_it_true() -> None:
    """Names up to four, then a count with who joined and who left, then everybody once three are left."""
    bench, room, ports = room_of(4)
    ports[0].frames()
    fifth = bench.follow(room, "user:u4")
    bench.signals()
    assert online(ports[0]) == [{"value": 5, "joined": ["user:u4"]}]
    bench.hub.drop(fifth, bench.now_s)
    bench.follow(room, "user:u5")
    bench.signals()
    assert online(ports[0]) == [{"value": 6, "joined": ["user:u5"]}]
    bench.signals(GRACE_S + 0.1)
    assert online(ports[0]) == [{"value": 5, "left": ["user:u4"]}]
    bench.hub.drop(ports[1], bench.now_s)
    bench.signals(GRACE_S + 0.1)
    assert online(ports[0]) == [{"value": 4, "left": ["user:u1"]}]  # at the bound it is large still
    bench.hub.signals.set_away(ports[3], True)
    bench.signals()
    assert online(ports[0]) == []  # who is away is not told in a large room
    bench.hub.drop(ports[2], bench.now_s)
    bench.signals(GRACE_S + 0.1)
    people = [
        {"by": "user:u0", "value": "online", "devices": 1},
        {"by": "user:u3", "value": "away", "devices": 1},
        {"by": "user:u5", "value": "online", "devices": 1},
    ]
    assert online(ports[0]) == [{"value": 3, "people": people}]
    bench.follow(room, "user:u6")
    bench.signals()
    assert [(f["kind"], f["by"]) for f in ports[0].frames()] == [("presence", "user:u6")]


class Listener:
    """A client that keeps a list as docs/protocol.md says."""

    def __init__(self, port: FakePort) -> None:
        self.port = port
        self.known: dict[str, str] | None = None
        """``None`` since it was told that it does not know all."""
        self.large = False

    def listen(self) -> None:
        for frame in self.port.frames():
            if frame["op"] != "signal":
                continue
            self.large = frame["kind"] == "online" and "people" not in frame
            if frame.get("more"):
                self.known = None
            elif "people" in frame:
                self.known = {one["by"]: one["value"] for one in frame["people"]}
            elif self.known is not None and self.large:
                self.known.update(dict.fromkeys(frame.get("joined", ()), "online"))
                self.known.update(dict.fromkeys(frame.get("left", ()), "offline"))
            elif self.known is not None:
                self.known[frame["by"]] = frame["value"]

    def here(self) -> dict[str, str]:
        return {by: value for by, value in (self.known or {}).items() if value != "offline"}


def test_a_list_kept_by_the_rules_is_true_whatever_happens() -> None:
    """In rooms that waver about the bound for long, for a client that is blocked now and then."""
    for seed in range(200):
        rng = random.Random(seed)
        bench, room, (amy,) = room_of(1, replace(FOUR, presence_list_max=rng.choice((2, 4, 8))))
        others: list[FakePort] = []
        client = Listener(amy)
        client.listen()
        client.known = {"user:u0": "online"}
        for _ in range(60):
            step = rng.randrange(8)
            if step < 3:
                others.append(bench.follow(room, f"user:v{rng.randrange(12)}"))
            elif step < 5 and others:
                bench.hub.drop(others.pop(rng.randrange(len(others))), bench.now_s)
            elif step == 5 and others:
                bench.hub.signals.set_away(rng.choice(others), rng.random() < 0.5)
            elif step == 6 and not amy.blocked and rng.random() < 0.3:
                bench.block(amy)
            elif amy.blocked:
                bench.unblock(amy)
            if rng.random() < 0.7:
                bench.signals(rng.choice((0.05, 1.0, 4.0)), large_rooms=rng.random() < 0.5)
            client.listen()
        if amy.blocked:
            bench.unblock(amy)
        bench.signals(GRACE_S + 1)
        bench.signals()
        client.listen()
        people = {by: value for by, value, _ in bench.hub.signals.online(room)[0]}
        if client.known is None:
            assert client.large, seed
        elif client.large:
            assert client.here().keys() >= people.keys(), seed
            assert len(client.here()) == len(room.present), seed
        else:
            assert client.here() == people, seed


def test_many_at_once_are_only_counted() -> None:
    """Fifty names of each kind at most in one signal, and `more` says that there were others."""
    bench, room, ports = room_of(5)
    ports[0].frames()
    for n in range(51):
        bench.follow(room, f"user:v{n}")
    bench.signals()
    (signal,) = online(ports[0])
    assert (signal["value"], len(signal["joined"]), signal["more"], "left" in signal) == (56, 50, True, False)


def test_a_port_that_missed_names_is_told_so() -> None:
    """It was blocked: the count of now, and that the names are not all."""
    bench, room, ports = room_of(5)
    bench.block(ports[0])
    bench.follow(room, "user:v1"), bench.follow(room, "user:v2")
    bench.signals()
    bench.unblock(ports[0])
    assert online(ports[0])[-1] == {"value": 7, "more": True}


def test_more_changes_than_are_kept() -> None:
    """Above `MOVED_MAX` names between two flushes nothing more is kept: large rooms say `more`, small ones everybody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "MOVED_MAX", 2)
        bench, room, ports = room_of(5)
        ports[0].frames()
        for n in range(4):
            bench.follow(room, f"user:v{n}")
        assert room.moved is not None
        assert len(room.moved) == 1
        bench.signals()
        assert online(ports[0]) == [{"value": 9, "more": True}]
        bench, room, ports = room_of(1)
        ports[0].frames()
        for n in range(3):
            bench.follow(room, f"user:v{n}")
        bench.signals()
        (signal,) = online(ports[0])
        assert [one["by"] for one in signal["people"]] == ["user:u0", "user:v0", "user:v1", "user:v2"]


def test_presence_withheld_is_told_in_the_end() -> None:
    """Overload: nothing of who comes and goes, markers and typing as ever; then what is, in rooms large and small."""
    bench, small, (amy, *_) = room_of(2)
    crowd = bench.stream(2)
    watcher = bench.follow(crowd, "user:watcher")
    for n in range(5):
        bench.follow(crowd, f"user:w{n}")
    bench.signals()
    amy.frames(), watcher.frames()
    bench.hub.signals.shed_presence = True
    bob = bench.follow(small, "user:bob")
    bench.follow(small, "user:cy")
    bench.follow(crowd, "user:late")
    bench.hub.signals.mark(small, "user:bob", 2, 2)
    bench.hub.signals.typing(small, "user:bob", True, bench.now_s)
    bench.signals(0.1)
    assert [frame.get("kind", frame["op"]) for frame in amy.frames()] == ["mark", "typing"]
    bench.hub.drop(bob, bench.now_s)
    bench.signals(GRACE_S + 1)
    assert [frame["kind"] for frame in amy.frames()] == ["typing"]
    assert watcher.frames() == []
    bench.hub.signals.shed_presence = False
    bench.signals(0.1)
    assert [(frame["by"], frame["value"]) for frame in amy.frames()] == [
        ("user:bob", "offline"),
        ("user:cy", "online"),
    ]
    assert online(watcher) == [{"value": 7, "joined": ["user:late"]}]


def test_a_room_that_grows_while_presence_is_withheld() -> None:
    """Its markers become an aggregate at once; that it is large is told with the names, later."""
    bench, room, ports = room_of(4)
    bench.hub.signals.shed_presence = True
    ports[0].frames()
    bench.follow(room, "user:u4")
    bench.hub.signals.mark(room, "user:u1", 3, 3)
    bench.signals()
    assert [frame["op"] for frame in ports[0].frames()] == ["marks"]
    for port in ports[1:]:
        bench.hub.drop(port, bench.now_s)
    bench.signals(GRACE_S + 1)
    assert ports[0].frames() == []
    bench.hub.signals.shed_presence = False
    bench.signals()
    (signal,) = online(ports[0])
    assert [one["by"] for one in signal["people"]] == ["user:u0", "user:u4"]


def test_markers_of_a_room_that_is_no_longer_large() -> None:
    """Each was hidden in the aggregate: all of them are told, or the aggregate where too many have any."""
    for count in (3, 9):
        bench, room, ports = room_of(5)
        for n in range(count):
            bench.hub.signals.mark(room, f"user:u{n}", 2, 1)
        bench.signals()
        ports[0].frames()
        for port in ports[2:]:
            bench.hub.drop(port, bench.now_s)
        bench.signals(GRACE_S + 1)
        said = [(f["op"], f.get("by"), f["delivered"]) for f in ports[0].frames() if f["op"] in ("mark", "marks")]
        assert said == ([("mark", "user:u1", 2), ("mark", "user:u2", 2)] if count == 3 else [("marks", None, 0)])


def test_the_aggregate_is_kept_up_while_markers_rise() -> None:
    """It is what counting anew would give, whatever order heads and markers come in."""
    for seed in range(50):
        rng = random.Random(seed)
        bench, room, ports = room_of(6)
        for _ in range(30):
            step, who = rng.randrange(4), f"user:u{rng.randrange(8)}"
            if step == 0:
                bench.events(room, 1)
            elif step == 1:
                bench.hub.signals.mark(room, who, room.head - rng.randrange(3), room.head - rng.randrange(3))
            elif step == 2:
                bench.hub.signals.far_mark(room, who, room.head + rng.randrange(3), room.head)
            else:
                bench.signals()
        bench.hub.signals.far_mark(room, "user:u0", room.head + 1, room.head)
        bench.hub.signals.far_mark(room, "user:u0", room.head + 2, room.head)
        ports[0].frames()
        bench.hub.signals.mark(room, "user:last", room.head, 0)
        bench.signals()
        (marks,) = [frame for frame in ports[0].frames() if frame["op"] == "marks"]
        assert marks["delivered"] == sum(delivered >= room.head for delivered, _ in room.marks.values())
        assert marks["read"] == sum(read >= room.head for _, read in room.marks.values())


# Telling and asking


def heard(bench: Bench) -> list[bytes]:
    """What gossip would tell now, beats left out."""
    assert bench.hub.signals.gossip is not None
    return [payload for channel, payload in bench.hub.signals.gossip.take(bench.now_s) if channel != NODES]


def test_what_changes_here_is_told_to_the_other_nodes() -> None:
    """Coming, going away, coming back and leaving, as absolute counts; somebody else's node is not told on."""
    bench = Bench()
    Gossip(bench.hub, "a", bench.hub.limits)
    room = bench.stream()
    amy = bench.follow(room, "user:amy")
    told = [heard(bench)]
    bench.hub.signals.set_away(amy, True)
    told.append(heard(bench))
    bench.hub.signals.far_count(room, "b", "user:amy", 2, bench.now_s)
    told.append(heard(bench))
    bench.hub.drop(amy, bench.now_s)
    told.append(heard(bench))
    changes = [[gossip_wire.parse_told(payload) for payload in payloads] for payloads in told]
    assert [[one.changes for one in part if one is not None] for part in changes] == [
        [[[1, "user:amy", 1]]],
        [[[1, "user:amy", presence.AWAY]]],
        [],
        [[[1, "user:amy", 0]]],
    ]


def test_one_person_is_found_or_not() -> None:
    """Value and devices; offline has none, and who is within the grace is what was believed, with one."""
    bench, room, (amy,) = room_of(1)
    bench.follow(room, "user:u0")
    assert bench.hub.signals.one(room, "user:u0") == ("online", 2)
    assert bench.hub.signals.one(room, "user:nobody") == ("offline", 0)
    bob = bench.follow(room, "user:bob")
    bench.hub.signals.set_away(bob, True)
    bench.hub.drop(bob, bench.now_s)
    assert bench.hub.signals.one(room, "user:bob") == ("away", 1)
    assert (amy.away, bob.away) == (False, True)


def test_a_port_that_turned_and_went_turns_no_more() -> None:
    """It said away and back and away within one flush, and ended: the last word is of nobody."""
    bench, room, (amy,) = room_of(1)
    bob = bench.follow(room, "user:bob")
    bench.signals()
    amy.frames()
    for away in (True, False):
        bench.hub.signals.set_away(bob, away)
    assert bob.away  # the second waits for the flush
    bench.hub.drop(bob, bench.now_s)
    bench.signals()
    assert bench.hub.signals.one(room, "user:bob") == ("away", 1)
    assert [(f["by"], f["value"]) for f in amy.frames() if f["op"] == "signal"] == [("user:bob", "away")]


def test_own_people_are_those_of_live_and_of_lagging_ports() -> None:
    """Counted from the connections, whatever the sum over all nodes says; away counts as away."""
    bench, room, (amy,) = room_of(1)
    bench.events(room, 2)
    behind = bench.follow(room, "user:u0")
    bench.block(behind)
    bench.events(room, 1)
    bob = bench.follow(room, "user:bob")
    bench.hub.signals.set_away(bob, True)
    bench.hub.signals.far_count(room, "b", "user:cy", 5, bench.now_s)
    assert (amy in room.live, behind in room.behind) == (True, True)
    assert Presence.own_people(room) == {"user:u0": 2, "user:bob": presence.AWAY}
    assert [Presence.own(room, who) for who in ("user:u0", "user:bob", "user:cy", "user:dee")] == [
        2,
        presence.AWAY,
        0,
        0,
    ]


def test_when_somebody_was_last_here_is_kept_until_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest time of each; while the log is away for long the oldest entries are forgotten, not the newest."""
    monkeypatch.setattr(presence, "GONE_MAX", 2)
    signals = Bench().hub.signals
    for who, at_s in (("user:amy", 5.0), ("user:bob", 6.0), ("user:bob", 4.0)):
        signals.note_gone("demo", who, at_s)
    assert signals.gone == {("demo", "user:amy"): 5.0, ("demo", "user:bob"): 6.0}
    signals.note_gone("demo", "user:cy", 7.0)
    assert signals.gone == {("demo", "user:bob"): 6.0, ("demo", "user:cy"): 7.0}


def test_a_list_is_cut_at_its_bound() -> None:
    """So many people and no more, beside the count of all."""
    bench, room, _ = room_of(6)
    people, count = bench.hub.signals.online(room)
    assert ([who for who, _, _ in people], count) == ([f"user:u{n}" for n in range(4)], 6)


def test_who_was_here_and_elsewhere_was_told_of_already() -> None:
    """A second device on another node changes what others believe only when it changes the value."""
    bench, room, (amy,) = room_of(1)
    bob = bench.follow(room, "user:bob")
    bench.hub.signals.set_away(bob, True)
    bench.signals()
    amy.frames()
    bench.hub.signals.far_count(room, "b", "user:bob", presence.AWAY, bench.now_s)
    bench.signals()
    assert amy.frames() == []
    bench.hub.signals.far_count(room, "b", "user:bob", 1, bench.now_s)
    bench.signals()
    assert [(f["by"], f["value"]) for f in amy.frames()] == [("user:bob", "online")]
