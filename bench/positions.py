"""What a fix costs: ``python -m bench.positions [--seconds S] [--watchers] [--pin]``.

A node on a Postgres of its own; devices with keys send signed messages, each connection several at a time (a closed loop: the
most that the node takes). Once with ten fixes a message, once with one. Fixes taken a second, CPU of the node and of Postgres a
fix, and how long answers took; every answer means that its samples are committed. Messages are signed before the clock starts.
``--pin`` gives the node a core of its own, and everything else the other.

``--watchers``: a thousand devices move, each in a trip of its own, watched by twenty of a thousand connections that follow
twenty trips each, while people chat in rooms, from a process of its own. In turns with and without the movement: how long a
send took to be answered and to be delivered. The promise is that movement adds less than a tenth to chat's p99.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from bench import proc
from bench.gen.dialect import Dialect, Keys
from bench.gen.raw import OPEN, Raw, Swarm
from bench.load import LoadError
from bench.node import TENANT, Cluster, Tokens, readback_cluster
from bench.stats import Histogram
from core.directory import Note
from core.jws import b64url
from core.keys import SigningKey
from core.pings import read_fixes, signed_form
from core.wire import at_bytes
from store.postgres import open_postgres_log

STEP_M: Final = 14.0
"""What a device moves in a second, by its fixes' times."""
BACKLOG_S: Final = 3_600
"""So long ago its road begins, so that no fix is of the future."""
OPEN_S: Final = 30.0
WARM_S: Final = 1.0
SUBJECTS: Final = 1_000
WATCHERS: Final = 1_000
TRIPS_EACH: Final = 20
EVERY_S: Final = 2.0
"""Between two fixes of a device that is watched: what the node tells a car."""
ROOMS: Final = 25
PEOPLE: Final = 8
SENDS_PER_S: Final = 200.0


# -- devices ------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Device:
    number: int
    key: SigningKey
    seq: int = 0

    @property
    def name(self) -> str:
        return f"device:truck-{self.number:05}"

    @property
    def trip(self) -> str:
        return f"trip:{self.number}"

    def message(self, id: int, times_ms: Sequence[int]) -> bytes:
        """Signed fixes of these times on its road."""
        fixes = []
        for at_ms in times_ms:
            self.seq += 1
            east_m = STEP_M * (at_ms % 86_400_000) / 1000
            fixes.append(
                {
                    "seq": self.seq,
                    "at": at_bytes(at_ms).decode(),
                    "lat": round(-33.0 - self.number / 1000, 7),
                    "lon": round(145.0 + east_m / 93_000, 7),
                    "acc": 5,
                    "speed": STEP_M,
                    "heading": 90,
                }
            )
        read = read_fixes(fixes)
        assert not isinstance(read, str), read
        signature = b64url(self.key.sign(signed_form(TENANT, self.name, self.trip, read)))
        return orjson.dumps({"op": "position", "id": id, "stream": self.trip, "fixes": fixes, "sig": signature})


def devices(first: int, count: int) -> list[Device]:
    return [
        Device(number, SigningKey("device", hashlib.sha256(b"device %d" % number).digest()))
        for number in range(first, first + count)
    ]


async def _prepare(url: str, fleet: Sequence[Device], rooms: int) -> None:
    """Their streams, and their keys in the directory."""
    note = Note("service:bench", b"{}")
    async with open_postgres_log(url) as log:
        for device in fleet:
            await log.create_stream(TENANT, device.trip, open=True, members=[], by="service:bench")
            claim, refresh = (
                hashlib.sha256(f"{what} {device.number}".encode()).digest() for what in ("claim", "refresh")
            )
            await log.directory.mint_claim(TENANT, device.name, claim, at_ms=1, expires_ms=2, note=note)
            await log.directory.redeem_claim(
                claim,
                key=device.key.thumbprint,
                public_key=device.key.public_bytes,
                refresh_hash=refresh,
                at_ms=1,
                refresh_until_ms=2,
                note=note,
            )
        for room in range(rooms):
            await log.create_stream(TENANT, f"chat:r{room}", open=True, members=[], by="service:bench")


