"""Presence under storm: clients join and leave rooms all the time; observers on every node must end up with the truth.

Actors hold their connections and follow and leave rooms (``sub``, ``unsub``), each one large room and one small room by
turns, at a common rate (open loop). One observer on each node follows all rooms and keeps what it is told: names in
small rooms, the count in the large one. After the storm it is measured when what they were told is the truth, and when the
answers to their questions are.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson

from bench.gen.audit import wrong_presence
from bench.gen.chat import places
from bench.gen.dialect import Dialect, dialect_of
from bench.gen.link import Link, Window, monotonic_ns, until
from bench.gen.raw import OPEN, Raw, Swarm
from bench.gen.resume import open_slowly, until_true
from bench.stats import Histogram

TICK_S = 0.002
ANSWER_LIMIT_S = 15.0
TRUTH_LIMIT_S = 30.0
LOOK_S = 0.1


class Storm:
    """What all share: who is where, by the answers that they got; what was counted."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.square: bytes = job["square"].encode()
        self.rooms: list[bytes] = [name.encode() for name in job["rooms"]]
        self.random = random.Random(job["seed"])
        self.there: dict[bytes, set[str]] = {room: set() for room in (self.square, *self.rooms)}
        self.welcome = 0
        self.next_id = 0
        self.asked: dict[int, tuple[int, bytes, bool]] = {}
        """Joins and leaves on their way: when it was said, the room, whether to join."""
        self.took: list[int] = []
        self.late = 0
        self.signals = 0
        """Signals delivered to actors."""
        self.refused: dict[str, int] = {}
        self.ended: dict[str, int] = {}


class Actor(Raw):
    """Follows its small room and the large one by turns."""

    def __init__(self, swarm: Swarm, dialect: Dialect, token: str, storm: Storm, room: bytes) -> None:
        super().__init__(swarm, dialect, dialect.hello(token, {}))
        self.storm = storm
        self.wishes = {storm.square: False, room: False}
        self.who = ""

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.who = welcome["principal"]
        self.storm.welcome += 1

    def toggle(self, room: bytes) -> None:
        if self.state != OPEN:
            return
        storm = self.storm
        join = self.wishes[room] = not self.wishes[room]
        storm.next_id += 1
        storm.asked[storm.next_id] = (monotonic_ns(), room, join)
        self.send(b'{"op":"%s","id":%d,"stream":"%s"}' % (b"sub" if join else b"unsub", storm.next_id, room))

    def on_answer(self, payload: bytes) -> None:
        storm = self.storm
        if payload.startswith(b'{"op":"signal"'):
            storm.signals += 1
        elif payload.startswith(b'{"op":"ok","id":'):
            ident = int(payload[16 : payload.index(b",", 16)])
            at_ns, room, join = storm.asked.pop(ident)
            storm.took.append(monotonic_ns() - at_ns)
            (storm.there[room].add if join else storm.there[room].discard)(self.who)
        elif b'"op":"error"' in payload:
            message = orjson.loads(payload)
            storm.refused[message["code"]] = storm.refused.get(message["code"], 0) + 1
            _, room, join = storm.asked.pop(message.get("id", 0), (0, b"", False))
            if room:
                self.wishes[room] = not join

    def on_gone(self, reason: str) -> None:
        self.storm.ended[reason] = self.storm.ended.get(reason, 0) + 1


