"""Three nodes, a bus that loses, doubles and shuffles, and anything happening: afterwards everybody knows the truth.

Each program is a list of small steps. When it ends the bus is good again; two heartbeats later each node's view of every
stream it holds is what the connections are, and what clients were told adds up to it. What a failing program showed is
told again in test_gossip.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.stream import Stream
from tests.fake_port import FakePort
from tests.gossips import LIMITS, REPAIR_S, STEP_S, Nodes

PEOPLE = ("user:amy", "user:bob", "user:cy", "user:dee")
SIDS = (1, 2, 3)
PARTITIONS = 2
PROGRAMS = 400

Step = tuple[int, int, int, int]


class World:
    def __init__(self) -> None:
        self.nodes = Nodes("n1", "n2", "n3", partitions=PARTITIONS)
        self.started = 3
        self.ports: list[tuple[str, FakePort]] = []
        self.believed: dict[tuple[FakePort, int], dict[str, str]] = {}
        """What a client that asked when it came, and listened since, takes each principal for."""
        self.raised: list[tuple[str, Stream, str, int]] = []
        self.grace_until_s = 0.0

    def run(self, steps: list[Step]) -> None:
        for kind, *numbers in steps:
            _STEPS[kind % len(_STEPS)](self, *numbers)
            self._listen()
            self._sane()

    def name(self, number: int) -> str:
        names = list(self.nodes.nodes)
        return names[number % len(names)]

    # -- steps --------------------------------------------------------------------------------------------------------

    def come(self, a: int, b: int, c: int) -> None:
        name, sid, who = self.name(a), SIDS[b % 3], PEOPLE[c % 4]
        port = self.nodes[name].follow(sid, who)
        port.frames()
        self.ports.append((name, port))
        self.believed[port, sid] = {by: value for by, (value, _) in self.nodes[name].online(sid).items() if by != who}

    def go(self, a: int, b: int, c: int) -> None:
        if self.ports:
            name, port = self.ports.pop(a % len(self.ports))
            self.nodes[name].hub.drop(port, self.nodes.now_s)
            self.believed = {key: value for key, value in self.believed.items() if key[0] is not port}

    def turn_away(self, a: int, b: int, c: int) -> None:
        if self.ports:
            name, port = self.ports[a % len(self.ports)]
            self.nodes[name].hub.signals.set_away(port, b % 2 == 0)

    def mark(self, a: int, b: int, c: int) -> None:
        if self.ports:
            name, port = self.ports[a % len(self.ports)]
            for stream in port.subs:
                if self.nodes[name].hub.signals.mark(stream, port.principal, b % 10, c % 10):
                    self.raised.append((name, stream, port.principal, max(b % 10, c % 10)))

    def type(self, a: int, b: int, c: int) -> None:
        if self.ports:
            name, port = self.ports[a % len(self.ports)]
            for stream in port.subs:
                self.nodes[name].hub.signals.typing(stream, port.principal, b % 3 > 0, self.nodes.now_s)

    def hold(self, a: int, b: int, c: int) -> None:
        self.nodes[self.name(a)].hold(SIDS[b % 3])

    def evict(self, a: int, b: int, c: int) -> None:
        hub = self.nodes[self.name(a)].hub
        hub.evict(self.nodes.now_s + 1e6)

    def kill(self, a: int, b: int, c: int) -> None:
        """Abruptly, or in order (which drops its clients first); another takes its place, sometimes later."""
        name = self.name(a)
        if b % 3 == 0:
            self.nodes.publish(name, self.nodes[name].gossip.leaving())
        self.nodes.kill(name)
        for other, port in self.ports:
            if other == name:
                self.believed = {key: value for key, value in self.believed.items() if key[0] is not port}
        self.ports = [(other, port) for other, port in self.ports if other != name]
        if c % 3 or len(self.nodes.nodes) < 2:
            self.start(0, 0, 0)

    def start(self, a: int, b: int, c: int) -> None:
        if len(self.nodes.nodes) < 4:
            self.started += 1
            self.nodes.start(f"n{self.started}")

    def link(self, a: int, b: int, c: int) -> None:
        name = self.name(a)
        self.nodes.bus(name, not self.nodes[name].up)

    def turn(self, a: int, b: int, c: int) -> None:
        self.nodes.now_s += STEP_S * (b % 4)
        self.nodes.turn(self.name(a))

    def wait(self, a: int, b: int, c: int) -> None:
        """Nothing arrives for so long."""
        self.nodes.now_s += (a % 12) * 0.5
        for name in list(self.nodes.nodes):
            self.nodes.turn(name)

    def arrive(self, a: int, b: int, c: int) -> None:
        """Several messages, in any order, some lost, some twice."""
        rng = random.Random(a * 65_536 + b * 256 + c)
        for _ in range(min(len(self.nodes.way), b % 12)):
            what = rng.random()
            at = rng.randrange(len(self.nodes.way)) if what < 0.3 else 0
            if what > 0.9:
                self.nodes.way.pop(at)
            else:
                self.nodes.deliver(at, take=what < 0.7)

    def all_arrive(self, a: int, b: int, c: int) -> None:
        while self.nodes.way:
            self.nodes.deliver()

    # -- checks -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for (port, sid), believed in self.believed.items():
            for frame in port.frames():
                if frame["op"] == "signal" and frame["kind"] == "presence" and frame["stream"] == f"chat:s{sid}":
                    believed[frame["by"]] = frame["value"]

    def _sane(self) -> None:
        """At any time: the sums add up, and this node's own share is what its connections are."""
        for node in self.nodes.nodes.values():
            for stream in node.hub.by_sid.values():
                people = node.people(stream.sid)
                for who, count in stream.present.items():
                    assert node.hub.signals.own(stream, who) == people.get(who, 0), (node.name, stream.far, who)
                    assert count >= 0
                assert set(people) <= set(stream.present)
                assert all(all(far.values()) and far for far in (stream.far or {}).values())

    def settle(self) -> None:
        for name in list(self.nodes.nodes):
            if not self.nodes[name].up:
                self.nodes.bus(name, True)
        self.nodes.way.clear()
        self.nodes.pump(REPAIR_S)
        self._sane()
        wrong = [what for what in self.nodes.wrong() if " knows " not in what and not self._of_the_dead(what)]
        assert wrong == []
        self.nodes.pump(LIMITS.lease_s + LIMITS.presence_grace_s)
        assert self.nodes.wrong() == []
        self._listen()
        for node in self.nodes.nodes.values():
            for stream in node.hub.by_sid.values():
                assert not stream.signals, "somebody types for ever"
                assert all(stream.present.values()), "somebody leaves for ever"
        for (port, sid), believed in self.believed.items():
            name = next(name for name, other in self.ports if other is port)
            online = {by: value for by, (value, _) in self.nodes[name].online(sid).items() if by != port.principal}
            assert {by: value for by, value in believed.items() if value != "offline"} == online
        for name, there, who, seq in self.raised:
            if name in self.nodes.nodes and self.nodes[name].hub.by_sid.get(there.sid) is there:
                for node in self.nodes.nodes.values():
                    stream = node.hub.by_sid.get(there.sid)
                    assert stream is None or stream.marks.get(who, (0, 0))[0] >= seq

    def _of_the_dead(self, what: str) -> bool:
        """Whether a node whose lease still runs explains it."""
        node = self.nodes[what.split(" ", 1)[0]]
        return bool(set(node.gossip.nodes) - set(self.nodes.nodes))


_STEPS = (
    World.come,
    World.come,
    World.go,
    World.turn_away,
    World.mark,
    World.type,
    World.hold,
    World.evict,
    World.kill,
    World.start,
    World.link,
    World.turn,
    World.turn,
    World.wait,
    World.arrive,
    World.arrive,
    World.arrive,
    World.all_arrive,
)


def execute(steps: list[Step]) -> None:
    world = World()
    world.run(steps)
    world.settle()


def test_random_stories_of_three_nodes() -> None:
    """Hundreds of long ones from fixed seeds: two heartbeats after the last loss every view is the truth."""
    for seed in range(PROGRAMS):
        rng = random.Random(seed)
        count = rng.choice((20, 60, 150))
        try:
            execute(
                [(rng.randrange(256), rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(count)]
            )
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


@settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 4), min_size=5, max_size=60))
def test_stories_that_shrink(steps: list[Step]) -> None:
    """The same with hypothesis, which looks in other places and hands back the smallest failing story."""
    execute(steps)
