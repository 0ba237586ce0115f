"""Fan-out: one publisher at a fixed rate, N subscribers of one stream, every delivery counted.

The publisher's sends are due at fixed moments (open loop), ``burst`` of them together in one write; an event's latency is
counted from the moment it was due, so that a stall of the server or of this generator is not hidden. Latency is sampled
on every ``sample``-th subscriber, all events of it; deliveries are counted on all.

After the window the publisher stops and all outstanding deliveries are waited for, so that what is missing is known.

With ``stalled`` that many more subscribers join with small receive buffers and stop reading before the traffic starts
(the `slow` scenario). They are not counted with the others; when the window is over they read again, and whether each
then gets every event in order is counted for itself.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from picows import WSFrame

from bench.gen.conn import Conn, close_all, open_all, open_one, settle
from bench.gen.dialect import Dialect, Keys, body, dialect_of, sent_at_ns, seq_of
from bench.gen.link import Link, Window, counted_from, monotonic_ns, until
from bench.gen.raw import Raw, Swarm
from bench.gen.resume import until_true
from bench.stats import Histogram

DRAIN_LIMIT_S = 20.0
DRAIN_SILENCE_S = 3.0
READ_ON_LIMIT_S = 20.0
SMALL_BUFFER = 4096  # bytes of SO_RCVBUF; the kernel doubles it


class Subscriber(Conn):
    """Counts events. One with ``samples`` also records latencies, and how many events came in one read."""

    def __init__(self, dialect: Dialect, hello: bytes, samples: list[int] | None) -> None:
        super().__init__(dialect, hello)
        self.samples = samples
        self.prefix = dialect.event_prefix
        self.events = 0
        self.reads = 0

    def on_payload(self, payload: bytes, frame: WSFrame) -> None:
        if payload.startswith(self.prefix):
            self.events += 1
            if self.samples is not None:
                self.samples.append(monotonic_ns() - sent_at_ns(payload))
                self.reads += frame.last_in_buffer
        else:
            self.on_other(payload)


class Publisher(Conn):
    def __init__(self, dialect: Dialect, hello: bytes) -> None:
        super().__init__(dialect, hello)
        self.prefix = dialect.answer_prefix
        self.acks = 0
        self.refused: bytes | None = None

    def on_payload(self, payload: bytes, frame: WSFrame) -> None:
        if payload.startswith(self.prefix):
            self.acks += 1
        elif b'"error"' in payload:
            self.refused = payload
        else:
            self.on_other(payload)


class Stalled(Raw):
    """Joins, stops reading, reads again later; then every event must come, in order."""

    def __init__(self, swarm: Swarm, dialect: Dialect, hello: bytes) -> None:
        super().__init__(swarm, dialect, hello, receive_buffer=SMALL_BUFFER)
        self.welcome = False
        self.events = 0
        self.cursor = -1
        self.gaps = 0
        self.ended = ""

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.welcome = True
        self.stall()

    def on_event(self, payload: bytes) -> None:
        seq = seq_of(payload)
        self.gaps += self.cursor >= 0 and seq != self.cursor + 1
        self.cursor = seq
        self.events += 1

    def on_gone(self, reason: str) -> None:
        self.ended = reason


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, dialect, connections, tokens, rate (events/s), burst, payload, stream, sample; ``first`` publishes.

    Result: deliveries in the window, events sent and received over all, frames a read, histogram.
    """
    stream = job.get("stream", "chat:bench")
    samples: list[int] = []
    tokens: list[str] = job["tokens"] or [""]
    every = job.get("sample") or max(1, job["connections"] // 50)

    def maker(number: int) -> Subscriber:
        dialect = dialect_of(job["dialect"])
        hello = dialect.hello(tokens[number % len(tokens)] or None, {stream: {}})
        return Subscriber(dialect, hello, samples if number % every == 0 else None)

    subscribers = await open_all([partial(maker, number) for number in range(job["connections"])], job["port"], link)
    publisher: Publisher | None = None
    if job["first"]:
        dialect = dialect_of(job["dialect"])
        hello = dialect.hello(job["spare_token"] or None, {}, publish=True)
        publisher = await open_one(Publisher(dialect, hello), job["port"])
    swarm = Swarm(job["port"])
    stalled = await stall(swarm, job, tokens) if job["first"] else []
    await settle(subscribers)
    window = Window.of(await link.ready())
    await until(window.start_ns)
    publishing = asyncio.ensure_future(publish(publisher, stream.encode(), job, window)) if publisher else None
    await until(window.from_ns)
    samples.clear()
    before, reads_before = _events(subscribers), _reads(subscribers)
    await until(window.until_ns)
    deliveries, reads = _events(subscribers) - before, _reads(subscribers) - reads_before
    measured = Histogram()
    measured.record_all(samples[:])
    sampled = len(samples)
    sent = await publishing if publishing else 0
    await drained(subscribers, publisher, sent)
    if publisher is not None:
        if publisher.refused is not None:
            raise RuntimeError(f"the server refused a send: {publisher.refused.decode(errors='replace')}")
        for one in stalled:
            one.unstall()
        await read_on(stalled, sent)
    link.result(
        stalled_missing=sum(max(0, sent - one.events) for one in stalled),
        stalled_gaps=sum(one.gaps for one in stalled),
        stalled_ended=sum(bool(one.ended) for one in stalled),
        deliveries=deliveries,
        sent=sent,
        acks=publisher.acks if publisher else 0,
        events=_events(subscribers),
        sampled=sampled,
        reads=reads,
        latency=measured.to_json(),
        closed=sum(one.closed for one in subscribers),
    )
    await close_all(subscribers)
    if publisher is not None:
        await close_all([publisher])
    swarm.close()


async def stall(swarm: Swarm, job: dict[str, Any], tokens: list[str]) -> list[Stalled]:
    """Those that will not read, joined before the traffic starts so that all of it is owed to them."""
    clients = []
    for number in range(job.get("stalled", 0)):
        dialect = dialect_of(job["dialect"])
        token = tokens[number % len(tokens)] or None
        clients.append(Stalled(swarm, dialect, dialect.hello(token, {job.get("stream", "chat:bench"): {}})))
        clients[-1].connect()
    await until_true(lambda: all(one.welcome for one in clients), 20.0, "joining the subscribers that will stall")
    return clients


async def read_on(clients: list[Stalled], sent: int) -> None:
    """Let those that stalled catch up; who was disconnected meanwhile never does."""
    deadline = monotonic_ns() + int(READ_ON_LIMIT_S * 1e9)
    while monotonic_ns() < deadline and any(one.events < sent and not one.ended for one in clients):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def _events(subscribers: list[Subscriber]) -> int:
    return sum(one.events for one in subscribers)


def _reads(subscribers: list[Subscriber]) -> int:
    return sum(one.reads for one in subscribers)


async def publish(publisher: Publisher, stream: bytes, job: dict[str, Any], window: Window) -> int:
    """Send until the window closes, each burst at its due moment or as soon after it as this process gets to it."""
    keys = Keys()
    burst: int = job["burst"]
    gap_ns = int(1e9 * burst / job["rate"])
    due = window.start_ns
    sent = 0
    while due < window.until_ns:
        await until(due)
        for _ in range(burst):
            sent += 1
            at = counted_from(due)
            publisher.send(publisher.dialect.send(sent, stream, keys(), body(at, job["payload"])))
        due += gap_ns
    return sent


async def drained(subscribers: list[Subscriber], publisher: Publisher | None, sent: int) -> None:
    """Wait for what is still on its way, as long as anything keeps coming.

    The process that publishes knows when all is there; another one has only silence to go by.
    """
    deadline = monotonic_ns() + int(DRAIN_LIMIT_S * 1e9)
    whole = sent * len(subscribers)
    seen, changed = -1, monotonic_ns()
    while (now := monotonic_ns()) < deadline and now - changed < DRAIN_SILENCE_S * 1e9:
        events, acks = _events(subscribers), publisher.acks if publisher else 0
        if publisher is not None and events >= whole and acks >= sent:
            return
        if events + acks != seen:
            seen, changed = events + acks, now
        await asyncio.sleep(0.05)
