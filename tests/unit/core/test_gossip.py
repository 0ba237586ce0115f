"""core.gossip: what one node's connections do, every node knows; what is lost is found, who is dead is forgotten."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from core import gossip
from core.gossip import NODES, Gossip
from core.limits import Limits
from core.model import Mark
from tests.fake_port import FakePort
from tests.gossips import LIMITS, REPAIR_S, STEP_S, Node, Nodes
from tests.hubs import Bench

GRACE_S = LIMITS.presence_grace_s


def told(port: FakePort, kind: str = "presence") -> list[tuple[str, object]]:
    frames = [frame for frame in port.frames() if frame["op"] == "signal" and frame["kind"] == kind]
    return [(frame["by"], frame["value"]) for frame in frames]


def pair(limits: Limits = LIMITS) -> tuple[Nodes, FakePort]:
    """Two nodes that know each other, and amy on the first."""
    nodes = Nodes("a", "b", limits=limits)
    amy = nodes["a"].follow(7, "user:amy")
    nodes["b"].hold(7)
    nodes.pump(1.0)
    assert nodes.wrong() == []
    return nodes, amy


def of_kind(nodes: Nodes, kind: str) -> list[list[object]]:
    return [
        parts for _, channel, payload in nodes.sent if channel == NODES and (parts := orjson.loads(payload))[0] == kind
    ]


# Presence


def test_who_comes_on_one_node_is_seen_on_the_other() -> None:
    """Within one flush and the way; going after the grace; the devices of all nodes are counted together."""
    nodes, amy = pair()
    bob = nodes["b"].follow(7, "user:bob")
    nodes.pump(2 * STEP_S)
    assert told(amy) == [("user:bob", "online")]
    assert told(bob) == []
    nodes["b"].follow(7, "user:amy")
    nodes.pump(2 * STEP_S)
    assert nodes["a"].online(7) == {"user:amy": ("online", 2), "user:bob": ("online", 1)}
    assert nodes["b"].online(7) == nodes["a"].online(7)
    nodes["b"].hub.drop(bob, nodes.now_s)
    nodes.pump(GRACE_S - 0.1)
    assert told(amy) == []
    nodes.pump(0.3)
    assert told(amy) == [("user:bob", "offline")]


def test_a_reconnect_to_another_node_is_not_seen() -> None:
    """Nobody flaps: the grace counts for all nodes together, whichever hears of the leaving first."""
    nodes, amy = pair()
    bob = nodes["b"].follow(7, "user:bob")
    nodes.pump(1.0)
    assert told(amy) == [("user:bob", "online")]
    nodes["b"].hub.drop(bob, nodes.now_s)
    nodes.pump(GRACE_S / 2)
    again = nodes["a"].follow(7, "user:bob")
    nodes.pump(2 * GRACE_S)
    assert told(amy) == []
    nodes["a"].hub.drop(again, nodes.now_s)
    back = nodes["b"].follow(7, "user:bob")
    nodes.pump(2 * GRACE_S)
    assert told(amy) == []
    assert told(back) == []


def test_away_means_away_on_every_node() -> None:
    """The phone on one node is away, the desk on the other is not: online; then both are: away."""
    nodes, amy = pair()
    phone, desk = nodes["a"].follow(7, "user:bob"), nodes["b"].follow(7, "user:bob")
    nodes.pump(0.2)
    assert told(amy) == [("user:bob", "online")]
    nodes["a"].hub.signals.set_away(phone, True)
    nodes.pump(0.2)
    assert told(amy) == []
    nodes["b"].hub.signals.set_away(desk, True)
    nodes.pump(0.2)
    assert told(amy) == [("user:bob", "away")]
    nodes["b"].hub.drop(desk, nodes.now_s)
    nodes["a"].hub.signals.set_away(phone, False)
    nodes.pump(0.2)
    assert told(amy) == [("user:bob", "online")]
    assert nodes.wrong() == []


def test_a_stream_that_comes_to_a_node_brings_everybody() -> None:
    """Who begins to hold a stream asks for it, and `complete` says when all have answered."""
    nodes = Nodes("a", "b", "c")
    for who in ("user:amy", "user:bob"):
        nodes["a"].follow(7, who)
    nodes["b"].follow(7, "user:cy")
    nodes.pump(1.0)
    late = nodes["c"].hold(7)
    assert not nodes["c"].gossip.complete(late)
    assert nodes["c"].gossip.pressing
    nodes.turn("c")
    assert not nodes["c"].gossip.pressing
    while nodes.way:
        nodes.deliver()
    nodes.turn("a")
    while nodes.way:
        nodes.deliver()
    assert not nodes["c"].gossip.complete(late)
    nodes.turn("b")
    while nodes.way:
        nodes.deliver()
    assert nodes["c"].gossip.complete(late)
    assert set(nodes["c"].online(7)) == {"user:amy", "user:bob", "user:cy"}
    assert nodes.wrong() == []


def test_questions_of_many_are_answered_once() -> None:
    """Two nodes that come to hold a stream at once get one answer of each other node, for both."""
    nodes = Nodes("a", "b", "c")
    nodes["a"].follow(7, "user:amy")
    nodes.pump(1.0)
    nodes["b"].hold(7), nodes["c"].hold(7)
    nodes.sent.clear()
    nodes.pump(0.2)
    answers = [payload for sender, channel, payload in nodes.sent if sender == "a" and channel != NODES]
    assert len(answers) == 1
    assert nodes.wrong() == []


def test_a_node_alone_is_complete_once_it_has_looked_around() -> None:
    """Half a second after its first heartbeat nobody can be there unheard; with the bus away there is nobody to wait for."""
    nodes = Nodes("a")
    stream = nodes["a"].hold(7)
    assert not nodes["a"].gossip.complete(stream)
    nodes.pump(0.6)
    assert nodes["a"].gossip.complete(stream)
    nodes.bus("a", False)
    assert nodes["a"].gossip.complete(nodes["a"].hold(8))
    nodes.bus("a", True)
    nodes.pump(STEP_S)
    assert not nodes["a"].gossip.complete(stream)  # who knows who came meanwhile


# Loss


def test_a_lost_message_is_noticed_by_the_next() -> None:
    """A number jumped over leads to one question, and the answer mends all of the partition."""
    nodes, _amy = pair()
    nodes["a"].follow(7, "user:bob")
    nodes.turn("a")
    nodes.way.clear()
    nodes["a"].follow(7, "user:cy")
    nodes.pump(4 * STEP_S)
    assert nodes["b"].gossip.gaps == 1
    assert nodes.wrong() == []


def test_what_may_have_been_missed_for_good_is_counted() -> None:
    """A node that came, what was lost, one that died and one that ended, a bus that is back; nothing while all is well."""
    nodes, _amy = pair()
    gossip = nodes["a"].gossip

    def doubted(before: int) -> bool:
        return gossip.doubts > before

    assert gossip.doubts == 1  # the other is new
    nodes["b"].follow(7, "user:bob")
    nodes.pump(LIMITS.lease_s)
    assert not doubted(1)
    nodes["b"].follow(7, "user:cy")
    nodes.turn("b")
    nodes.way.clear()
    nodes.pump(LIMITS.node_beat_s + 1.0)
    assert doubted(1)
    for ends in ("in order", "killed"):
        nodes.start(f"{ends} node")
        nodes.pump(1.0)
        before = gossip.doubts
        if ends == "in order":
            nodes.publish(f"{ends} node", nodes[f"{ends} node"].gossip.leaving())
        nodes.kill(f"{ends} node")
        nodes.pump(0.1 if ends == "in order" else LIMITS.lease_s)
        assert doubted(before), ends
    before = gossip.doubts
    nodes.bus("a", False)
    assert not doubted(before)
    nodes.bus("a", True)
    assert doubted(before)


def test_a_lost_message_is_noticed_by_the_heartbeat() -> None:
    """Also where nothing follows it; a heartbeat that merely overtook what it speaks of is no reason to ask."""
    nodes, _amy = pair()
    nodes["a"].follow(7, "user:bob")
    nodes.turn("a")
    nodes.way.clear()
    assert nodes.wrong()
    nodes.pump(LIMITS.node_beat_s + 1.0)
    assert nodes["b"].gossip.gaps == 1
    assert nodes.wrong() == []
    nodes.now_s += LIMITS.node_beat_s
    nodes["a"].follow(7, "user:cy")
    nodes.turn("a")
    nodes.way.sort(key=lambda sent: sent[1] != NODES)
    while nodes.way:
        nodes.deliver()
    nodes.pump(2.0)
    assert nodes["b"].gossip.gaps == 1
    assert nodes.wrong() == []


def test_a_question_or_an_answer_lost_is_asked_again() -> None:
    """Every second, until it is answered."""
    nodes, _amy = pair()
    nodes.start("c")
    nodes.pump(1.0)
    nodes.keep = lambda sent: orjson.loads(sent[2])[0] != "ask"
    nodes["c"].hold(7)
    nodes.pump(3.0)
    assert nodes.wrong()
    assert 3 <= len([ask for ask in of_kind(nodes, "ask") if ask[1] == "c"]) <= 5
    nodes.keep = lambda sent: True
    nodes.pump(1.2)
    assert nodes.wrong() == []


def test_losing_without_end_does_not_make_a_storm_of_questions() -> None:
    """Every second message is lost for 10 s: a question a second and node, not one for each loss."""
    nodes, _amy = pair()
    nodes.sent.clear()
    coin = [0]

    def every_second(sent: tuple[str, str, bytes]) -> bool:
        coin[0] += sent[0] == "b" and sent[1] != NODES
        return sent[1] == NODES or coin[0] % 2 == 0

    nodes.keep = every_second
    for n in range(200):
        port = nodes["a"].follow(7, f"user:u{n}")
        nodes.pump(STEP_S)
        nodes["a"].hub.drop(port, nodes.now_s)
    assert nodes["b"].gossip.gaps > 50
    assert len(of_kind(nodes, "ask")) <= 25
    nodes.keep = lambda sent: True
    nodes.pump(REPAIR_S)
    assert nodes.wrong() == []


def test_what_comes_twice_or_late_changes_nothing() -> None:
    """An old message is not believed over a newer one, however often it comes."""
    nodes, amy = pair()
    bob = nodes["b"].follow(7, "user:bob")
    nodes.turn("b")
    old = list(nodes.way)
    while nodes.way:
        nodes.deliver()
    nodes["b"].hub.drop(bob, nodes.now_s)
    nodes.pump(GRACE_S + 1)
    assert told(amy) == [("user:bob", "online"), ("user:bob", "offline")]
    for sent in old * 3:
        nodes.way.append(sent)
        nodes.deliver()
    nodes.pump(1.0)
    assert told(amy) == []
    assert nodes.wrong() == []


# Life and death


def test_the_people_of_a_dead_node_are_offline_one_lease_later() -> None:
    """Not before, and the grace is within the lease; who came back to another node meanwhile was never gone."""
    nodes, amy = pair()
    nodes["b"].follow(7, "user:bob"), nodes["b"].follow(7, "user:cy")
    nodes.pump(1.0)
    amy.frames()
    nodes.kill("b")
    nodes.pump(2.0)
    nodes["a"].follow(7, "user:cy")
    nodes.pump(LIMITS.lease_s - 1.5 * LIMITS.node_beat_s - 2.1)
    assert told(amy) == []
    nodes.pump(1.5 * LIMITS.node_beat_s + 0.1)  # one lease after its death
    assert told(amy) == [("user:bob", "offline")]
    assert nodes["a"].online(7) == {"user:amy": ("online", 1), "user:cy": ("online", 1)}
    assert nodes.wrong() == []


def test_a_great_many_dead_are_taken_away_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tick takes long over them; one of them who lives again meanwhile is not mistaken for what it was."""
    monkeypatch.setattr(gossip, "FORGET_PER_TICK", 1)
    nodes = Nodes("a", "b")
    for sid in range(1, 11):
        nodes["a"].hold(sid)
        nodes["b"].follow(sid, "user:bob"), nodes["b"].follow(sid, "user:cy")
    nodes.pump(1.0)
    nodes.bus("b", False)

    def left() -> int:
        return sum(stream.far is not None for stream in nodes["a"].hub.by_sid.values())

    while left() == 10:
        nodes.pump(STEP_S)
    assert left() == 9
    nodes.pump(STEP_S)
    assert left() == 8
    nodes.bus("b", True)
    nodes.pump(3 * STEP_S)
    assert left() == 10
    nodes.pump(1.0)
    assert nodes.wrong() == []


