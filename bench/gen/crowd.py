"""A crowd of clients over several nodes while nodes and Redis fail, drain and come back; every event is audited.

Clients follow rooms and send into them at a common rate, each in its turn. Each behaves as the protocol asks: it obeys
``drain`` and ``retry_after``, returns to a node drawn at random after a pause drawn at random, resumes with its cursors, and
repeats what was not answered under the same key. `bench.gen.audit` judges what they got.

The harness leads with one word at a time (`Words`), and the crowd answers each; the chat goes on meanwhile.

Does not: use Readback's own client. Plain sockets in one epoll set keep this process's share of the cores small.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from bench.gen.audit import Audit, wrong_presence
from bench.gen.chat import places
from bench.gen.dialect import Dialect, Keys, body, dialect_of, sent_at_ns, seq_of
from bench.gen.link import Link, counted_from, monotonic_ns
from bench.gen.raw import GONE, OPEN, Raw, Swarm
from bench.gen.resume import open_slowly, until_true
from bench.stats import Histogram

TICK_S = 0.002
AGAIN_S = (0.1, 0.4)
"""After a refused connection, before the next attempt; drawn anew each time."""
WHOLE_LIMIT_S = 40.0
PRESENCE_LIMIT_S = 5.0
RETRY_AFTER = re.compile(r'retry.after"?: ?"?([0-9.]+)', re.IGNORECASE)
SERIES_NS = 100_000_000


class Phases:
    """Latencies by the stretch of the run in which they ended, with the worst of each client and of each moment.

    What a client gets while it catches up after a return is kept apart: its time away is in it.
    """

    def __init__(self, clients: int) -> None:
        self.began_ns = monotonic_ns()
        self.clients = clients
        self.names: list[str] = []
        self.since_ack: list[list[int]] = []
        self.since_send: list[list[int]] = []
        self.worst: list[list[int]] = []
        self.replayed: list[list[int]] = []
        self.series: dict[int, int] = {}
        self.enter("opening")

    def enter(self, name: str) -> None:
        self.names.append(name)
        self.since_ack.append([])
        self.since_send.append([])
        self.worst.append([0] * self.clients)
        self.replayed.append([])

    def record(self, client: int, now_ns: int, since_ack_ns: int, since_send_ns: int) -> None:
        self.since_ack[-1].append(since_ack_ns)
        self.since_send[-1].append(since_send_ns)
        if since_ack_ns > self.worst[-1][client]:
            self.worst[-1][client] = since_ack_ns
        step = (now_ns - self.began_ns) // SERIES_NS
        if since_ack_ns > self.series.get(step, -1):
            self.series[step] = since_ack_ns

    def told(self) -> dict[str, Any]:
        found = {}
        for at, name in enumerate(self.names):
            acks, sends, worst, replayed = Histogram(), Histogram(), Histogram(), Histogram()
            acks.record_all(self.since_ack[at])
            sends.record_all(self.since_send[at])
            worst.record_all(self.worst[at])
            replayed.record_all(self.replayed[at])
            found[name] = {
                "since_ack": acks.to_json(),
                "since_send": sends.to_json(),
                "worst": worst.to_json(),
                "replayed": replayed.to_json(),
            }
        return found


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


class Words:
    """What the harness may ask for while the chat goes on; each answers with a result."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.sending: asyncio.Task[None] | None = None
        self.phase_began_ns = monotonic_ns()

    async def answer(self, word: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "chat": self.chat,
            "phase": self.phase,
            "away": self.away,
            "back": self.back,
            "presence": self.presence,
            "standing": self.standing,
            "stop": self.stop,
        }
        return await known[word["do"]](word)

    async def chat(self, word: dict[str, Any]) -> dict[str, Any]:
        """Begin to send, ``rate`` a second over the whole crowd."""
        self.sending = asyncio.create_task(paced(self.crowd, word["rate"]))
        return {}

    async def phase(self, word: dict[str, Any]) -> dict[str, Any]:
        """Latencies go under this name from now on."""
        self.crowd.phases.enter(word["name"])
        return {}

    async def away(self, word: dict[str, Any]) -> dict[str, Any]:
        """Every ``every``-th client of a port will not come back once it has lost its connection."""
        here = [client for client in self.crowd.clients if client.port == word["port"]]
        for client in here[:: word["every"]]:
            client.away = True
        return {"clients": len(here), "away": len(here[:: word["every"]])}

    async def back(self, word: dict[str, Any]) -> dict[str, Any]:
        """Those that stayed away return, spread like others."""
        for client in self.crowd.clients:
            if client.away:
                client.away = False
                client.gone_ns = monotonic_ns()
                self.crowd.later(self.crowd.random.uniform(0.0, self.crowd.return_s), client.come_back)
        return {}

    async def standing(self, word: dict[str, Any]) -> dict[str, Any]:
        """Who is connected, and who is still on the way back."""
        clients = self.crowd.clients
        by_port = {
            str(port): sum(one.state == OPEN and one.port == port for one in clients) for port in self.crowd.ports
        }
        missing = sum(one.gone_ns != 0 and not one.away for one in clients)
        return {"open": by_port, "missing": missing}

    async def presence(self, word: dict[str, Any]) -> dict[str, Any]:
        """Ask one member of every room on every node who is there, and compare with who is."""
        rooms: dict[bytes, dict[int, Client]] = {}
        there: dict[bytes, set[str]] = {}
        for client in self.crowd.clients:
            if client.state != OPEN:
                continue
            for room in client.rooms:
                rooms.setdefault(room, {})[client.port] = client
                there.setdefault(room, set()).add(client.who)
        wrong = asked = answered = 0

        def judged(room: bytes, message: dict[str, Any]) -> None:
            nonlocal wrong, answered
            answered += 1
            if message["op"] != "ok":
                wrong += 1
                return
            wrong += wrong_presence({one["by"]: one["value"] for one in message["online"]}, there[room])

        for room, observers in rooms.items():
            for client in observers.values():
                asked += 1
                client.ask(room, lambda message, room=room: judged(room, message))  # type: ignore[misc]
            if asked % 64 < len(observers):
                await asyncio.sleep(0)
        deadline = monotonic_ns() + int(PRESENCE_LIMIT_S * 1e9)
        while answered < asked and monotonic_ns() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return {"wrong": wrong, "asked": asked, "unanswered": asked - answered}

    async def stop(self, word: dict[str, Any]) -> dict[str, Any]:
        """End the chat, wait until everybody is whole, and give the account."""
        crowd = self.crowd
        if self.sending is not None:
            self.sending.cancel()
        audit = crowd.audit
        deadline = monotonic_ns() + int(WHOLE_LIMIT_S * 1e9)
        while monotonic_ns() < deadline:
            if all(one.whole() for one in crowd.clients) and not audit.behind(one.cursors for one in crowd.clients):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(word["linger_s"])  # would anything come twice?
        return account(crowd)


