"""Jitter: one publisher, N subscribers whose TCP connections are killed every so often, every seq accounted for.

The scenario that AnyCable published: 120 messages at 2 a second; each client's connection is killed about every 15 s
(here: after 7.5 to 22.5 s, even spread, by turns with a TCP reset and an ordinary end); it stays away for 2 s, then
comes back and resumes with its cursor. After the last message every client is given time to come back and catch up.

Each client keeps a count for every seq: what it never got is lost, what it got twice is a duplicate, what came after a
higher seq is out of order. Delivery latency counts from the send, the time away included; replay latency from the
moment of reconnecting to holding everything up to the head that the welcome named.

With several ``ports`` every return is to one drawn at random among the others.

A server that cannot resume (``resume`` false) is simply joined again, as its users would; Socket.IO's own recovery is
used where its server offers it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bench.gen.dialect import Dialect, Keys, SocketIO, body, dialect_of, sent_at_ns, seq_of
from bench.gen.link import Link, counted_from, monotonic_ns, until
from bench.gen.raw import OPEN, Raw, Swarm
from bench.gen.recorded import Recorded, Tape
from bench.gen.resume import Publisher, open_slowly, until_true
from bench.stats import Histogram
from proof.history import Fault, Heal

CATCH_UP_LIMIT_S = 30.0
RETRY_S = 0.5
LINGER_S = 1.0


class Ledger:
    """What all clients share: the plan, the samples, who is whole."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.stream: str = job["stream"]
        self.messages: int = job["messages"]
        self.cut_every_s: float = job["cut_every_s"]
        self.away_s: float = job["away_s"]
        self.resume: bool = job["resume"]
        self.random = random.Random(job["seed"])
        self.ports: list[int] = job.get("ports", [])
        self.base = 0
        """The stream's head before the first message: seq base + 1 is message 1."""
        self.cutting = False
        self.cuts = 0
        self.deliveries: list[int] = []
        self.replays: list[int] = []
        self.reconnects: list[int] = []
        self.replayed = 0
        self.refused: dict[str, int] = {}
        self.resets = 0
        self.welcome = 0


class Client(Raw):
    def __init__(self, swarm: Swarm, dialect: Dialect, token: str, ledger: Ledger) -> None:
        super().__init__(swarm, dialect, dialect.hello(token or None, {ledger.stream: {}}))
        self.token = token
        self.ledger = ledger
        self.got = bytearray(ledger.messages + 1)
        """How often each message arrived; index 0 is unused."""
        self.cursor = 0
        self.highest = 0
        self.out_of_order = 0
        self.log = ""
        self.resume_token = ""
        self.head = -1
        """The head that the present connection's welcome named, while it is not reached; -1 otherwise."""
        self.returning = False
        self.resets_next = False

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        ledger = self.ledger
        self.log, self.resume_token = welcome.get("log", ""), welcome.get("resume", "")
        place = welcome["streams"][ledger.stream]
        if "error" in place:
            raise RuntimeError(f"the stream was refused: {place}")
        if self.returning:
            ledger.reconnects.append(monotonic_ns() - self.began_ns)
            if not ledger.resume:
                self.cursor = max(self.cursor, place["after"])
            self.head = place["head"]
            self._caught_up()
        else:
            ledger.welcome += 1
            self.cursor = place["after"]
        if ledger.cutting:
            self.plan_cut(0.5, 1.5)

    def plan_cut(self, least: float, most: float) -> None:
        """Kill this connection after a while, between these multiples of the mean."""
        wait = self.ledger.cut_every_s * self.ledger.random.uniform(least, most)
        asyncio.get_running_loop().call_later(wait, self.kill, self.began_ns)

    def kill(self, began_ns: int) -> None:
        if not self.ledger.cutting or self.state != OPEN or self.began_ns != began_ns:
            return
        self.resets_next = not self.resets_next
        self.cut(reset=self.resets_next)
        self.ledger.cuts += 1
        self.head = -1
        asyncio.get_running_loop().call_later(self.ledger.away_s, self.come_back)

    def elsewhere(self) -> None:
        """The next connection goes to another node, where there is one."""
        others = [port for port in self.ledger.ports if port != self.port]
        if others:
            self.port = self.ledger.random.choice(others)

    def come_back(self) -> None:
        self.returning = True
        self.elsewhere()
        if self.ledger.resume:
            self.first_frame = self.dialect.resume(self.resume_token, self.log, {self.ledger.stream: self.cursor})
        self.connect()

    def on_event(self, payload: bytes) -> None:
        ledger = self.ledger
        seq = seq_of(payload)
        message = seq - ledger.base
        if not 1 <= message <= ledger.messages:
            return
        if self.got[message] < 255:
            self.got[message] += 1
        if seq < self.highest:
            self.out_of_order += 1
        self.highest = max(self.highest, seq)
        if self.got[message] == 1:
            ledger.deliveries.append(monotonic_ns() - sent_at_ns(payload))
            ledger.replayed += seq <= self.head or self.state != OPEN  # Socket.IO replays before its welcome
        self.cursor = max(self.cursor, seq)
        if isinstance(self.dialect, SocketIO) and self._recovers():
            self.dialect.recover["offset"] = payload[payload.rindex(b',"') + 2 : -2].decode()
        if self.head >= 0:
            self._caught_up()

    def _caught_up(self) -> None:
        if self.cursor >= self.head >= 0:
            if self.ledger.resume or self._recovers():
                self.ledger.replays.append(monotonic_ns() - self.began_ns)
            self.head = -1

    def _recovers(self) -> bool:
        """Whether the server keeps a session of its own kind for this client to recover."""
        return isinstance(self.dialect, SocketIO) and "pid" in self.dialect.recover

    def on_answer(self, payload: bytes) -> None:
        if b'"op":"reset"' in payload:
            self.ledger.resets += 1

    def on_gone(self, reason: str) -> None:
        """The server refused or ended it: say why in the result, then come back with a hello at the cursor."""
        self.ledger.refused[reason] = self.ledger.refused.get(reason, 0) + 1
        self.head = -1
        self.returning = True
        if self.ledger.resume:
            streams = {self.ledger.stream: {"after": self.cursor}}
            self.first_frame = self.dialect.hello(self.token or None, streams)
        self.elsewhere()
        asyncio.get_running_loop().call_later(RETRY_S, self.connect)

    def whole(self) -> bool:
        return self.state == OPEN and self.head < 0 and self.cursor >= self.ledger.base + self.ledger.messages