def test_a_node_that_ends_in_order_is_gone_at_once() -> None:
    """Its people have the grace to come back to another node; late messages do not bring it to life."""
    nodes, amy = pair()
    nodes["b"].follow(7, "user:bob")
    nodes.pump(1.0)
    amy.frames()
    late = [("a", channel, payload) for sender, channel, payload in nodes.sent if sender == "b"]
    nodes.publish("b", nodes["b"].gossip.leaving())
    nodes.kill("b")
    while nodes.way:
        nodes.deliver()
    assert nodes["a"].gossip.nodes == {}
    nodes.pump(GRACE_S - 0.5)
    for sent in late:
        nodes.way.append(sent)
        nodes.deliver()
    assert told(amy) == []
    nodes.pump(1.0)
    assert told(amy) == [("user:bob", "offline")]
    assert nodes.wrong() == []


def test_a_node_that_starts_again_is_another() -> None:
    """The old one's people go with its lease, the new one's are there at once."""
    nodes, amy = pair()
    nodes["b"].follow(7, "user:bob")
    nodes.pump(1.0)
    nodes.kill("b")
    nodes.start("b2").follow(7, "user:cy")
    nodes.pump(1.0)
    assert set(nodes["a"].online(7)) == {"user:amy", "user:bob", "user:cy"}
    assert set(nodes["b2"].online(7)) == {"user:amy", "user:cy"}
    nodes.pump(LIMITS.lease_s)
    assert nodes.wrong() == []
    assert told(amy) == [("user:bob", "online"), ("user:cy", "online"), ("user:bob", "offline")]


