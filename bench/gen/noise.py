"""A tenant that does too much of one thing while others are measured: sends, returns, or replays, until the window ends.

``sends``: an open loop of so many a second; what the server does not read is not sent, and counted as held back. ``storm``:
so many clients resume, and as soon as one is whole it is cut and comes back; a closed loop, as much as the server lets it
do. ``replays``: clients read long streams from their beginning, so many events a second in all; who has all of one waits for
its turn to begin again. When a window ends, what is still on its way is thrown away.

Runs at a lower priority than the others of the machine: what it uses of the cores stands for clients elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import orjson

from bench.gen.dialect import Dialect, Keys, body, dialect_of, seq_of
from bench.gen.link import Link, Window, monotonic_ns, until
from bench.gen.raw import GONE, OPEN, Raw, Swarm, masked
from bench.gen.resume import Client, Publisher, open_slowly, publish, until_true

SETTLE_LIMIT_S = 20.0
TICK_S = 0.002
AT_ONCE = 50
RETRY_S = (0.25, 0.75)
"""After a refusal, whatever it said; spread, as the clients of a tenant are."""


class Shouter(Raw):
    """Sends without looking whether it is welcome; what its socket does not take at once is held back."""

    def __init__(self, swarm: Swarm, dialect: Dialect, hello: bytes, stream: str, on_welcome: Callable[[], None]):
        super().__init__(swarm, dialect, hello)
        self.stream = stream.encode()
        self.welcomed = on_welcome
        self.answered = self.refused = self.held = 0
        self._left = b""

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.welcomed()

    def on_answer(self, payload: bytes) -> None:
        if payload.startswith(self.dialect.answer_prefix):
            self.answered += 1
        elif b'"op":"error"' in payload[:20]:
            self.refused += 1

    def shout(self, ident: int, key: bytes, message: bytes) -> None:
        if self.sock is None:
            return
        frame = self._left or masked(self.dialect.send(ident, self.stream, key, message))
        if self._left:
            self.held += 1
        try:
            self._left = frame[self.sock.send(frame) :]
        except BlockingIOError:
            self._left = frame
        except OSError as error:
            self._gone(str(error))

    def anew(self) -> None:
        """Another connection, on which nothing is under way."""
        self.cut(reset=True)
        self._left = b""
        self.connect()


class Returner(Client):
    """Comes back as soon as it is whole, and a while after it was refused, as long as it is ``on``."""

    on = True
    returns = 0

    def again(self) -> None:
        if self.on and self.state == OPEN:
            self.returns += 1
            self.cut(reset=True)
            self.come_back()

    def connect(self) -> None:
        if self.on and self.state == GONE:
            super().connect()

    def on_gone(self, reason: str) -> None:
        self.retries += 1
        if "resume_rejected" in reason:
            self.rejected += 1
            self.first_frame = self.dialect.hello(self.token or None, self._after())
        asyncio.get_running_loop().call_later(random.uniform(*RETRY_S), self.connect)


class Replayer(Raw):
    """Reads its stream from the beginning whenever it is told to."""

    def __init__(self, swarm: Swarm, dialect: Dialect, hello: bytes, stream: str, on_whole: Callable[[Replayer], None]):
        super().__init__(swarm, dialect, hello)
        self.stream = stream
        self.on_whole = on_whole
        self.head = 0
        self.events = 0
        self.ident = 1
        self.refused = ""

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.head = welcome["streams"][self.stream]["head"]
        self.on_whole(self)

    def on_event(self, payload: bytes) -> None:
        self.events += 1
        if seq_of(payload) >= self.head:
            self.on_whole(self)

    def ask(self) -> None:
        self.ident += 1
        self.send(orjson.dumps({"op": "sub", "id": self.ident, "stream": self.stream, "after": 0}))

    def on_answer(self, payload: bytes) -> None:
        if b'"op":"error"' in payload[:20]:
            self.refused = payload.decode(errors="replace")

    def on_gone(self, reason: str) -> None:
        self.refused = reason


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: what, nice, port, connections, tokens, spare_token, streams, payload; each (streams a client) where clients have
    several; of ``replays`` events (of each stream). Go: a window, of ``sends`` and ``replays`` a rate.

    Result: what was done while the window was open, refused, held back.
    """
    os.nice(job["nice"])
    await {"sends": sends, "storm": storm, "replays": replays}[job["what"]](job, link)


def shares(job: dict[str, Any], number: int) -> list[str]:
    """The streams of a client: each has so many, and all of them are used alike."""
    names, each = job["streams"], job["each"]
    return [names[(number * each + k) % len(names)] for k in range(each)]


