"""``python -m store.measure_work``: what a worker's claims and commits cost, on this machine.

Starts an embedded Postgres with its durable settings in a temporary folder. Two questions:

* Does a claim get slower with the number of timers that wait? Loads a thousand, then a million, that are due later, and
  claims those due now in batches beside each; prints the medians and their ratio.
* How many events a second does a read model take? Commits batches of rows, the cursor with them, encoding included: first
  into an empty generation (as a rebuild does at its beginning), then over rows that are there (as a board is).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from statistics import median

import trio

from core.work import Effects, NewTask, Row, Work
from store.embedded import running_postgres
from store.links import asyncio_loop
from store.postgres import migrate_database, open_postgres_log

LATER_MS = 10**15
BATCH = 5_000
FEW = 1_000
"""Timers beside which claims are measured first."""
CLAIMED = 100
"""Timers of one claim."""
DOC = {
    "flight": "QX12-20261121",
    "status": "boarding",
    "from": "PRG",
    "to": "LHR",
    "std": "2026-11-21T10:00:00.000Z",
    "etd": "2026-11-21T10:25:00.000Z",
    "sta": "2026-11-21T12:05:00.000Z",
    "gate": "B12",
    "stand": "41",
    "registration": "OK-XYZ",
    "delays": [{"code": "93", "minutes": 25, "reason": "late arrival of the aircraft"}],
    "attempt": 1,
}


def timers(first: int, count: int, due_ms: int) -> list[NewTask]:
    return [
        NewTask(
            "timer", "demo", f"flight:QX{n}/overdue", due_ms + n - first, {"name": "overdue", "stream": f"flight:QX{n}"}
        )
        for n in range(first, first + count)
    ]


async def claim_ms(work: Work, rounds: int, size: int, first: int) -> list[float]:
    """What each claim took, of timers that are due; those are settled in between."""
    await work.add(timers(first, rounds * size, 0))
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        claimed = await work.claim("w1", "timer", size, 60_000)
        spent.append((time.perf_counter() - began) * 1e3)
        assert len(claimed) == size
        for task in claimed:
            await work.settle(task, state="done")
    return spent


@dataclass(frozen=True, slots=True)
class Beside:
    """Claims beside so many timers that wait."""

    waiting: int
    claims_ms: list[float]
    next_due_ms: float
    loaded_s: float


async def claims_beside(work: Work, loaded: int, waiting: int, rounds: int, size: int) -> Beside:
    """``loaded`` wait already; so many more are added as are missing."""
    began = time.perf_counter()
    while loaded < waiting:
        more = min(BATCH, waiting - loaded)
        await work.add(timers(loaded, more, LATER_MS))
        loaded += more
    took = time.perf_counter() - began
    first = LATER_MS + waiting  # keys of their own
    await claim_ms(work, 3, size, first)
    spent = await claim_ms(work, rounds, size, first + 3 * size)
    began = time.perf_counter()
    await work.next_due_ms("timer")
    return Beside(waiting, spent, (time.perf_counter() - began) * 1e3, took)


async def measure_claims(work: Work, pending: int, rounds: int, size: int) -> None:
    medians = []
    loaded = 0
    for waiting in (FEW, pending):
        found = await claims_beside(work, loaded, waiting, rounds, size)
        loaded = waiting
        spent = found.claims_ms
        medians.append(median(spent))
        print(
            f"claims of {size} beside {waiting:9,} that wait: median {median(spent):.2f} ms, worst {max(spent):.2f} ms; "
            f"next due {found.next_due_ms:.2f} ms; loaded in {found.loaded_s:.1f} s",
            flush=True,
        )
    print(f"ratio: {medians[1] / medians[0]:.2f}", flush=True)


async def measure_commits(work: Work, batches: int, size: int, flights: int) -> None:
    random = Random(1)
    leases = await work.beat("w1", ["views"], 600_000)

    async def play(name: str, keys: range, lanes: int) -> None:
        async def lane(number: int) -> None:
            held = leases[number]
            for batch in range(batches):
                rows = []
                for n in range(size):
                    at = (batch * size + n) if len(keys) > flights else random.randrange(len(keys))
                    key = f"flight:QX{number}-{keys[at % len(keys)]}"
                    rows.append(
                        Row(
                            "board",
                            "demo",
                            key,
                            held.partition,
                            held.pos + n + 1,
                            1,
                            1_700_000_000_000,
                            {**DOC, "n": n},
                        )
                    )
                held = await work.commit(held, held.pos + size, Effects(rows=rows))
            leases[number] = held

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(lanes):
                nursery.start_soon(lane, number)
        took = time.perf_counter() - began
        print(f"{name}, {lanes} at once, batches of {size}: {batches * size * lanes / took:,.0f} events/s", flush=True)

    for lanes in (1, 2):
        await play("new rows", range(lanes * 10**7, lanes * 10**7 + batches * size), lanes)
        await play(f"rows of {flights} flights, changed", range(flights), lanes)


@asynccontextmanager
async def new_work() -> AsyncIterator[Work]:
    """Of a Postgres of its own, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="readback-measure-") as folder:
        os.chmod(folder, 0o711)  # so that the server may run as nobody
        async with running_postgres(f"{folder}/postgres") as server, asyncio_loop():
            await migrate_database(server.url())
            async with open_postgres_log(server.url(user="readback_gateway")) as log:
                yield log.work


async def run(pending: int, rounds: int, batches: int, size: int) -> None:
    async with new_work() as work:
        await measure_commits(work, batches, size, 500)
        await measure_claims(work, pending, rounds, CLAIMED)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.measure_work", description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000, help="timers that wait (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="claims measured beside each number (%(default)s)")
    parser.add_argument("--batches", type=int, default=20, help="commits of each way (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1_000, help="events a commit (default: %(default)s)")
    chosen = parser.parse_args()
    trio.run(run, chosen.pending, chosen.rounds, chosen.batches, chosen.size)


if __name__ == "__main__":
    main()