def test_a_node_silent_for_a_lease_comes_back_with_its_next_heartbeat() -> None:
    """Its link was away and the others' was not: its people are offline until it is heard again."""
    nodes, amy = pair()
    nodes["b"].follow(7, "user:bob")
    nodes.pump(1.0)
    nodes.bus("b", False)
    nodes.pump(LIMITS.lease_s + 1)
    assert told(amy) == [("user:bob", "online"), ("user:bob", "offline")]
    assert nodes["b"].online(7).keys() == {"user:amy", "user:bob"}  # it cannot know better
    nodes.bus("b", True)
    nodes.pump(REPAIR_S)
    assert told(amy) == [("user:bob", "online")]
    assert nodes.wrong() == []


def test_a_bus_away_for_a_minute_changes_nothing_visible() -> None:
    """Nobody dies of not being heard; what changed meanwhile is known when it is back."""
    nodes, amy = pair()
    bob, cy = nodes["b"].follow(7, "user:bob"), nodes["b"].follow(7, "user:cy")
    nodes.pump(1.0)
    amy.frames(), bob.frames()
    for name in "ab":
        nodes.bus(name, False)
    nodes.pump(30.0)
    nodes["b"].hub.drop(cy, nodes.now_s)
    nodes["b"].hub.signals.mark(nodes["b"].hub.by_sid[7], "user:bob", 3, 3)
    nodes["b"].hub.signals.take_unsaved(9)
    nodes.pump(30.0)
    assert told(amy) == []
    for name in "ab":
        nodes.bus(name, True)
    nodes.pump(1.0)
    assert told(amy) == []
    assert nodes["a"].hub.by_sid[7].marks == {"user:bob": (3, 3)}
    nodes.pump(GRACE_S)
    assert told(amy) == [("user:cy", "offline")]
    assert [value for _, value in told(bob)] == ["offline"]
    assert nodes.wrong() == []