# -- connections --------------------------------------------------------------------------------------------------------------


class Sender(Raw):
    """A device's connection. In a closed loop the next message leaves when one is answered."""

    def __init__(self, swarm: Swarm, device: Device, token: str, record: Record) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {}))
        self.device = device
        self.record = record
        self.waiting: deque[bytes] = deque()
        self.sent: dict[int, int] = {}
        self.next_id = 1

    def prepare(self, messages: int, fixes: int) -> None:
        begin_ms = 1000 * (int(time.time()) - BACKLOG_S)
        for number in range(messages):
            first = begin_ms + 1000 * fixes * number
            times = range(first, first + 1000 * fixes, 1000)
            self.next_id += 1
            self.waiting.append(self.device.message(self.next_id, times))

    def go(self, depth: int) -> None:
        for _ in range(depth):
            self._next()

    def _next(self) -> None:
        if not self.waiting or not self.record.running:
            return
        message = self.waiting.popleft()
        at = message.index(b'"id":') + 5
        self.sent[int(message[at : message.index(b",", at)])] = time.monotonic_ns()
        self.send(message)

    def say(self, at_ms: int) -> None:
        """One fix of now, whatever is under way."""
        self.next_id += 1
        self.sent[self.next_id] = time.monotonic_ns()
        self.send(self.device.message(self.next_id, (at_ms,)))

    def on_answer(self, payload: bytes) -> None:
        answer = orjson.loads(payload)
        began = self.sent.pop(answer.get("id"), None)
        if began is not None:
            self.record.answered(answer, time.monotonic_ns() - began)
            if self.waiting:
                self._next()

    def on_gone(self, reason: str) -> None:
        self.record.gone.append(reason)


@dataclass(slots=True)
class Record:
    running: bool = False
    measured: bool = False
    took_ns: list[int] = field(default_factory=list)
    fixes: int = 0
    accepted: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    gone: list[str] = field(default_factory=list)

    def answered(self, answer: dict[str, Any], took_ns: int) -> None:
        if answer["op"] == "error":
            self.errors[answer["code"]] += 1
            return
        if not self.measured:
            return
        self.took_ns.append(took_ns)
        self.fixes += len(answer["verdicts"])
        self.accepted += answer["accepted"]
        if answer["accepted"] != len(answer["verdicts"]):
            self.verdicts.update(f"{each['verdict']} {each.get('reason', '')}" for each in answer["verdicts"])


class Watcher(Raw):
    """Follows trips, and counts what it is told."""

    def __init__(self, swarm: Swarm, token: str, streams: Sequence[str]) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {name: {} for name in streams}))
        self.positions = 0
        self.gone = ""

    def on_answer(self, payload: bytes) -> None:
        self.positions += payload.count(b'"kind":"position"')

    def on_gone(self, reason: str) -> None:
        self.gone = reason


class Person(Raw):
    """In a room of the chat."""

    def __init__(self, swarm: Swarm, token: str, room: str, chat: Chat) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {room: {}}))
        self.room = room.encode()
        self.chat = chat
        self.sent: dict[int, int] = {}
        self.next_id = 1

    def say(self, due_ns: int) -> None:
        self.next_id += 1
        self.sent[self.next_id] = due_ns
        self.send(self.dialect.send(self.next_id, self.room, self.chat.keys(), b'{"t":%d}' % due_ns))

    def on_event(self, payload: bytes) -> None:
        at = payload.index(b'"t":') + 4
        self.chat.delivered.append(time.monotonic_ns() - int(payload[at : payload.index(b"}", at)]))

    def on_answer(self, payload: bytes) -> None:
        answer = orjson.loads(payload)
        began = self.sent.pop(answer.get("id"), None)
        if began is not None:
            self.chat.answered.append(time.monotonic_ns() - began)


