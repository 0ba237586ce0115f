"""``python -m store.measure_tracks``: how many samples of positions a node keeps, and what of its own time each costs.

Starts an embedded Postgres with its durable settings in a temporary folder. Keeps batches of fixes of 1,000 subjects through
the port, checks included, with and without last positions, over one link and over two at once; then reads tracks beside all of
them.

On two cores that node and database share, batches of 500: 109,000 samples a second over one link and 166,000 over two, at 3 us
of the node's CPU each (2 us in batches of 5,000); 4 us where every tenth brings a last position, 8 where each does. On the same
cores with others at work: 45,000 to 70,000.

Measured before: rows packed with struct and sent by ``copy_to_table`` cost the node 2.2 us, not the 1.0 that asyncpg's own
encoder takes in ``copy_records_to_table`` (checks not counted). Names as domains, whose expressions Postgres looks at for each
row, brought the database from 240,000 rows a second to 52,000: hence plain texts in 0012_tracks.sql.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from statistics import median

import trio

from core.tracks import Last, Sample, Tracks
from store.embedded import running_postgres
from store.links import asyncio_loop
from store.postgres import migrate_database, open_postgres_log

SUBJECTS = 1_000
START_MS = 1_700_006_400_000
EVERY_MS = 1_000
"""Between two fixes of one subject."""
MEMORY = {"anchor": [1_700_006_400_000, -33.9, 151.2], "skew_ms": 180, "bad": 0}


def batches(count: int, size: int, first: int) -> list[list[Sample]]:
    """Fixes of all subjects by turns, from the ``first`` on."""
    random = Random(first)
    made = []
    for batch in range(count):
        samples = []
        for n in range(first + batch * size, first + (batch + 1) * size):
            who, turn = n % SUBJECTS, n // SUBJECTS
            at_ms = START_MS + turn * EVERY_MS + who
            samples.append(
                Sample(
                    f"tenant-{who % 7}",
                    f"device:truck-{who}",
                    f"trip:{who}",
                    at_ms,
                    turn,
                    -33.9 + random.random() / 10,
                    151.2 + random.random() / 10,
                    5.0,
                    14.2,
                    87.0 if who % 2 else None,
                    None,
                    "accepted",
                    "",
                    at_ms + 250,
                )
            )
        made.append(samples)
    return made


def lasts(samples: Sequence[Sample], every: int) -> list[Last]:
    return [
        Last(
            each.tenant,
            each.subject,
            each.stream,
            each.at_ms,
            each.lat,
            each.lon,
            each.acc,
            each.speed,
            each.heading,
            each.alt,
            each.verdict,
            each.taken_ms,
            MEMORY,
        )
        for each in (samples[::every] if every else ())
    ]


async def measure_keep(tracks: Tracks, count: int, size: int, first: int, every: int, lanes: int) -> None:
    made = [(samples, lasts(samples, every)) for samples in batches(count, size, first)]

    async def lane(number: int) -> None:
        for samples, latest in made[number::lanes]:
            await tracks.keep(samples, latest)

    began, began_cpu = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for number in range(lanes):
            nursery.start_soon(lane, number)
    took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    said = (
        f"a last position to every {every}th" if every > 1 else "a last position to each" if every else "samples alone"
    )
    print(
        f"batches of {size:5,}, {lanes} at once, {said}: {count * size / took:9,.0f} samples/s, "
        f"{cpu / (count * size) * 1e6:.2f} us of the node's CPU each",
        flush=True,
    )


async def measure_reads(tracks: Tracks, rounds: int) -> None:
    for limit in (100, 3_600):
        spent = []
        for n in range(rounds):
            began = time.perf_counter()
            who = n * 37 % SUBJECTS
            found = await tracks.track(
                f"tenant-{who % 7}",
                f"trip:{who}",
                from_ms=START_MS,
                to_ms=START_MS + 3_600_000,
                limit=limit,
                newest=True,
            )
            spent.append((time.perf_counter() - began) * 1e3)
            assert found, "it is there"
        print(
            f"newest {limit:,} of a track, {len(found)} there: median {median(spent):.2f} ms, worst {max(spent):.2f} ms"
        )


@asynccontextmanager
async def new_tracks() -> AsyncIterator[Tracks]:
    """Of a Postgres of its own, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="readback-measure-") as folder:
        os.chmod(folder, 0o711)  # so that the server may run as nobody
        async with running_postgres(f"{folder}/postgres") as server, asyncio_loop():
            await migrate_database(server.url())
            async with open_postgres_log(server.url(user="readback_gateway")) as log:
                yield log.tracks


async def run(samples: int) -> None:
    async with new_tracks() as tracks:
        first = 0
        for size in (500, 1_000, 5_000):
            for every in (0, 10, 1):
                for lanes in (1, 2):
                    count = max(4, samples // size)
                    await measure_keep(tracks, count, size, first, every, lanes)
                    first += count * size
        await measure_reads(tracks, 50)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.measure_tracks", description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000, help="kept in each way (default: %(default)s)")
    trio.run(run, parser.parse_args().samples)


if __name__ == "__main__":
    main()