# Streams come and go


def test_a_stream_followed_elsewhere_only_is_let_go() -> None:
    """Whom other nodes have holds nothing here; coming back, it is as the others say."""
    nodes, _amy = pair(replace(LIMITS, stream_idle_s=1.0))
    bob = nodes["b"].follow(7, "user:bob")
    nodes.pump(1.0)
    hub = nodes["b"].hub
    hub.signals.typing(hub.by_sid[7], "user:bob", True, nodes.now_s)
    hub.drop(bob, nodes.now_s)
    hub.evict(nodes.now_s + GRACE_S - 1)
    assert 7 in hub.by_sid, "somebody may come back"
    hub.evict(nodes.now_s + GRACE_S)
    assert not hub.by_sid
    nodes.pump(1.0)
    hub.signals.tick(nodes.now_s + 1e6)
    nodes["b"].follow(7, "user:bob")
    nodes.pump(0.2)
    assert nodes["b"].online(7) == {"user:amy": ("online", 1), "user:bob": ("online", 1)}
    assert nodes.wrong() == []


def test_a_hub_that_starts_over_takes_its_people_back() -> None:
    """The log was restored: every connection ends, no stream is held, and no other node believes otherwise."""
    nodes, amy = pair()
    bob = nodes["b"].follow(7, "user:bob")
    nodes.pump(1.0)
    nodes["b"].hub.drop(bob, nodes.now_s)
    nodes["b"].hub.forget([0])
    nodes.pump(GRACE_S + 1)
    assert told(amy) == [("user:bob", "online"), ("user:bob", "offline")]
    assert nodes.wrong() == []


