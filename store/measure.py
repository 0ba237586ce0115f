"""``python -m store.measure``: what an append costs, by batch size, on this machine.

Starts an embedded Postgres with its durable settings in a temporary folder and appends batches one after another, from
one link, over many streams. Per event: CPU of the Postgres backend and of this process (both from /proc), and the
round trip's p50 and p99. Three ways to the same SQL function: ``socket``, the writer that the gateway uses;
``trio-asyncio``, asyncpg under Trio; ``asyncio``, asyncpg on its own loop. docs/decisions/0011 keeps the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import asyncpg
import trio

from core.model import Entry, Outcome, Verdict
from store.appender import Appender
from store.embedded import EmbeddedPostgres, running_postgres
from store.links import SESSION, Connector, StoreLimits, asyncio_loop
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


async def measure(way: str, size: int, append: Append, sids: list[int], server: EmbeddedPostgres, events: int) -> None:
    random = Random(size)
    batches = [batch(size, sids, random) for _ in range(max(30, min(2_000, events // size)))]
    for warm in range(10):
        await append(batch(size, sids, Random(f"{way}{size}{warm}{time.time_ns()}")))
    for made in batches:
        for entry in made:  # fresh keys for every way
            entry.key = str(uuid.uuid4())
    round_trips = []
    backend, own, began = backend_cpu_s(server), own_cpu_s(), time.perf_counter()
    for made in batches:
        sent = time.perf_counter()
        verdicts = await append(made)
        round_trips.append(time.perf_counter() - sent)
        assert verdicts[0].outcome == Outcome.OK
    took, own, backend = time.perf_counter() - began, own_cpu_s() - own, backend_cpu_s(server) - backend
    count = len(batches) * size
    round_trips.sort()
    p50, p99 = (round_trips[int(len(round_trips) * share)] * 1e3 for share in (0.5, 0.99))
    print(
        f"{way:13} batch {size:4}  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  {count / took:8.0f}/s  "
        f"ours {own / count * 1e6:6.1f} us/event  postgres {backend / count * 1e6:6.1f} us/event",
        flush=True,
    )


async def over_asyncio(url: str, sizes: list[int], sids: list[int], server: EmbeddedPostgres, events: int) -> None:
    link = await asyncpg.connect(url, server_settings=SESSION)
    for size in sizes:
        await measure("asyncio", size, lambda made: TlsWriter.append_over(link, made), sids, server, events)
    await link.close()


async def run(sizes: list[int], streams: int, ways: list[str], events: int) -> None:
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
            if "socket" in ways:
                appender = Appender(Connector(url, limits), limits)
                for size in sizes:
                    await measure("socket", size, appender.append, sids, server, events)
                appender.close()
            if "trio-asyncio" in ways:
                connector = Connector(url, limits)
                writer = TlsWriter(connector, await connector.connect())
                for size in sizes:
                    await measure("trio-asyncio", size, writer.append, sids, server, events)
                writer.close()
            if "asyncio" in ways:
                await trio.to_thread.run_sync(asyncio.run, over_asyncio(url, sizes, sids, server, events))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.measure", description=__doc__)
    parser.add_argument("--sizes", default="1,10,100,400", help="entries a batch (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=400, help="streams written to (default: %(default)s)")
    parser.add_argument("--events", type=int, default=30_000, help="events a line (default: %(default)s)")
    parser.add_argument("--ways", default="socket,trio-asyncio,asyncio", help="default: %(default)s")
    chosen = parser.parse_args()
    trio.run(
        run, [int(size) for size in chosen.sizes.split(",")], chosen.streams, chosen.ways.split(","), chosen.events
    )


if __name__ == "__main__":
    main()
