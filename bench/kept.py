"""What keeping and reading tracks costs, without a node: ``python -m bench.kept [--samples N]``.

A Postgres of its own with its durable settings. Batches of fixes of a thousand subjects through the port, checks included, over
one link and over two at once; then one long track is read whole. `store.measure_tracks` measures more of it, and says why.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from typing import Final

import trio

from bench.load import LoadError
from core.tracks import Sample, Tracks
from store.measure_tracks import EVERY_MS, START_MS, SUBJECTS, batches, new_tracks
from store.postgres import open_postgres_log

BATCH: Final = 500
LANES: Final = (1, 2)
WARM: Final = 4
"""Batches before the clock starts: the first ones make the day's table."""
READS: Final = 5
AT_ONCE: Final = 5_000
TENANT, SUBJECT = "tenant-long", "device:long"


@dataclass(slots=True)
class Kept:
    per_s: dict[int, float] = field(default_factory=dict)
    """Samples kept a second, by how many batches are under way."""
    cpu_us: dict[int, float] = field(default_factory=dict)
    """Of this process, a sample, likewise."""
    reads_ms: list[float] = field(default_factory=list)


async def measure_at(url: str, samples: int, track: int, turn: int) -> Kept:
    """In a Postgres with the schema in it; of each ``turn`` others."""
    async with open_postgres_log(url) as log:
        return await measure(log.tracks, samples, track, turn)


async def measure(tracks: Tracks, samples: int, track: int, turn: int = 0) -> Kept:
    """``samples`` are kept in each way; ``track`` are of the one that is read."""
    found, count = Kept(), max(2, samples // BATCH)
    first = turn * (WARM + len(LANES) * count) * BATCH
    await _keep(tracks, batches(WARM, BATCH, first), 1)
    first += WARM * BATCH
    for lanes in LANES:
        made = batches(count, BATCH, first)
        first += count * BATCH
        began, used = time.perf_counter(), time.process_time()
        await _keep(tracks, made, lanes)
        found.per_s[lanes] = count * BATCH / (time.perf_counter() - began)
        found.cpu_us[lanes] = 1e6 * (time.process_time() - used) / (count * BATCH)
    long = long_track(track, turn)
    await _keep(tracks, [long[at : at + AT_ONCE] for at in range(0, track, AT_ONCE)], 1)
    to_ms = START_MS + track * EVERY_MS
    for _ in range(READS):
        began = time.perf_counter()
        read = await tracks.track(TENANT, long[0].stream, from_ms=START_MS, to_ms=to_ms, limit=track)
        found.reads_ms.append(1e3 * (time.perf_counter() - began))
        if len(read) != track:
            raise LoadError(f"{len(read)} of {track} samples were read")
    return found


async def _keep(tracks: Tracks, made: list[list[Sample]], lanes: int) -> None:
    async def lane(number: int) -> None:
        for samples in made[number::lanes]:
            await tracks.keep(samples, [])

    async with trio.open_nursery() as nursery:
        for number in range(lanes):
            nursery.start_soon(lane, number)


def long_track(count: int, turn: int = 0) -> list[Sample]:
    """Of one subject, one in `EVERY_MS`."""
    made = []
    for nth, (sample,) in enumerate(batches(count, 1, SUBJECTS)):
        at_ms = START_MS + nth * EVERY_MS
        made.append(
            sample._replace(
                tenant=TENANT, subject=SUBJECT, stream=f"trip:long-{turn}", at_ms=at_ms, seq=nth, taken_ms=at_ms
            )
        )
    return made


async def _alone(samples: int, track: int) -> Kept:
    async with new_tracks() as tracks:
        return await measure(tracks, samples, track)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kept", description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000, help="kept in each way (default: %(default)s)")
    parser.add_argument("--track", type=int, default=10_000, help="of the track that is read (default: %(default)s)")
    chosen = parser.parse_args()
    found = trio.run(_alone, chosen.samples, chosen.track)
    for lanes, per_s in found.per_s.items():
        print(f"batches of {BATCH}, {lanes} at once: {per_s:9,.0f} samples/s, {found.cpu_us[lanes]:.2f} us of CPU each")
    print(f"a track of {chosen.track:,} read: median {statistics.median(found.reads_ms):.1f} ms of {READS}")


if __name__ == "__main__":
    main()
