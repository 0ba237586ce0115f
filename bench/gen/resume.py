"""Resume storm: N clients with several streams each are cut at the same moment and come back at the same moment.

Every cycle: all connections reset; while they are away some events are committed to every stream; then, at the
harness's word, all connect and resume with their cursors. A client is whole when it holds every event up to the heads
that its welcome named. Every seq is checked: one that is not its stream's next counts as an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bench.gen.dialect import Dialect, Keys, body, dialect_of, seq_of
from bench.gen.link import Link, monotonic_ns
from bench.gen.raw import OPEN, Raw, Swarm
from bench.stats import Histogram

AT_ONCE = 128
OPEN_LIMIT_S = 90.0
CYCLE_LIMIT_S = 60.0
RETRY_S = 0.5


def stream_of(payload: bytes) -> str:
    at = payload.index(b'"stream":"') + 10
    return payload[at : payload.index(b'"', at)].decode()


class Client(Raw):
    """Holds its cursors and its resume token over its connections."""

    def __init__(self, swarm: Swarm, dialect: Dialect, token: str, streams: list[str], on_whole: Callable[[], None]):
        super().__init__(swarm, dialect, dialect.hello(token or None, {name: {} for name in streams}))
        self.token = token
        self.on_whole = on_whole
        self.cursors: dict[str, int] = {}
        self.heads: dict[str, int] = {}
        self.log = ""
        self.resume_token = ""
        self.behind = -1
        """Events still missing up to the welcome's heads; -1 before the welcome."""
        self.welcome_ns = 0
        self.whole_ns = 0
        self.errors = 0
        self.rejected = 0
        self.retries = 0

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.welcome_ns = monotonic_ns() - self.began_ns
        self.log, self.resume_token = welcome.get("log", ""), welcome.get("resume", "")
        first = not self.cursors
        for name, place in welcome["streams"].items():
            if "error" in place:
                self.errors += 1
                continue
            self.heads[name] = place["head"]
            if first:
                self.cursors[name] = place["after"]
        self.behind = sum(max(0, head - self.cursors[name]) for name, head in self.heads.items())
        self._check()

    def on_event(self, payload: bytes) -> None:
        name, seq = stream_of(payload), seq_of(payload)
        if seq != self.cursors.get(name, -1) + 1:
            self.errors += 1
            return
        self.cursors[name] = seq
        if self.behind > 0 and seq <= self.heads[name]:
            self.behind -= 1
            self._check()

    def _check(self) -> None:
        if self.behind == 0:
            self.behind = -2
            self.whole_ns = monotonic_ns() - self.began_ns
            self.on_whole()

    def on_gone(self, reason: str) -> None:
        """Refused or cut by the server: come back a little later, with a hello where the token was rejected."""
        self.retries += 1
        if "resume_rejected" in reason:
            self.rejected += 1
            self.first_frame = self.dialect.hello(self.token or None, self._after())
        asyncio.get_running_loop().call_later(RETRY_S, self.connect)

    def _after(self) -> dict[str, dict[str, int]]:
        return {name: {"after": cursor} for name, cursor in self.cursors.items()}

    def come_back(self) -> None:
        self.first_frame = self.dialect.resume(self.resume_token, self.log, self.cursors)
        self.behind = -1
        self.connect()


class Publisher(Raw):
    """Commits the events that the others miss, and counts the answers."""

    acks = 0
    refused = ""

    def on_answer(self, payload: bytes) -> None:
        if payload.startswith(self.dialect.answer_prefix):
            self.acks += 1
        elif b'"error"' in payload[:20]:
            self.refused = payload.decode(errors="replace")

    def on_gone(self, reason: str) -> None:
        self.refused = reason


async def until_true(done: Callable[[], bool], limit_s: float, what: str, step_s: float = 0.005) -> None:
    deadline = monotonic_ns() + int(limit_s * 1e9)
    while not done():
        if monotonic_ns() > deadline:
            raise TimeoutError(f"{what} took longer than {limit_s:g} s")
        await asyncio.sleep(step_s)


async def open_slowly(clients: list[Any], whole: Callable[[], int], link: Link) -> None:
    """Connect clients a bounded number at a time; ``whole`` counts those that are welcome."""
    begun = 0
    deadline = monotonic_ns() + int(OPEN_LIMIT_S * 1e9)
    while whole() < len(clients):
        if monotonic_ns() > deadline:
            raise TimeoutError(f"{whole()} of {len(clients)} clients were welcome within {OPEN_LIMIT_S:g} s")
        while begun < len(clients) and begun - whole() < AT_ONCE:
            clients[begun].connect()
            begun += 1
        link.progress(whole(), len(clients), "connecting")
        await asyncio.sleep(0.002)


async def publish(publisher: Publisher, keys: Keys, names: list[str], each: int, payload: int) -> None:
    """``each`` events into every stream, committed when this returns."""
    wanted = publisher.acks + each * len(names)
    for number in range(each):
        for at, name in enumerate(names):
            ident = wanted * 1000 + number * len(names) + at
            publisher.send(publisher.dialect.send(ident, name.encode(), keys(), body(monotonic_ns(), payload)))
            if at % 64 == 63:
                await asyncio.sleep(0.005)
    await until_true(lambda: publisher.acks >= wanted or bool(publisher.refused), 30.0, "committing the missed events")
    if publisher.refused:
        raise RuntimeError(f"a send was refused: {publisher.refused}")


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, connections, tokens, streams (names), each (streams a client), missed, payload, cycles.

    A ready before every storm; a result after it: welcome and whole histograms, seconds until all were whole, errors.
    """
    swarm = Swarm(job["port"])
    names: list[str] = job["streams"]
    each: int = job["each"]
    whole = 0

    def on_whole() -> None:
        nonlocal whole
        whole += 1

    def all_whole() -> bool:
        return whole >= len(clients)

    clients: list[Client] = []
    for number in range(job["connections"]):
        mine = [names[(number * each + k) % len(names)] for k in range(each)]
        clients.append(Client(swarm, dialect_of("plain"), job["tokens"][number], mine, on_whole))
    await open_slowly(clients, lambda: whole, link)
    dialect = dialect_of("plain")
    publisher = Publisher(swarm, dialect, dialect.hello(job["spare_token"], {}))
    publisher.connect()
    await until_true(lambda: publisher.state == OPEN, 10.0, "opening the publisher")
    keys = Keys()
    for _ in range(job["cycles"]):
        # A little traffic first, so that the storm is in-window: the hub holds what the clients will miss.
        await publish(publisher, keys, names, 1, job["payload"])
        await asyncio.sleep(0.5)
        for client in clients:
            client.cut(reset=True)
        await asyncio.sleep(1.0)
        if job["missed"]:
            await publish(publisher, keys, names, job["missed"], job["payload"])
        await asyncio.sleep(1.0)
        whole = 0
        await link.ready()
        began = monotonic_ns()
        for number, client in enumerate(clients):
            client.come_back()
            if number % 64 == 63:
                await asyncio.sleep(0)  # read what came meanwhile
        await until_true(all_whole, CYCLE_LIMIT_S, "the storm", 0.001)
        took = monotonic_ns() - began
        welcomes, wholes = Histogram(), Histogram()
        welcomes.record_all(client.welcome_ns for client in clients)
        wholes.record_all(client.whole_ns for client in clients)
        link.result(
            took_ns=took,
            welcome=welcomes.to_json(),
            whole=wholes.to_json(),
            errors=sum(client.errors for client in clients),
            rejected=sum(client.rejected for client in clients),
            retries=sum(client.retries for client in clients),
        )
    swarm.close()