def test_ten_thousand_streams_ask_and_answer_in_turns() -> None:
    """A node comes with 10,000 streams: no message and no turn grows with their number, and all is known in a second."""
    nodes = Nodes("a", "b", partitions=16)
    for sid in range(1, 10_001):
        nodes["a"].hold(sid)
    port = FakePort("user:amy")
    for sid in range(1, 501):
        nodes["a"].bench.sub(port, nodes["a"].hub.by_sid[sid])
    nodes.pump(1.0)
    for sid in range(1, 10_001):
        nodes["b"].hold(sid)
    nodes.sent.clear()
    taken = 0
    for _ in range(20):
        before = len(nodes.sent)
        nodes.pump(STEP_S)
        taken = max(taken, len(nodes.sent) - before)
    assert taken <= 2 * 16 * 3  # two nodes, and for each partition a message or two
    assert max(len(payload) for _, _, payload in nodes.sent) < 100_000
    assert sum(len(payload) for _, _, payload in nodes.sent) < 1_000_000
    assert nodes.wrong() == []


def test_a_crowd_is_told_in_parts() -> None:
    """5,000 people of one stream do not go into one message, and come out whole."""
    nodes = Nodes("a", "b")
    for n in range(5_000):
        nodes["a"].follow(7, f"user:u{n}")
    nodes.pump(1.0)
    nodes["b"].hold(7)
    nodes.pump(0.5)
    assert max(len(payload) for _, _, payload in nodes.sent) < 200_000
    assert nodes["b"].hub.signals.online(nodes["b"].hub.by_sid[7])[1] == 5_000
    assert nodes.wrong() == []


# Typing and markers


