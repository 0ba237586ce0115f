"""Several nodes that gossip over a bus of our making: what is on the way can be lost, doubled, late and out of order.

`Nodes.pump` lets time pass as `gateway.cluster` does, 50 ms at a time; `way` is what was published and not yet delivered.
`wrong` compares what each node believes with what the others' connections are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from core.gossip import Gossip
from core.limits import Limits
from core.model import StreamFacts
from core.presence import Presence
from core.stream import Stream
from tests.fake_port import FakePort
from tests.hubs import Bench

STEP_S = 0.05
LIMITS = Limits()
REPAIR_S = 2 * LIMITS.node_beat_s + 2.5
"""Two heartbeats, the wait that tells late from lost, one question that went unanswered, and the way back."""

Sent = tuple[str, str, bytes]
"""(to, channel, payload)"""


class Node:
    """A node's pure half: a hub on a bench, and its gossip."""

    def __init__(self, name: str, limits: Limits, partitions: int, now_s: float) -> None:
        self.name = name
        self.bench = Bench(limits, partitions)
        self.bench.now_s = now_s
        self.hub = self.bench.hub
        self.gossip = Gossip(self.hub, name, limits)
        self.hub.on_held = self.gossip.held
        self.hub.on_let_go = self.gossip.let_go
        self.up = True

    def hold(self, sid: int) -> Stream:
        stream = self.hub.by_sid.get(sid)
        if stream is None:
            facts = StreamFacts(sid, "demo", f"chat:s{sid}", sid % len(self.hub.pos), 9, 1, True, "member")
            self.hub.loading()
            self.hub.load([(facts, "user:amy")], self.bench.now_s)
            stream = self.hub.by_sid[sid]
        return stream

    def follow(self, sid: int, who: str) -> FakePort:
        return self.bench.follow(self.hold(sid), who)

    def people(self, sid: int) -> dict[str, int]:
        """Whom this node has in the stream, counted from its connections."""
        stream = self.hub.by_sid.get(sid)
        return {} if stream is None else Presence.own_people(stream)

    def online(self, sid: int) -> dict[str, tuple[str, int]]:
        people, _ = self.hub.signals.online(self.hub.by_sid[sid])
        return {who: (value, devices) for who, value, devices in people}


class Nodes:
    def __init__(self, *names: str, limits: Limits = LIMITS, partitions: int = 1) -> None:
        self.limits = replace(limits)
        self.partitions = partitions
        self.now_s = 1000.0
        self.way: list[Sent] = []
        self.sent: list[tuple[str, str, bytes]] = []
        """(from, channel, payload) of everything published."""
        self.keep: Callable[[Sent], bool] = lambda sent: True
        """Whether a message gets through."""
        self.nodes: dict[str, Node] = {}
        for name in names:
            self.start(name)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def start(self, name: str) -> Node:
        node = self.nodes[name] = Node(name, self.limits, self.partitions, self.now_s)
        return node

    def kill(self, name: str) -> None:
        del self.nodes[name]
        self.way = [sent for sent in self.way if sent[0] != name]

    def turn(self, name: str) -> None:
        """What a node does every 50 ms."""
        node = self.nodes[name]
        node.bench.now_s = self.now_s
        node.hub.signals.tick(self.now_s)
        node.gossip.tick(self.now_s)
        self.publish(name, node.gossip.take(self.now_s))
        node.hub.signals.flush(self.now_s, large_rooms=True)

    def publish(self, name: str, messages: list[tuple[str, bytes]]) -> None:
        for channel, payload in messages:
            self.sent.append((name, channel, payload))
            if self.nodes[name].up:
                self.way += [(to, channel, payload) for to in self.nodes]  # who publishes hears itself, too

    def deliver(self, at: int = 0, *, take: bool = True) -> None:
        to, channel, payload = sent = self.way.pop(at) if take else self.way[at]
        node = self.nodes.get(to)
        if node is not None and node.up and self.keep(sent):
            assert node.gossip.receive(channel, payload, self.now_s), payload
            node.hub.flush()

    def pump(self, for_s: float = STEP_S) -> None:
        """Time passes and everything arrives."""
        until_s = self.now_s + for_s
        while self.now_s < until_s - 1e-9:
            self.now_s += STEP_S
            for name in list(self.nodes):
                self.turn(name)
            while self.way:
                self.deliver()

    def bus(self, name: str, up: bool) -> None:
        """The link of one node went away or came back; coming back it listens anew."""
        node = self.nodes[name]
        node.up = up
        node.gossip.bus_changed(up, self.now_s)
        if up:
            for stream in list(node.hub.by_sid.values()):
                node.gossip.held(stream)

    def wrong(self) -> list[str]:
        """Where what a node believes is not what is."""
        found = []
        for node in self.nodes.values():
            others = {name: other for name, other in self.nodes.items() if other is not node}
            if set(node.gossip.nodes) != set(others):
                found.append(f"{node.name} knows {sorted(node.gossip.nodes)}")
            for sid, stream in node.hub.by_sid.items():
                far = {name: other.people(sid) for name, other in others.items() if other.people(sid)}
                if (stream.far or {}) != far:
                    found.append(f"{node.name} believes {stream.far} of {sid}, but it is {far}")
                total: dict[str, int] = {}
                for people in (*far.values(), node.people(sid)):
                    for who, count in people.items():
                        total[who] = total.get(who, 0) + count
                if {who: count for who, count in stream.present.items() if count} != total:
                    found.append(f"{node.name} adds up {stream.present} in {sid}, but it is {total}")
                if not node.gossip.complete(stream):
                    found.append(f"{node.name} has not got all of {sid}")
        return found
