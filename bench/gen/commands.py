"""Commands to many flights, or plain sends into the same streams, from a few connections: what `bench.commands` drives.

A command here says something new each time (when a flight is expected, aimed at, which gate), so that each is decided on the
state that the last one left, and becomes one event. Streams take turns, and the connections that give to them; each connection
follows the streams that it gives to, so that every event is delivered once. The phases are `bench.gen.chat`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench.gen.chat import Chatter, Talk, windowed
from bench.gen.conn import close_all, open_all, settle
from bench.gen.dialect import body, dialect_of
from bench.gen.link import Link, monotonic_ns
from core.flight.times import write

SCHEDULE_LIMIT_S = 60.0
OUTSTANDING_AT_FIRST = 64


class Words(Talk):
    """``op`` is what is sent: `command` or `send`."""

    def __init__(self, payload: int, streams: Sequence[str]) -> None:
        super().__init__(payload)
        self.op = "command"
        self.streams = [stream.encode() for stream in streams]
        self.given = 0
        self.now_ms = round(time.time() * 1000)

    def send_next(self, counted_ns: int) -> None:
        turn, at = divmod(self.given, len(self.streams))
        self.given += 1
        stream = self.streams[at]
        conn = self.conns[at % len(self.conns)]
        self.next_id += 1
        self.sent[self.next_id] = counted_ns
        if self.op == "send":
            conn.send(conn.dialect.send(self.next_id, stream, self.keys(), body(counted_ns, self.payload)))
            return
        conn.send(
            b'{"op":"command","id":%d,"stream":"%s","key":"%s",%s}'
            % (self.next_id, stream, self.keys(), self._says(turn))
        )

    def _says(self, turn: int) -> bytes:
        """Another thing than the turns before said."""
        match turn % 4:
            case 0:
                verb, fields = "estimate", f'"milestone":"ON","at":"{self._at(13_000 + turn)}","source":"acars"'
            case 1:
                verb, fields = "target", f'"milestone":"OUT","at":"{self._at(7_200 + turn)}","source":"airport"'
            case 2:
                verb, fields = "gate", f'"departure":{{"gate":"{turn % 1_000}"}}'
            case _:
                verb, fields = "estimate", f'"milestone":"IN","at":"{self._at(14_000 + turn)}","source":"ops"'
        return f'"type":"{verb}","body":{{{fields}}}'.encode()

    def _at(self, seconds: int) -> str:
        return write(self.now_ms + 1_000 * seconds)

    def schedule(self, stream: bytes) -> None:
        """By the first connection, whose principal owns the flights."""
        conn = self.conns[0]
        self.next_id += 1
        self.sent[self.next_id] = monotonic_ns()
        fields = f'"flight":"QX1","from":"SYD","to":"MEL","out":"{self._at(7_200)}","in":"{self._at(14_400)}"'
        conn.send(
            b'{"op":"command","id":%d,"stream":"%s","key":"%s","type":"schedule","body":{%s}}'
            % (self.next_id, stream, self.keys(), fields.encode())
        )


async def scheduled(words: Words, link: Link) -> None:
    """Every flight, a few at a time."""
    async with asyncio.timeout(SCHEDULE_LIMIT_S):
        for number, stream in enumerate(words.streams):
            while len(words.sent) >= OUTSTANDING_AT_FIRST:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            words.schedule(stream)
            link.progress(number + 1, len(words.streams), "scheduling")
        while words.sent:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    if words.refusals:
        raise RuntimeError(f"a flight was not scheduled: {words.refused.decode(errors='replace')}")


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, connections, tokens (one a connection), streams (names), payload. Go: phase, op, its window.

    Result: as `bench.gen.chat` has it.
    """
    words = Words(job["payload"], job["streams"])
    tokens: list[str] = job["tokens"]
    streams: list[str] = job["streams"]
    count: int = job["connections"]

    def maker(number: int) -> Chatter:
        dialect = dialect_of("plain")
        hello = dialect.hello(tokens[number], {stream: {} for stream in streams[number::count]})
        return Chatter(dialect, hello, b"", words, None)

    words.conns = await open_all([partial(maker, number) for number in range(count)], job["port"], link)
    await scheduled(words, link)
    await settle(words.conns)
    while (go := await link.ready())["phase"] != "end":
        words.op = go["op"]
        link.result(**await windowed(words, words.conns, go))
    await close_all(words.conns)