def test_typing_is_seen_on_other_nodes_and_ends_by_itself() -> None:
    """On, repeated, off; where the end is lost it ends 6 s after it was last said. Shed is shed for both."""
    nodes, amy = pair()
    nodes["b"].follow(7, "user:bob")
    nodes.pump(0.2)
    there, here = nodes["b"].hub, nodes["a"].hub
    amy.frames()
    there.signals.typing(there.by_sid[7], "user:bob", True, nodes.now_s)
    nodes.pump(5.0)
    there.signals.typing(there.by_sid[7], "user:bob", True, nodes.now_s)
    nodes.pump(5.0)
    assert told(amy, "typing") == [("user:bob", True)]
    there.signals.typing(there.by_sid[7], "user:bob", False, nodes.now_s)
    nodes.pump(0.2)
    assert told(amy, "typing") == [("user:bob", False)]
    there.signals.typing(there.by_sid[7], "user:bob", True, nodes.now_s)
    nodes.pump(0.2)
    nodes.kill("b")
    nodes.pump(6.0)
    assert told(amy, "typing") == [("user:bob", True), ("user:bob", False)]
    here.signals.shed_typing = True
    here.signals.far_typing(here.by_sid[7], "user:bob", True, nodes.now_s)
    nodes.pump(0.2)
    assert told(amy, "typing") == []


def test_markers_are_seen_on_other_nodes_and_stored_by_the_one_that_took_them() -> None:
    """They rise only; who reads on one device is told so on the device that another node has."""
    nodes, amy = pair()
    phone = nodes["b"].follow(7, "user:amy")
    nodes.pump(0.2)
    there, here = nodes["b"].hub, nodes["a"].hub
    there.signals.mark(there.by_sid[7], "user:amy", 5, 3)
    nodes.pump(0.2)
    marks = [frame for frame in amy.frames() if frame["op"] == "mark"]
    assert marks == [{"op": "mark", "stream": "chat:s7", "by": "user:amy", "delivered": 5, "read": 3}]
    assert [frame["op"] for frame in phone.frames()].count("mark") == 1
    assert list(there.signals.unsaved.values()) == [Mark(7, "user:amy", 5, 3)]
    assert here.signals.unsaved == {}
    here.signals.far_mark(here.by_sid[7], "user:amy", 1, 4)
    assert here.by_sid[7].marks == {"user:amy": (5, 4)}


def test_a_marker_that_comes_before_its_event_waits_for_it() -> None:
    """Another node is ahead in the log: its marker is kept as it is, and told when the event is here."""
    nodes, amy = pair()
    here = nodes["a"].hub
    here.signals.far_mark(here.by_sid[7], "user:bob", 11, 10)
    nodes.pump(1.0)
    assert [frame["op"] for frame in amy.frames() if frame["op"] == "mark"] == []
    here.signals.mark(here.by_sid[7], "user:bob", 4, 4)
    nodes["a"].bench.events(here.by_sid[7], 2)
    nodes.pump(0.2)
    assert [(f["op"], f.get("seq"), f.get("delivered")) for f in amy.frames() if f["op"] in ("event", "mark")] == [
        ("event", 10, None),
        ("event", 11, None),
        ("mark", None, 11),
    ]


def test_a_stream_brings_markers_that_are_not_stored_yet() -> None:
    """Read from Postgres before they were written there, asked for after: the answer has them, for minutes."""
    nodes, _amy = pair()
    here = nodes["a"].hub
    here.signals.mark(here.by_sid[7], "user:amy", 4, 2)
    nodes.pump(5.0)
    nodes.start("c")
    nodes["c"].hold(7)
    nodes.pump(1.0)
    assert nodes["c"].hub.by_sid[7].marks == {"user:amy": (4, 2)}
    here.signals.take_unsaved(9)
    for _ in range(2):
        nodes.now_s += 301.0
        for node in nodes.nodes.values():
            node.gossip.bus_changed(True, nodes.now_s)
        nodes.pump(1.0)
    nodes.start("d")
    nodes["d"].hold(7)
    nodes.pump(1.0)
    assert nodes["d"].hub.by_sid[7].marks == {}  # Postgres has it by now: the loader brings it
    assert nodes.wrong() == []


