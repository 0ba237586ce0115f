"""The machine against a simulated server that does everything wrong that a network and a node can do, by seed.

No sockets and no loop: a random schedule delivers, delays, drops, repeats, skips, cuts, drains, restarts and refuses.
After every run the same invariants hold: each reader saw each seq once, in order, without a hole; each send landed
exactly once; buffers stayed inside their bounds; and once the faults stop, everything arrives. A seed names its run.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from readback_client import Limits
from readback_client._calls import Call
from readback_client._feed import Reader, Start
from readback_client._machine import Machine, Phase

STREAMS = ("chat:a", "chat:b", "trip:c")
LIMITS = Limits(buffer_events_max=6, calls_in_flight_max=4, hello_bytes_max=200)
SEEDS = 150
STEPS = 400


class Simulation:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.faults = True
        self.log: dict[str, list[str]] = {name: [] for name in STREAMS}
        self.keys: dict[str, tuple[str, int]] = {}
        self.tokens: set[str] = set()
        self.wire: list[str] | None = None  # server to client, in order; None while there is no connection
        self.subs: dict[str, int] = {}
        self.generation = 0
        self.ends_at = 0.0
        """When the access token of the connection ends."""
        self.machine = Machine(
            ["ws://a", "ws://b"], now=0.0, uniform=self.rng.uniform, limits=LIMITS, fresh_tokens=True
        )
        self.readers = {name: self.open(name) for name in STREAMS}
        self.seen: dict[str, list[int]] = {name: [] for name in STREAMS}
        self.calls: list[tuple[str, Call]] = []

    def open(self, name: str) -> Reader:
        return self.machine.streams.open_reader(self.now, name, Start(after=0), lambda: None)

    # -- the server ---------------------------------------------------------------------------------------------------

    def say(self, **frame: Any) -> None:
        if self.wire is not None:
            self.wire.append(json.dumps(frame))

    def stamp(self, at: float) -> str:
        return (datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=at)).isoformat()

    def commit(self, name: str, key: str) -> int:
        self.log[name].append(key)
        self.deliver(name)
        return len(self.log[name])

    def deliver(self, name: str) -> None:
        """What a subscriber is told, sometimes wrongly."""
        if name not in self.subs:
            return
        for seq in range(self.subs[name] + 1, len(self.log[name]) + 1):
            if self.faults and self.rng.random() < 0.02:
                continue  # skipped
            for _ in range(2 if self.faults and self.rng.random() < 0.05 else 1):
                self.say(
                    op="event", stream=name, seq=seq, type="message", key="", by="user:b", at="2026-11-21T09:30:00Z"
                )
        self.subs[name] = len(self.log[name])

    def follow(self, name: str, after: int) -> None:
        self.subs[name] = after
        self.deliver(name)

    def welcome(self, frame: dict[str, Any], wanted: dict[str, int], *, resumed: bool) -> None:
        self.generation += 1
        token = f"r{self.generation}"
        self.tokens.add(token)
        streams = {name: {"head": len(self.log[name]), "after": after} for name, after in wanted.items()}
        self.say(
            op="welcome", id=frame["id"], session="s", principal="user:a", log="e", resume=token, resume_ttl=60,
            heartbeat=10, limits={"frame": 65536, "streams": 99}, streams=streams, resumed=resumed,
            time=self.stamp(self.now), expires=self.stamp(self.ends_at),
        )  # fmt: skip
        for name, after in wanted.items():
            self.follow(name, after)

    def serve(self, frame: dict[str, Any]) -> None:
        op, id = frame["op"], frame["id"]
        if op not in ("hello", "ping") and self.faults and self.rng.random() < 0.04:
            transient = ["unavailable", "overloaded", "internal", "rate_limited"]
            code = "resume_rejected" if op == "resume" else self.rng.choice(transient)
            self.say(op="error", id=id, code=code, message="x", retry_after=self.rng.choice([None, 0.5]))
        elif op == "hello":
            self.ends_at = self.now + self.rng.choice([3.0, 20.0, 200.0])
            self.welcome(frame, {name: spec["after"] for name, spec in frame["streams"].items()}, resumed=False)
        elif op == "resume":
            if frame["resume"] in self.tokens and self.now < self.ends_at:
                self.tokens.discard(frame["resume"])
                self.welcome(frame, frame["streams"], resumed=True)
            else:
                self.say(op="error", id=id, code="resume_rejected", message="used before")
        elif op == "refresh":
            chance = self.rng.random() if self.faults else 1.0
            if chance < 0.3:
                self.say(op="error", id=id, code="unauthorized", message="expired")
            elif chance > 0.4:  # else it is never answered
                self.ends_at = self.now + self.rng.choice([3.0, 20.0, 200.0])
                self.generation += 1
                self.tokens.add(f"r{self.generation}")
                self.say(op="ok", id=id, expires=self.stamp(self.ends_at), resume=f"r{self.generation}", streams={})
        elif op == "sub":
            self.say(op="ok", id=id, stream=frame["stream"], head=len(self.log[frame["stream"]]), after=frame["after"])
            self.follow(frame["stream"], frame["after"])
        elif op == "unsub":
            self.subs.pop(frame["stream"], None)
            self.say(op="ok", id=id, stream=frame["stream"])
        elif op == "send":
            name, key = frame["stream"], frame["key"]
            dup = key in self.keys
            if not dup:
                self.keys[key] = (name, self.commit(name, key))
            if not (self.faults and self.rng.random() < 0.03):  # committed, but the answer never leaves
                self.say(op="ok", id=id, stream=name, seq=self.keys[key][1], at="2026-11-21T09:30:00Z", dup=dup)
        elif op == "ping":
            self.say(op="pong", id=id)

    # -- the network and the edge -------------------------------------------------------------------------------------

    def close(self, code: int) -> None:
        self.wire = None
        self.subs.clear()
        self.machine.closed(self.now, code, "")

    def step(self) -> None:
        m = self.machine
        self.now += self.rng.choice([0.0, 0.01, 0.2, 1.0])
        m.tick(self.now)
        if m.hangup and self.wire is not None:
            self.close(1000)
        if m.phase is Phase.ONLINE and self.wire is not None and self.now >= self.ends_at:
            self.say(op="bye", code="unauthorized", reason="the access token has expired", retry_after=None)
            while self.wire:
                m.receive(self.now, self.wire.pop(0))
            self.close(4501)
        if m.fresh_token_wanted and self.rng.random() < 0.5:
            if self.faults and self.rng.random() < 0.2:
                m.not_renewed(self.now, self.rng.choice([None, 2.0]))
            else:
                m.renew(self.now, "t")
        if (dial := m.next_dial(self.now)) is not None:
            if self.faults and self.rng.random() < 0.3:
                m.failed(self.now, "refused")
            else:
                self.wire = []
                m.connected(self.now, "t" if dial.token_needed else None)
        while m.writes and self.wire is not None:
            if self.faults and self.rng.random() < 0.01:
                return self.close(1006)  # the rest was written into a dead socket
            self.serve(json.loads(m.writes.popleft()))
        for _ in range(self.rng.randrange(8)):
            if not self.wire:
                break
            m.receive(self.now, self.wire.pop(0))
            if m.token_wanted:
                m.offer_token(self.now, "t")
        if self.wire is not None and m.phase is Phase.ONLINE and self.faults:
            chance = self.rng.random()
            if chance < 0.01:
                self.close(1006)
            elif chance < 0.015:
                self.say(op="bye", code="overloaded", reason="", retry_after=0.5)
            elif chance < 0.02:
                self.tokens.add("drained")
                self.say(op="drain", after_ms=300, resume="drained")
            elif chance < 0.023:
                self.tokens.clear()
            elif chance < 0.026:
                self.wire.append("{nonsense")
        return None

    def act(self) -> None:
        """The program that uses the client, and the other people in the room."""
        if self.rng.random() < 0.3:
            self.commit(self.rng.choice(STREAMS), f"other-{self.now}-{self.rng.random()}")
        if self.rng.random() < 0.2:
            name, key = self.rng.choice(STREAMS), f"mine-{len(self.calls)}"
            self.calls.append(
                (key, self.machine.call("send", {"stream": name, "key": key, "type": "message", "body": {}}))
            )
        name = self.rng.choice(STREAMS)
        for _ in range(self.rng.choice([0, 0, 1, 20])):
            self.take(name)

    def take(self, name: str) -> bool:
        event = self.machine.streams.take(self.readers[name])
        if event is not None:
            self.seen[name].append(event.seq)
        return event is not None

    def check(self) -> None:
        for name, seen in self.seen.items():
            assert seen == list(range(1, len(seen) + 1)), name
            assert len(self.readers[name].queue) <= LIMITS.buffer_events_max


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_goes_wrong(seed: int) -> None:
    """I1 and I2 of the design, from the client's side: sends land once, streams are whole, memory is bounded."""
    simulation = Simulation(seed)
    for _ in range(STEPS):
        simulation.act()
        simulation.step()
        simulation.check()
    simulation.faults = False
    for name in STREAMS:  # a server that skipped the very last event is found out only by the next
        simulation.commit(name, f"last-of-{name}")
    for _ in range(3_000):
        simulation.step()
        for name in STREAMS:
            while simulation.take(name):
                pass
        simulation.check()
        whole = all(len(simulation.seen[name]) == len(simulation.log[name]) for name in STREAMS)
        if whole and all(call.done for _, call in simulation.calls):
            break
    for name in STREAMS:
        assert len(simulation.seen[name]) == len(simulation.log[name])
        assert len(set(simulation.log[name])) == len(simulation.log[name])
    for key, call in simulation.calls:
        assert call.done, key
        assert call.error is None
        assert call.answer is not None
        assert simulation.log[simulation.keys[key][0]][call.answer["seq"] - 1] == key  # type: ignore[operator]
    assert not simulation.machine.ended