def account(crowd: Crowd) -> dict[str, Any]:
    """Everything counted, and every latency."""
    audit, clients = crowd.audit, crowd.clients
    behind = audit.behind(one.cursors for one in clients)
    return {
        "sends": crowd.sends,
        "answered": crowd.answered,
        "unanswered": sum(len(one.pending) for one in clients),
        "late": crowd.late,
        "repeats": crowd.repeats,
        "delivered": audit.delivered,
        "lost": audit.skipped + behind,
        "gaps": audit.skipped,
        "duplicates": audit.duplicates,
        "conflicts": audit.conflicts + audit.doubled(),
        "not_whole": sum(not one.whole() for one in clients),
        "resets": crowd.resets,
        "resumes": crowd.resumes,
        "rejected": crowd.rejected,
        "refused": crowd.refused,
        "ended": dict(sorted(crowd.lost.items(), key=lambda item: -item[1])[:8]),
        "slots": {str(port): moments for port, moments in crowd.slots.items()},
        "begun": {str(port): moments for port, moments in crowd.begun.items()},
        "returns": crowd.returns,
        "phases": crowd.phases.told(),
        "began_ns": crowd.phases.began_ns,
        "series": sorted(crowd.phases.series.items()),
    }


async def paced(crowd: Crowd, rate: float) -> None:
    """Everything that is due at every tick, until cancelled."""
    gap_ns = 1e9 / rate
    began, number = monotonic_ns(), 0
    while True:
        now = monotonic_ns()
        while (due := began + int(number * gap_ns)) <= now:
            number += 1
            crowd.late += now - due > 10 * TICK_S * 1e9
            crowd.send_next(counted_from(due))
        await asyncio.sleep(TICK_S)


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: ports, connections, tokens, rooms (names), each (rooms a client), payload, return_s, seed.

    A go is a word (`Words`); ``end`` ends it.
    """
    swarm = Swarm(job["ports"][0])
    crowd = Crowd(job, swarm)
    names: list[str] = job["rooms"]
    each: int = job["each"]
    at_ports = places(crowd.ports, len(names), job["connections"])
    for number in range(job["connections"]):
        rooms = [names[(number + k * (1 + number // len(names))) % len(names)] for k in range(each)]
        crowd.clients.append(
            Client(crowd, dialect_of("plain"), number, job["tokens"][number], list(dict.fromkeys(rooms)))
        )
        crowd.clients[-1].port = at_ports[number]
    await open_slowly(crowd.clients, crowd.welcomed, link)
    await until_true(lambda: all(one.state == OPEN for one in crowd.clients), 10.0, "opening the crowd")
    words = Words(crowd)
    while (word := await link.ready())["do"] != "end":
        link.result(**await words.answer(word))
        crowd.welcomed()
    swarm.close()