def test_a_marker_that_postgres_does_not_take_is_told_for_as_long() -> None:
    """Unsaved after all that time: kept, and in every answer."""
    nodes, _amy = pair()
    here = nodes["a"].hub
    here.signals.mark(here.by_sid[7], "user:amy", 4, 2)
    for _ in range(4):
        nodes.now_s += 301.0
        for node in nodes.nodes.values():
            node.gossip.bus_changed(True, nodes.now_s)
        nodes.pump(1.0)
    nodes.start("c")
    nodes["c"].hold(7)
    nodes.pump(1.0)
    assert nodes["c"].hub.by_sid[7].marks == {"user:amy": (4, 2)}


# Bad input


def test_what_is_not_for_us_or_of_us_is_left_alone() -> None:
    """Streams not held, streams of another partition, a channel or partition that does not exist, our own words."""
    nodes = Nodes("a", partitions=2)
    stream = nodes["a"].hold(7)
    node, now_s = nodes["a"].gossip, nodes.now_s

    def take(channel: str, *parts: object) -> bool:
        return node.receive(channel, orjson.dumps(parts), now_s)

    assert take("signals:1", "b", 1, [[8, "user:bob", 1]], [], [], [])
    assert take("signals:0", "b", 1, [[7, "user:bob", 1]], [[7, "user:bob", 1]], [], [[7, "user:bob", 1, 1]])
    assert not take("signals:2", "b", 2, [], [], [], [])
    assert not take("other", "b", 2, [], [], [], [])
    assert not take(NODES, "ask", "b", [], 2, [7])
    assert take("signals:1", "a", 99, [[7, "user:bob", 1]], [], [], [])
    assert take(NODES, "beat", "a", 1, [])
    assert take(NODES, "end", "a")
    assert take(NODES, "ask", "a", [], 1, [7])
    assert take(NODES, "ask", "b", ["c"], 1, [7])
    assert (stream.present, stream.marks, node.pressing) == ({}, {}, False)
    assert set(node.nodes) == {"b"}


def test_a_node_without_others_keeps_no_more_than_it_has() -> None:
    """A hub without gossip, and one whose gossip nobody hears, behave alike."""
    bench = Bench(replace(Limits()))
    Gossip(bench.hub, "a", bench.hub.limits)
    room = bench.stream()
    amy, bob = bench.follow(room, "user:amy"), bench.follow(room, "user:bob")
    bench.signals()
    bench.hub.drop(bob, bench.now_s)
    bench.signals(GRACE_S + 0.1)
    assert told(amy) == [("user:bob", "online"), ("user:bob", "offline")]
    assert room.far is None
    assert isinstance(Node("b", LIMITS, 1, 0.0).gossip, Gossip)


