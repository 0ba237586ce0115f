"""Echo: every connection keeps one ping outstanding; the answer to one sends the next. Every latency is recorded."""

from __future__ import annotations

from functools import partial
from typing import Any

from picows import WSFrame

from bench.gen.conn import TEXT, Conn, close_all, open_all, settle
from bench.gen.dialect import Dialect, dialect_of
from bench.gen.link import Link, Window, monotonic_ns, until
from bench.stats import Histogram


class Echo(Conn):
    """``samples`` is one list for all connections of the process."""

    def __init__(self, dialect: Dialect, hello: bytes, ping: bytes, samples: list[int]) -> None:
        super().__init__(dialect, hello)
        self.ping = ping
        self.samples = samples
        self.prefix = dialect.pong_prefix
        self.sent_ns = 0
        self.running = False

    def begin(self) -> None:
        self.running = True
        self.sent_ns = monotonic_ns()
        self.transport.send(TEXT, self.ping)

    def on_payload(self, payload: bytes, frame: WSFrame) -> None:
        if payload.startswith(self.prefix):
            now = monotonic_ns()
            self.samples.append(now - self.sent_ns)
            if self.running:
                self.sent_ns = now
                self.transport.send(TEXT, self.ping)
        else:
            self.on_other(payload)


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, dialect, connections, payload (bytes), tokens. Result: count, histogram."""
    samples: list[int] = []
    tokens: list[str] = job["tokens"] or [""]

    def maker(number: int) -> Echo:
        dialect = dialect_of(job["dialect"])
        hello = dialect.hello(tokens[number % len(tokens)] or None, {})
        return Echo(dialect, hello, dialect.ping(7, job["payload"]), samples)

    conns = await open_all([partial(maker, number) for number in range(job["connections"])], job["port"], link)
    await settle(conns)
    window = Window.of(await link.ready())
    await until(window.start_ns)
    for conn in conns:
        conn.begin()
    await until(window.from_ns)
    samples.clear()
    began = monotonic_ns()
    await until(window.until_ns)
    took = monotonic_ns() - began
    count = len(samples)
    for conn in conns:
        conn.running = False
    measured = Histogram()
    measured.record_all(samples[:count])
    lost = sum(conn.closed for conn in conns)
    link.result(count=count, took_ns=took, latency=measured.to_json(), closed=lost)
    await close_all(conns)