class Chat:
    def __init__(self) -> None:
        self.keys = Keys()
        self.people: list[Person] = []
        self.answered: list[int] = []
        self.delivered: list[int] = []

    async def run(self, seconds: float, rate: float) -> None:
        """Sends at the moments they are due, whatever the node does."""
        began = time.monotonic_ns()
        for number in range(int(seconds * rate)):
            due = began + int(1e9 * number / rate)
            wait_s = (due - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self.people[number % len(self.people)].say(due)


async def opened(raws: Sequence[Raw]) -> None:
    for at, raw in enumerate(raws):
        raw.connect()
        if not at % 50:
            await asyncio.sleep(0.01)
    deadline = time.monotonic() + OPEN_S
    while not all(raw.state == OPEN for raw in raws):
        if time.monotonic() > deadline:
            raise LoadError(f"{sum(raw.state != OPEN for raw in raws)} of {len(raws)} connections did not open")
        await asyncio.sleep(0.02)


# -- what is measured ---------------------------------------------------------------------------------------------------------


def quantiles(took_ns: Sequence[int]) -> str:
    histogram = Histogram()
    histogram.record_all(took_ns)
    return "  ".join(f"p{q:g} {histogram.quantile(q / 100) / 1e6:6.1f} ms" for q in (50, 99))


async def throughput(
    cluster: Cluster, fleet: Sequence[Device], tokens: Tokens, fixes: int, depth: int, seconds: float, rate_max: float
) -> None:
    record, swarm = Record(), Swarm(cluster.port)
    senders = [Sender(swarm, device, tokens.mint(device.name), record) for device in fleet]
    messages = int(rate_max * (seconds + WARM_S + 1) / fixes / len(senders)) + depth
    for sender in senders:
        sender.prepare(messages, fixes)
    await opened(senders)
    print(f"{fixes:3} fixes a message: {messages} messages of each signed", file=sys.stderr, flush=True)
    record.running = True
    for sender in senders:
        sender.go(depth)
    await asyncio.sleep(WARM_S)
    record.measured, used, began = True, cluster.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    record.measured, took_s = False, time.monotonic() - began
    now = cluster.cpu_s()
    left = min(len(sender.waiting) for sender in senders)
    record.running = False
    await asyncio.sleep(0.5)
    swarm.close()
    node_s, postgres_s = (now[group] - used[group] for group in ("nodes", "postgres"))
    print(
        f"{fixes:3} fixes a message, {len(senders)} connections x {depth}:  {record.accepted / took_s:8.0f} fixes/s accepted  "
        f"node {1e6 * node_s / max(record.fixes, 1):5.1f} us/fix ({node_s / took_s:.0%} of a core: "
        f"{record.accepted / max(node_s, 1e-9):.0f} a core)  postgres {1e6 * postgres_s / max(record.fixes, 1):5.1f} us/fix  "
        f"answers {quantiles(record.took_ns)}",
        flush=True,
    )
    if record.verdicts or record.errors or record.gone:
        print(f"    not all accepted: {dict(record.verdicts)} {dict(record.errors)} {record.gone[:3]}")
    if not left:
        print("    the messages ran out before the time was over: the figures are too low")


async def talking(port: int, tokens: Tokens, link: Connection) -> None:
    """The chat, in a process of its own, so that what it measures is the node and not what watchers take of this one. For each
    number of seconds told, how long sends took to be answered and delivered; ``None`` ends it."""
    swarm, chat = Swarm(port), Chat()
    chat.people = [
        Person(swarm, tokens.mint(f"user:p{number}"), f"chat:r{number % ROOMS}", chat)
        for number in range(ROOMS * PEOPLE)
    ]
    await opened(chat.people)
    await chat.run(WARM_S, SENDS_PER_S)
    link.send(None)
    while (seconds := await asyncio.to_thread(link.recv)) is not None:
        chat.answered.clear()
        chat.delivered.clear()
        await chat.run(seconds, SENDS_PER_S)
        await asyncio.sleep(0.3)
        link.send((list(chat.answered), list(chat.delivered)))
    swarm.close()


def _talk(port: int, secrets_path: Path, link: Connection) -> None:
    asyncio.run(talking(port, Tokens(secrets_path), link))


async def watched(cluster: Cluster, fleet: Sequence[Device], tokens: Tokens, seconds: float, rounds: int) -> None:
    assert cluster.base is not None
    link, far = Pipe()
    chat = get_context("spawn").Process(target=_talk, args=(cluster.port, cluster.base.secrets_path, far), daemon=True)
    chat.start()
    record, swarm = Record(measured=True), Swarm(cluster.port)
    senders = [Sender(swarm, device, tokens.mint(device.name), record) for device in fleet]
    watchers = [
        Watcher(
            swarm,
            tokens.mint(f"user:w{number}"),
            [fleet[(number * TRIPS_EACH + at) % len(fleet)].trip for at in range(TRIPS_EACH)],
        )
        for number in range(WATCHERS)
    ]
    await opened([*senders, *watchers])
    await asyncio.to_thread(link.recv)
    await asyncio.sleep(6.0)  # what began with the connections (presence, graces) is over
    sums: dict[bool, list[int]] = {False: [], True: []}
    for turn in range(2 * rounds):
        moving = turn % 2 == 1
        before, used = sum(watcher.positions for watcher in watchers), cluster.cpu_s()
        record.took_ns.clear()
        task = asyncio.create_task(move(senders, seconds)) if moving else None
        link.send(seconds)
        answered, delivered = await asyncio.to_thread(link.recv)
        if task is not None:
            await task
        sums[moving] += delivered
        told = sum(watcher.positions for watcher in watchers) - before
        node_s = cluster.cpu_s()["nodes"] - used["nodes"]
        print(
            f"{'moving ' if moving else 'resting'}  chat answered {quantiles(answered)}  delivered "
            f"{quantiles(delivered)}  positions told {told / seconds:7.0f}/s  node {node_s / seconds:.0%}"
            + (f"  fixes answered {quantiles(record.took_ns)}" if moving else ""),
            flush=True,
        )
    print(f"all rounds, delivered: resting {quantiles(sums[False])}  moving {quantiles(sums[True])}")
    link.send(None)
    gone = [*record.gone, *(watcher.gone for watcher in watchers if watcher.gone)]
    if record.errors or record.verdicts or gone:
        print(f"    not all accepted: {dict(record.verdicts)} {dict(record.errors)} {len(gone)} gone {gone[:3]}")
    swarm.close()


async def move(senders: Sequence[Sender], seconds: float) -> None:
    """Each sends a fix of now every `EVERY_S`, spread evenly."""
    began = time.monotonic()
    count = int(seconds / EVERY_S * len(senders))
    for number in range(count):
        wait_s = began + number * EVERY_S / len(senders) - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        senders[number % len(senders)].say(int(1000 * time.time()))


def pin(cluster: Cluster) -> None:
    os.sched_setaffinity(cluster.pid, {0})
    for pid in (os.getpid(), *proc.tree(cluster.postgres_pid or 0)):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {1})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.positions", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=200, help="that send (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=4, help="messages of each under way (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of resting and moving (default: %(default)s)")
    parser.add_argument("--watchers", action="store_true", help="measure what chat feels instead")
    parser.add_argument("--only", type=int, default=0, help="fixes a message, of this kind alone")
    parser.add_argument("--pin", action="store_true", help="the node on a core of its own")
    chosen = parser.parse_args()
    fleet = devices(0, SUBJECTS if chosen.watchers else 2 * chosen.connections)
    with readback_cluster(1, bus=False) as cluster:
        assert cluster.base is not None
        assert cluster.database_url is not None
        trio.run(_prepare, cluster.database_url, fleet, ROOMS if chosen.watchers else 0)
        if chosen.pin:
            pin(cluster)
        tokens = Tokens(cluster.base.secrets_path)
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        if chosen.watchers:
            asyncio.run(watched(cluster, fleet, tokens, chosen.seconds, chosen.rounds))
            return
        half = len(fleet) // 2
        for part, fixes, rate_max in ((fleet[:half], 10, 40_000.0), (fleet[half:], 1, 14_000.0)):
            if chosen.only in (0, fixes):
                asyncio.run(throughput(cluster, part, tokens, fixes, chosen.depth, chosen.seconds, rate_max))


if __name__ == "__main__":
    main()