def test_a_question_of_too_many_streams_is_answered_as_far_as_it_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be answered is bounded; who asked asks again."""
    monkeypatch.setattr(gossip, "ANSWERS_WAITING_MAX", 2)
    nodes = Nodes("a")
    assert nodes["a"].gossip.receive(NODES, orjson.dumps(["ask", "b", [], 0, [1, 2, 3]]), nodes.now_s)
    nodes.turn("a")
    states = [orjson.loads(payload)[3] for _, channel, payload in nodes.sent if channel != NODES]
    assert states == [[[1], [2]]]  # of streams that it does not hold it has nobody


def test_our_own_words_in_another_spelling_are_still_our_own() -> None:
    """With a space in front they look otherwise; what they say of this node is not believed."""
    nodes = Nodes("a")
    stream = nodes["a"].hold(7)
    assert nodes["a"].gossip.receive("signals:0", b'[ "a",1,[[7,"user:bob",1]],[],[],[]]', nodes.now_s)
    assert not nodes["a"].gossip.receive("signals:0", b"[", nodes.now_s)
    assert not nodes["a"].gossip.receive(NODES, b"[", nodes.now_s)
    assert (stream.present, nodes["a"].gossip.nodes) == ({}, {})


def test_the_end_of_a_node_without_people_takes_nobody_away() -> None:
    """One that was never heard, and one that was but had nobody here."""
    nodes, amy = pair()
    amy.frames()
    for name in ("stranger", "b"):
        assert nodes["a"].gossip.receive(NODES, orjson.dumps(["end", name]), nodes.now_s)
    nodes.kill("b")
    nodes.pump(GRACE_S + 1)
    assert (told(amy), nodes["a"].gossip.nodes) == ([], {})
    assert nodes["a"].online(7) == {"user:amy": ("online", 1)}


def test_a_stream_that_is_not_listened_to_is_not_complete() -> None:
    """Nobody was asked about it; letting go of it, or of an older one with its number, is nothing."""
    nodes, _amy = pair()
    node = nodes["a"]
    elsewhere, known = Bench(), node.hub.by_sid[7]
    for sid in (7, 8):
        stranger = elsewhere.stream(sid)
        node.gossip.let_go(stranger)
        stranger.partition = 99
        node.gossip.let_go(stranger)
    assert node.gossip.complete(known)
    node.gossip.let_go(known)
    assert not node.gossip.complete(known)


def test_a_question_that_nobody_can_answer_any_more_is_not_asked() -> None:
    """The only node that owed it died before the question went out."""
    nodes, _amy = pair()
    nodes["b"].follow(8, "user:bob")
    nodes.pump(1.0)
    nodes["a"].hold(8)
    assert nodes["a"].gossip.receive(NODES, orjson.dumps(["end", "b"]), nodes.now_s)
    nodes.kill("b")
    nodes.sent.clear()
    nodes.pump(1.0)
    assert of_kind(nodes, "ask") == []
    assert nodes.wrong() == []


def test_answers_that_are_too_much_for_one_turn_go_on_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three streams with two people each, three people a turn: two answers, then the third."""
    monkeypatch.setattr(gossip, "ROWS_PER_TAKE", 3)
    nodes = Nodes("a")
    for sid in (1, 2, 3):
        nodes["a"].follow(sid, "user:amy"), nodes["a"].follow(sid, "user:bob")
    nodes.pump(1.0)
    nodes.sent.clear()
    nodes["a"].gossip.receive(NODES, orjson.dumps(["ask", "b", [], 0, [1, 2, 3]]), nodes.now_s)
    answered = []
    for _ in range(3):
        nodes.turn("a")
        answered.append(
            [row[0] for _, channel, load in nodes.sent if channel != NODES for row in orjson.loads(load)[3]]
        )
        nodes.sent.clear()
    assert answered == [[1, 2], [3], []]


def test_a_stream_loaded_anew_owes_nothing_to_the_dead_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead are taken away in turns; a stream let go and loaded again meanwhile never had them."""
    monkeypatch.setattr(gossip, "FORGET_PER_TICK", 0)
    nodes, _amy = pair()
    for sid in (8, 9):
        nodes["a"].hold(sid)
        nodes["b"].follow(sid, "user:bob")
    nodes.pump(1.0)
    nodes["a"].gossip.receive(NODES, orjson.dumps(["end", "b"]), nodes.now_s)
    nodes.kill("b")
    hub = nodes["a"].hub
    hub.evict(nodes.now_s + 1e6)
    assert set(hub.by_sid) == {7}
    nodes["a"].follow(9, "user:bob")
    monkeypatch.setattr(gossip, "FORGET_PER_TICK", 100)
    nodes.pump(GRACE_S + 1)
    assert hub.by_sid[9].present == {"user:bob": 1}
    assert nodes.wrong() == []