async def sends(job: dict[str, Any], link: Link) -> None:
    swarm, dialect, keys = Swarm(job["port"]), dialect_of("plain"), Keys()
    welcome = 0

    def on_welcome() -> None:
        nonlocal welcome
        welcome += 1

    def all_welcome() -> bool:
        return welcome >= len(clients)

    clients: list[Shouter] = []
    for number in range(job["connections"]):
        name = job["streams"][number % len(job["streams"])]
        hello = dialect.hello(job["tokens"][number], {name: {}})
        clients.append(Shouter(swarm, dialect, hello, name, on_welcome))
    await open_slowly(clients, lambda: welcome, link)
    while (go := await link.ready())["phase"] != "end":
        window, gap_ns, number = Window.of(go), 1e9 / go["rate"], 0
        for client in clients:
            client.answered = client.refused = client.held = 0
        await until(window.start_ns)
        while (now := monotonic_ns()) < window.until_ns:
            while window.start_ns + int(number * gap_ns) <= now:
                number += 1
                clients[number % len(clients)].shout(number, keys(), body(now, job["payload"]))
            await asyncio.sleep(TICK_S)
        said = {
            "done": sum(client.answered for client in clients),
            "refused": sum(client.refused for client in clients),
            "held": sum(client.held for client in clients),
        }
        welcome = 0
        for client in clients:
            client.anew()
        await until_true(all_welcome, SETTLE_LIMIT_S, "opening anew")
        link.result(**said, failed="")
    swarm.close()


async def storm(job: dict[str, Any], link: Link) -> None:
    swarm, whole = Swarm(job["port"]), 0
    loop = asyncio.get_running_loop()

    def maker(number: int) -> Returner:
        def on_whole() -> None:
            nonlocal whole
            whole += 1
            if under_way:
                loop.call_soon(client.again)

        client = Returner(swarm, dialect_of("plain"), job["tokens"][number], shares(job, number), on_whole)
        return client

    under_way = False
    clients = [maker(number) for number in range(job["connections"])]
    await open_slowly(clients, lambda: whole, link)
    while True:
        for client in clients:
            client.on = False
            client.cut(reset=True)
        await asyncio.sleep(RETRY_S[1])  # so that nobody comes back from before
        go = await link.ready()
        if go["phase"] == "end":
            break
        window, under_way = Window.of(go), True
        for client in clients:
            client.returns = client.retries = 0
            client.on = True
        await until(window.start_ns)
        for client in clients:
            client.come_back()
        await until(window.until_ns)
        under_way = False
        done, refused = (sum(getattr(one, what) for one in clients) for what in ("returns", "retries"))
        link.result(done=done, refused=refused, held=0, failed="")
    swarm.close()


async def replays(job: dict[str, Any], link: Link) -> None:
    swarm, dialect = Swarm(job["port"]), dialect_of("plain")
    publisher = Publisher(swarm, dialect, dialect.hello(job["spare_token"], {}))
    publisher.connect()
    await until_true(lambda: publisher.state == OPEN, 10.0, "opening the publisher")
    keys = Keys()
    for number in range(0, job["events"], AT_ONCE):
        link.progress(number, job["events"], "writing history")
        await publish(publisher, keys, job["streams"], min(AT_ONCE, job["events"] - number), job["payload"])

    idle: list[Replayer] = []
    clients = []
    for number in range(job["connections"]):
        name = job["streams"][number % len(job["streams"])]
        hello = dialect.hello(job["tokens"][number], {name: {}})
        clients.append(Replayer(swarm, dialect, hello, name, idle.append))
    await open_slowly(clients, lambda: len(idle), link)

    def at_rest() -> bool:
        return len(idle) == len(clients) or any(client.refused for client in clients)

    while (go := await link.ready())["phase"] != "end":
        window, begun, events = Window.of(go), 0, sum(client.events for client in clients)
        each_ns = job["events"] * 1e9 / go["rate"]
        await until(window.start_ns)
        while (now := monotonic_ns()) < window.until_ns:
            while idle and window.start_ns + int(begun * each_ns) <= now:
                begun += 1
                idle.pop(0).ask()
            await asyncio.sleep(TICK_S)
        done = sum(client.events for client in clients) - events
        await until_true(at_rest, SETTLE_LIMIT_S, "the last replays")
        failed = next((client.refused for client in clients if client.refused), "")
        link.result(done=done, refused=0, held=0, failed=failed)
    swarm.close()