class Observer(Raw):
    """Follows all rooms of its node; knows what it was told, and asks."""

    def __init__(self, swarm: Swarm, dialect: Dialect, token: str, storm: Storm) -> None:
        super().__init__(swarm, dialect, dialect.hello(token, {room.decode(): {} for room in storm.there}))
        self.storm = storm
        self.who = ""
        self.told: dict[bytes, dict[str, str]] = {room: {} for room in storm.rooms}
        """What signals said of each small room."""
        self.count = -1
        """What signals said of the large one."""
        self.signals = 0
        self.answers: dict[int, bytes] = {}
        self.wrong_answers = 0

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.who = welcome["principal"]
        self.storm.welcome += 1
        for room in self.storm.there:
            self.storm.there[room].add(self.who)

    def on_answer(self, payload: bytes) -> None:
        message = orjson.loads(payload)
        if message["op"] == "signal":
            self.take(message)
        elif message.get("id") in self.answers:
            room = self.answers.pop(message["id"])
            self.wrong_answers += self.judged(room, message)

    def take(self, message: dict[str, Any]) -> None:
        self.signals += 1
        room = message["stream"].encode()
        if message["kind"] == "presence" and room in self.told:
            self.told[room][message["by"]] = message["value"]
        elif message["kind"] == "online" and room == self.storm.square:
            self.count = message["value"]

    def judged(self, room: bytes, message: dict[str, Any]) -> int:
        """How much an answer has wrong. In the large room only the count is asked for."""
        there = self.storm.there[room]
        if message["op"] != "ok":
            return 1
        if room == self.storm.square:
            return int(message["count"] != len(there))
        return wrong_presence({one["by"]: one["value"] for one in message["online"]}, there)

    def ask_all(self) -> None:
        for room in self.storm.there:
            self.storm.next_id += 1
            self.answers[self.storm.next_id] = room
            self.send(b'{"op":"presence","id":%d,"stream":"%s"}' % (self.storm.next_id, room))

    def wrong_told(self) -> int:
        """How much of what signals said is not the truth; nobody is told of itself."""
        storm = self.storm
        wrong = sum(wrong_presence(told, storm.there[room] - {self.who}) for room, told in self.told.items())
        return wrong + (self.count != len(storm.there[storm.square]))

    def on_gone(self, reason: str) -> None:
        self.storm.ended[reason] = self.storm.ended.get(reason, 0) + 1


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: ports, connections (one a port observes), tokens, square, rooms (names), rate, seed. Go: a window."""
    swarm = Swarm(job["ports"][0])
    ports: list[int] = job["ports"]
    storm = Storm(job)
    tokens: list[str] = job["tokens"]
    observers = [Observer(swarm, dialect_of("plain"), tokens[at], storm) for at in range(len(ports))]
    for observer, port in zip(observers, ports, strict=True):
        observer.port = port
    many = job["connections"] - len(ports)
    at_ports = places(ports, len(storm.rooms), many)
    actors: list[Actor] = []
    for number in range(many):
        room = storm.rooms[number % len(storm.rooms)]
        actors.append(Actor(swarm, dialect_of("plain"), tokens[len(ports) + number], storm, room))
        actors[-1].port = at_ports[number]
    await open_slowly([*observers, *actors], lambda: storm.welcome, link)
    # Half of all begin inside, so that joins and leaves are as many from the start.
    for number, actor in enumerate(actors):
        for room in list(actor.wishes):
            if storm.random.random() < 0.5:
                actor.toggle(room)
        if number % 32 == 31:
            await asyncio.sleep(0.005)
    await until_true(lambda: not storm.asked, ANSWER_LIMIT_S, "the first joins")
    while go := await link.ready():
        if go.get("end"):
            break
        link.result(**await stormy(storm, actors, observers, Window.of(go), job["rate"], link))
    swarm.close()


async def stormy(
    storm: Storm, actors: list[Actor], observers: list[Observer], window: Window, rate: float, link: Link
) -> dict[str, Any]:
    """One storm, and the calm after it until the truth has come everywhere."""
    await until(window.start_ns)
    gap_ns, number = 1e9 / rate, 0
    counting: tuple[int, int, int] | None = None
    while (now := monotonic_ns()) < window.until_ns:
        if counting is None and now >= window.from_ns:
            storm.took.clear()
            counting = now, storm.signals, sum(one.signals for one in observers)
        while (due := window.start_ns + int(number * gap_ns)) <= now:
            storm.late += now - due > 10 * TICK_S * 1e9
            actor = actors[number % len(actors)]
            # Each actor's turns go to its two rooms alternately; neighbours begin with different ones.
            actor.toggle(list(actor.wishes)[(number // len(actors) + number) % 2])
            number += 1
        await asyncio.sleep(TICK_S)
    assert counting is not None, "the window is longer than its warm-up"
    began_ns, signals, observed = counting
    took_s, answered = (monotonic_ns() - began_ns) / 1e9, len(storm.took)
    told = {
        "seconds": took_s,
        "answered": answered,
        "signals": storm.signals - signals,
        "observed": sum(one.signals for one in observers) - observed,
    }
    latency = Histogram()
    latency.record_all(storm.took)
    ended_ns = monotonic_ns()
    deadline = ended_ns + int(ANSWER_LIMIT_S * 1e9)
    while storm.asked and monotonic_ns() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    unanswered = len(storm.asked)
    settled_ns = monotonic_ns()
    told_s, asked_s = await truth(observers, settled_ns, link)
    return {
        **told,
        "latency": latency.to_json(),
        "unanswered": unanswered,
        "late": storm.late,
        "settled_s": (settled_ns - ended_ns) / 1e9,
        "told_s": told_s,
        "asked_s": asked_s,
        "wrong_told": sum(one.wrong_told() for one in observers),
        "wrong_asked": sum(one.wrong_answers for one in observers),
        "square": len(storm.there[storm.square]),
        "refused": storm.refused,
        "ended": storm.ended,
    }


async def truth(observers: list[Observer], since_ns: int, link: Link) -> tuple[float, float]:
    """Seconds until all were told the truth, and until all answers were it; the limit where it does not come."""
    told_s = asked_s = TRUTH_LIMIT_S
    while (at_s := (monotonic_ns() - since_ns) / 1e9) < TRUTH_LIMIT_S:
        wrong = sum(one.wrong_told() for one in observers)
        told_s = TRUTH_LIMIT_S if wrong else min(told_s, at_s)
        for one in observers:
            one.wrong_answers = 0
            one.ask_all()
        deadline = monotonic_ns() + int(ANSWER_LIMIT_S * 1e9)
        while any(one.answers for one in observers) and monotonic_ns() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        missing = sum(len(one.answers) for one in observers)
        asked_wrong = sum(one.wrong_answers for one in observers) + missing
        asked_s = TRUTH_LIMIT_S if asked_wrong else min(asked_s, at_s)
        link.progress(
            0, 0, f"after the storm: {wrong} of what was told and {asked_wrong} of what was asked are not true yet"
        )
        if not wrong and not asked_wrong:
            break
        await asyncio.sleep(LOOK_S)
    return told_s, asked_s