class RecordedClient(Recorded, Client):
    """Writes down what it sees."""

    def kill(self, began_ns: int) -> None:
        """Its owner does not want this end, so it is the network's."""
        if self.ledger.cutting and self.state == OPEN and self.began_ns == began_ns and self.watched is not None:
            self.watched.ended("network", reason="cut")
        super().kill(began_ns)


class RecordedPublisher(Recorded, Publisher):
    """Likewise."""


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, ports, dialect, connections, tokens, stream, messages, rate, cut_every_s, away_s, payload, resume, seed;
    history, where all that the clients see is written down (`bench.gen.recorded`)."""
    swarm = Swarm(job["port"])
    ledger = Ledger(job)
    tape = Tape(job["history"]) if job.get("history") else None
    tokens: list[str] = job["tokens"] or [""]
    clients: list[Client] = []
    for number in range(job["connections"]):
        token = tokens[number % len(tokens)]
        if tape is None:
            clients.append(Client(swarm, dialect_of(job["dialect"]), token, ledger))
        else:
            watched = RecordedClient(swarm, dialect_of(job["dialect"]), token, ledger)
            watched.record(tape, f"c{number}", token)
            clients.append(watched)
    for number, client in enumerate(clients):
        client.port = ledger.ports[number % len(ledger.ports)] if ledger.ports else swarm.port
    await open_slowly(clients, lambda: ledger.welcome, link)
    dialect = dialect_of(job["dialect"])
    opening = dialect.hello(job["spare_token"] or None, {}, publish=True)
    if tape is None:
        publisher = Publisher(swarm, dialect, opening)
    else:
        publisher = seen = RecordedPublisher(swarm, dialect, opening)
        seen.record(tape, "publisher", job["spare_token"])
    publisher.connect()
    await until_true(lambda: publisher.state == OPEN, 10.0, "opening the publisher")
    await link.ready()
    ledger.base = clients[0].cursor
    began = monotonic_ns()
    ledger.cutting = True
    if tape is not None:
        tape.write(Fault(tape.now(), "connections are cut"))
    for client in clients:
        client.plan_cut(0.0, 1.0)  # the first cuts are spread over the first period, as if it had gone on for long
    keys = Keys()
    for message in range(job["messages"]):
        due = began + int(message * 1e9 / job["rate"])
        await until(due)
        at = body(counted_from(due), job["payload"])
        publisher.send(publisher.dialect.send(message + 1, ledger.stream.encode(), keys(), at))
        link.progress(message, job["messages"], "publishing while connections are cut")
    await until_true(lambda: publisher.acks >= job["messages"] or bool(publisher.refused), 30.0, "the last answer")
    if publisher.refused:
        raise RuntimeError(f"a send was refused: {publisher.refused}")
    ledger.cutting = False
    healed = None if tape is None else asyncio.create_task(heal(tape, job["away_s"]))
    deadline = monotonic_ns() + int((job["away_s"] + CATCH_UP_LIMIT_S) * 1e9)
    settled = monotonic_ns() + int((job["away_s"] + 2.0) * 1e9)
    while monotonic_ns() < deadline:
        if all(client.whole() for client in clients):
            break
        if not ledger.resume and monotonic_ns() > settled:
            break  # what is lost there stays lost
        await asyncio.sleep(0.02)
    took = monotonic_ns() - began
    if tape is not None and healed is not None:
        await healed
        await write_end(tape, clients)
    link.result(took_ns=took, **account(clients, ledger))
    swarm.close()


async def heal(tape: Tape, away_s: float) -> None:
    """The last of those who were cut may come back."""
    await asyncio.sleep(away_s)
    tape.write(Heal(tape.now()))


async def write_end(tape: Tape, clients: list[Client]) -> None:
    """Where everybody stands, after a while in which something could have come twice."""
    await asyncio.sleep(LINGER_S)
    for client in clients:
        assert isinstance(client, Recorded)
        client.stand({client.ledger.stream: client.cursor})
    tape.close()


def account(clients: list[Client], ledger: Ledger) -> dict[str, Any]:
    """Every message at every client, counted."""
    deliveries, replays, reconnects = Histogram(), Histogram(), Histogram()
    deliveries.record_all(ledger.deliveries)
    replays.record_all(ledger.replays)
    reconnects.record_all(ledger.reconnects)
    return {
        "expected": ledger.messages * len(clients),
        "delivered": sum(sum(1 for times in client.got if times) for client in clients),
        "duplicates": sum(sum(times - 1 for times in client.got if times) for client in clients),
        "out_of_order": sum(client.out_of_order for client in clients),
        "not_whole": sum(not client.whole() for client in clients),
        "cuts": ledger.cuts,
        "replayed": ledger.replayed,
        "resets": ledger.resets,
        "refusals": sum(ledger.refused.values()),
        "refused": "; ".join(f"{reason} ({many})" for reason, many in sorted(ledger.refused.items())[:5]),
        "deliveries": deliveries.to_json(),
        "replays": replays.to_json(),
        "reconnects": reconnects.to_json(),
    }
