"""A crowd of clients over several nodes while nodes and Redis fail, drain and come back; every event is audited.

Clients follow rooms and send into them at a common rate, each in its turn. Each behaves as the protocol asks: it obeys
``drain`` and ``retry_after``, returns to a node drawn at random after a pause drawn at random, resumes with its cursors, and
repeats what was not answered under the same key. `bench.gen.audit` judges what they got.

The harness leads with one word at a time (`bench.gen.words`), and the crowd answers each; the chat goes on meanwhile.

Does not: use Readback's own client. Plain sockets in one epoll set keep this process's share of the cores small.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import orjson

from bench.gen.audit import Audit
from bench.gen.chat import places
from bench.gen.dialect import Dialect, Keys, body, dialect_of, sent_at_ns, seq_of
from bench.gen.link import Link, monotonic_ns
from bench.gen.phases import Phases
from bench.gen.raw import GONE, OPEN, Raw, Swarm
from bench.gen.recorded import Recorded, Tape
from bench.gen.resume import open_slowly, until_true
from bench.gen.words import Words

AGAIN_S = (0.1, 0.4)
"""After a refused connection, before the next attempt; drawn anew each time."""
RETRY_AFTER = re.compile(r'retry.after"?: ?"?([0-9.]+)', re.IGNORECASE)


class Crowd:
    """What all clients share."""

    def __init__(self, job: dict[str, Any], swarm: Swarm) -> None:
        self.swarm = swarm
        self.ports: list[int] = job["ports"]
        self.payload: int = job["payload"]
        self.return_s: float = job["return_s"]
        self.random = random.Random(job["seed"])
        self.audit = Audit()
        self.keys = Keys()
        self.phases = Phases(job["connections"])
        self.clients: list[Client] = []
        self.welcome = 0
        self.next_id = 0
        self.turn = 0
        self.sends = self.answered = self.late = self.repeats = 0
        self.refused: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        """Why connections ended that were not this crowd's to end."""
        self.resets = self.rejected = self.resumes = 0
        self.failed = ""
        """Why the run cannot go on, where something is wrong with its making."""
        self.slots: dict[int, list[int]] = {}
        """By port: the moments that its clients were given when it drained."""
        self.begun: dict[int, list[int]] = {}
        """By the port that they left: when clients began their next connections."""
        self.returns: list[tuple[int, int, int]] = []
        """(port left, when, when whole again)"""
        self.tape: Tape | None = None
        """Where clients write what they see, if anywhere."""

    def welcomed(self) -> int:
        """How many came in so far; raises where the run is past saving."""
        if self.failed:
            raise RuntimeError(self.failed)
        return self.welcome

    def later(self, pause_s: float, call: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(pause_s, call, *arguments)

    def elsewhere(self, port: int) -> int:
        others = [one for one in self.ports if one != port]
        return self.random.choice(others) if others else port

    def send_next(self, counted_ns: int) -> None:
        client = self.clients[self.turn]
        self.turn = (self.turn + 1) % len(self.clients)
        if client.away:
            return
        self.sends += 1
        self.next_id += 1
        client.say(self.next_id, self.keys(), body(counted_ns, self.payload))


class Client(Raw):
    def __init__(self, crowd: Crowd, dialect: Dialect, number: int, token: str, rooms: list[str]) -> None:
        super().__init__(crowd.swarm, dialect, b"")
        self.crowd = crowd
        self.number = number
        self.who = ""
        self.token = token
        self.cursors: dict[bytes, int] = {}
        self.rooms = [name.encode() for name in rooms]
        self.first_frame = self.hello()
        self.owed: dict[bytes, int] = {}
        """Heads of the last welcome that are not reached yet."""
        self.pending: dict[int, tuple[bytes, bytes, bytes]] = {}
        """Sends not answered: stream, key and body by id."""
        self.asked: dict[int, Callable[[dict[str, Any]], None]] = {}
        self.log = ""
        self.resume_token = ""
        self.gone_ns = 0
        """When it lost its last connection; 0 while it has one and is whole."""
        self.left = 0
        """The port of its last connection."""
        self.tries = 0
        self.away = False
        """Told by the harness not to come back until it says so."""
        self.wait_s: float | None = None
        """What the server asked for when it ended the connection."""

    def hello(self) -> bytes:
        """From the cursors where there are any, from the heads else."""
        places = {room.decode(): {"after": self.cursors[room]} if room in self.cursors else {} for room in self.rooms}
        return self.dialect.hello(self.token, places)

    # Sending

    def say(self, ident: int, key: bytes, text: bytes) -> None:
        stream = self.rooms[ident % len(self.rooms)]
        self.pending[ident] = (stream, key, text)
        if self.state == OPEN:
            self.send(self.dialect.send(ident, stream, key, text))

    def repeat(self, ident: int) -> None:
        entry = self.pending.get(ident)
        if entry is not None and self.state == OPEN:
            self.crowd.repeats += 1
            self.send(self.dialect.send(ident, *entry))

    def ask(self, stream: bytes, answered: Callable[[dict[str, Any]], None]) -> None:
        self.crowd.next_id += 1
        ident = self.crowd.next_id
        self.asked[ident] = answered
        self.send(b'{"op":"presence","id":%d,"stream":"%s"}' % (ident, stream))

    # Receiving

    def on_event(self, payload: bytes) -> None:
        at = payload.index(b'"stream":"') + 10
        stream = payload[at : payload.index(b'"', at)]
        seq = seq_of(payload)
        key_at = payload.index(b'"key":"') + 7
        crowd = self.crowd
        if not crowd.audit.took(self.cursors, stream, seq, payload[key_at : payload.index(b'"', key_at)]):
            return
        now = monotonic_ns()
        sent = sent_at_ns(payload)
        since_ack = crowd.audit.since_acknowledged(stream, seq, now)
        if self.gone_ns:
            crowd.phases.replayed[-1].append(since_ack)
        elif sent >= 0:
            crowd.phases.record(self.number, now, since_ack, max(0, now - sent))
        if self.owed and seq >= self.owed.get(stream, seq + 1):
            del self.owed[stream]
            self._caught_up()

    def on_answer(self, payload: bytes) -> None:
        if payload.startswith(b'{"op":"ok","id":'):
            ident = int(payload[16 : payload.index(b",", 16)])
            if ident in self.asked:
                self.asked.pop(ident)(orjson.loads(payload))
                return
            entry = self.pending.pop(ident, None)
            if entry is not None:
                self.crowd.answered += 1
                self.crowd.audit.acknowledged(entry[0], seq_of(payload), entry[1], monotonic_ns())
        elif payload.startswith((b'{"op":"signal"', b'{"op":"mark')):
            return
        else:
            self.on_word(orjson.loads(payload))

    def on_word(self, message: dict[str, Any]) -> None:
        """What comes seldom."""
        crowd = self.crowd
        match message["op"]:
            case "drain":
                crowd.slots.setdefault(self.port, []).append(monotonic_ns() + message["after_ms"] * 1_000_000)
                self.resume_token = message["resume"]
                crowd.later(message["after_ms"] / 1000, self.leave, self.began_ns)
            case "bye":
                self.wait_s = message.get("retry_after")
            case "reset":
                crowd.resets += 1
            case "error":
                code = message["code"]
                crowd.refused[code] = crowd.refused.get(code, 0) + 1
                ident = message.get("id", 0)
                if code in ("unavailable", "overloaded", "rate_limited") and ident in self.pending:
                    wait_s = (message.get("retry_after") or 0.2) * crowd.random.uniform(1.0, 1.5)
                    crowd.later(wait_s, self.repeat, ident)
                elif ident in self.asked:
                    self.asked.pop(ident)(message)

    # Leaving and coming back

    def leave(self, began_ns: int) -> None:
        """Its slot has come: end this connection, begin another elsewhere."""
        if self.state != OPEN or self.began_ns != began_ns:
            return
        self.cut(reset=False)
        if not self.gone_ns:
            self.gone_ns, self.left = monotonic_ns(), self.port
        self.come_back()

    def come_back(self) -> None:
        if self.state != GONE or self.away:
            return
        crowd = self.crowd
        self.port = crowd.elsewhere(self.port)
        self.wait_s = None
        self.asked.clear()
        if self.resume_token:
            cursors = {room.decode(): at for room, at in self.cursors.items()}
            self.first_frame = self.dialect.resume(self.resume_token, self.log, cursors)
        else:
            self.first_frame = self.hello()
        crowd.begun.setdefault(self.left, []).append(monotonic_ns())
        self.connect()

    def on_gone(self, reason: str) -> None:
        crowd = self.crowd
        crowd.lost[reason] = crowd.lost.get(reason, 0) + 1
        if not self.gone_ns:
            self.gone_ns, self.left = monotonic_ns(), self.port
        if "resume_rejected" in reason:
            crowd.rejected += 1
            self.resume_token = ""
        found = RETRY_AFTER.search(reason)
        asked = float(found[1]) if found else self.wait_s
        if asked is not None:
            pause_s = asked * crowd.random.uniform(1.0, 1.5)
        elif self.tries == 0:
            pause_s = crowd.random.uniform(0.0, crowd.return_s)
        else:
            pause_s = crowd.random.uniform(*AGAIN_S)
        self.tries += 1
        crowd.later(pause_s, self.come_back)

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        crowd = self.crowd
        self.who = welcome["principal"]
        self.log, self.resume_token = welcome["log"], welcome["resume"]
        self.tries = 0
        crowd.resumes += bool(welcome.get("resumed"))
        first = not self.cursors
        self.owed.clear()
        for name, place in welcome["streams"].items():
            if "error" in place:
                crowd.failed = f"a stream was refused: {name}: {place['error']}"
                continue
            stream = name.encode()
            if first:
                self.cursors[stream] = place["after"]
            elif place["head"] > self.cursors[stream]:
                self.owed[stream] = place["head"]
        if first:
            crowd.welcome += 1
            self.gone_ns = 0
            return
        for ident in list(self.pending):
            self.repeat(ident)
        self._caught_up()

    def _caught_up(self) -> None:
        if not self.owed and self.gone_ns:
            self.crowd.returns.append((self.left, self.gone_ns, monotonic_ns()))
            self.gone_ns = 0

    def whole(self) -> bool:
        return self.state == OPEN and not self.owed and not self.pending


class RecordedClient(Recorded, Client):
    """Writes down what it sees."""


def recorded(crowd: Crowd, number: int, token: str, rooms: list[str]) -> Client:
    assert crowd.tape is not None
    client = RecordedClient(crowd, dialect_of("plain"), number, token, rooms)
    client.record(crowd.tape, f"c{number}", token)
    return client


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: ports, connections, tokens, rooms (names), each (rooms a client), payload, return_s, seed; history, where all
    that the clients see is written down (`bench.gen.recorded`).

    A go is a word (`bench.gen.words`); ``end`` ends it.
    """
    swarm = Swarm(job["ports"][0])
    crowd = Crowd(job, swarm)
    if job.get("history"):
        crowd.tape = Tape(job["history"])
    names: list[str] = job["rooms"]
    each: int = job["each"]
    at_ports = places(crowd.ports, len(names), job["connections"])
    for number in range(job["connections"]):
        rooms = [names[(number + k * (1 + number // len(names))) % len(names)] for k in range(each)]
        rooms = list(dict.fromkeys(rooms))
        token: str = job["tokens"][number]
        if crowd.tape is None:
            client = Client(crowd, dialect_of("plain"), number, token, rooms)
        else:
            client = recorded(crowd, number, token, rooms)
        client.port = at_ports[number]
        crowd.clients.append(client)
    await open_slowly(crowd.clients, crowd.welcomed, link)
    await until_true(lambda: all(one.state == OPEN for one in crowd.clients), 10.0, "opening the crowd")
    words = Words(crowd)
    while (word := await link.ready())["do"] != "end":
        link.result(**await words.answer(word))
        crowd.welcomed()
    swarm.close()
