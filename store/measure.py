"""``python -m store.measure``: what an append costs, by batch size, on this machine.

Starts an embedded Postgres with its durable settings in a temporary folder and appends batches one after another, from
one link, over many streams. Per event: CPU of the server's processes and of this one (both from the kernel's books); per
batch: the round trip. Two ways to the same SQL function, in turn: ``socket``, the writer that the gateway uses, and
``trio-asyncio``, asyncpg under Trio. docs/decisions/0011 keeps figures.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import trio

from core.model import Entry, Outcome, Verdict
from store.appender import Appender
from store.embedded import EmbeddedPostgres, running_postgres
from store.links import Connector, StoreLimits, asyncio_loop
from store.postgres import migrate_database, open_postgres_log
from store.writer import TlsWriter

BODY = b'{"text":"' + b"x" * 80 + b'"}'
Append = Callable[[list[Entry]], Awaitable[list[Verdict]]]


def batch(size: int, sids: list[int], random: Random) -> list[Entry]:
    entries = []
    for _ in range(size):
        key = str(uuid.UUID(int=random.getrandbits(128), version=4))
        entries.append(Entry("demo", random.choice(sids), key, "message", f"user:u{random.randrange(500)}", BODY))
    return entries


def backend_cpu_s(server: EmbeddedPostgres) -> float:
    """CPU of the busiest server process: the one backend that appends."""
    spent = []
    for name in Path("/proc").iterdir():
        if name.name.isdigit():
            try:
                if (name / "comm").read_text().strip() == "postgres" and (name / "stat").read_text().split()[3] == str(
                    server.pid
                ):
                    spent.append(int((name / "schedstat").read_text().split()[0]) / 1e9)
            except OSError:
                continue
    return sum(spent)


def own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Tally:
    """What one way to append cost, round by round. The quietest round is told: the others had company on the machine."""

    def __init__(self, way: str, append: Append, server: EmbeddedPostgres) -> None:
        self.way = way
        self._append = append
        self._server = server
        self._rounds: list[tuple[float, float, float, float]] = []

    async def play(self, batches: list[list[Entry]]) -> None:
        count = sum(map(len, batches))
        round_trips = []
        backend, own = backend_cpu_s(self._server), own_cpu_s()
        for made in batches:
            sent = time.perf_counter()
            verdicts = await self._append(made)
            round_trips.append(time.perf_counter() - sent)
            assert verdicts[0].outcome == Outcome.OK
        own, backend = own_cpu_s() - own, backend_cpu_s(self._server) - backend
        round_trips.sort()
        p50, p99 = (round_trips[int(len(round_trips) * share)] * 1e3 for share in (0.5, 0.99))
        self._rounds.append((own / count * 1e6, backend / count * 1e6, p50, p99))

    def forget(self) -> None:
        self._rounds.clear()

    def tell(self, size: int) -> None:
        own, backend, p50, p99 = (min(column) for column in zip(*self._rounds, strict=True))
        self._rounds.clear()
        print(
            f"{self.way:13} batch {size:4}  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  "
            f"ours {own:6.1f} us/event  postgres {backend:6.1f} us/event",
            flush=True,
        )


async def run(sizes: list[int], streams: int, rounds: int, events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="readback-measure-") as folder:
        os.chmod(folder, 0o711)  # so that the server may run as nobody
        async with running_postgres(f"{folder}/postgres") as server, asyncio_loop():
            await migrate_database(server.url())
            url = server.url(user="readback_gateway")
            async with open_postgres_log(url) as log:
                sids = [
                    (await log.create_stream("demo", f"chat:s{n}", open=True, members=[], by="user:u1")).sid
                    for n in range(streams)
                ]
            limits = StoreLimits(writers=1)
            connector = Connector(url, limits)
            appender = Appender(connector, limits)
            writer = TlsWriter(connector, await connector.connect())
            ways = [Tally("socket", appender.append, server), Tally("trio-asyncio", writer.append, server)]
            random = Random(1)
            for size in sizes:
                for number in range(rounds + 1):
                    for way in ways:
                        batches = [batch(size, sids, random) for _ in range(max(10, events // size))]
                        await way.play(batches if number else batches[:10])
                        if not number:
                            way.forget()
                for way in ways:
                    way.tell(size)
            writer.close()
            appender.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.measure", description=__doc__)
    parser.add_argument("--sizes", default="1,10,100,400", help="entries a batch (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=400, help="streams written to (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=8, help="of each way in turn, of which the best counts (%(default)s)"
    )
    parser.add_argument(
        "--events", type=int, default=1_000, help="events a round, at least 10 batches (default: %(default)s)"
    )
    chosen = parser.parse_args()
    trio.run(run, [int(size) for size in chosen.sizes.split(",")], chosen.streams, chosen.rounds, chosen.events)


if __name__ == "__main__":
    main()
