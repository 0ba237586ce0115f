"""A workers' store and the log it is beside, in memory or in Postgres, and what its contract tests say to it.

The fixtures ``bench`` and ``work`` are there for all of tests/contract (conftest.py). Time passes when a test says so: in
memory by its clock, in Postgres by moving every time that the store has kept so much nearer.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from core.model import Entry, StreamFacts
from core.ports import Log
from core.work import Effects, Firing, Lease, NewTask, Parked, Row, Task, Work
from store.links import Connector, Links, StoreLimits
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS, Database

KINDS = ["memory", "postgres"]
ALL = list(range(TEST_PARTITIONS))
TTL = 60_000
START = 1_700_000_000_000

LATER = """
with moved as (update readback.consumers set until_ms = until_ms - $1, hold_until_ms = hold_until_ms - $1, at_ms = at_ms - $1),
    ready as (update readback.workers set until_ms = until_ms - $1),
    waiting as (update readback.parked set since_ms = since_ms - $1)
update readback.tasks set until_ms = until_ms - $1, due_ms = due_ms - $1, at_ms = at_ms - $1, made_ms = made_ms - $1
"""


class Bench:
    """``one`` and ``two`` are the store as two workers see it (in memory there is one)."""

    def __init__(self, log: Log, one: Work, two: Work, admin: Links | None, clock: list[int]) -> None:
        self.log = log
        self.one = one
        self.two = two
        self._admin = admin
        self._clock = clock

    async def later(self, ms: int) -> None:
        """So much time passes."""
        self._clock[0] += ms
        if self._admin is not None:
            await self._admin.fetch(LATER, ms)

    async def now_ms(self) -> int:
        if self._admin is None:
            return self._clock[0]
        return int((await self._admin.fetch("select readback.now_ms()"))[0][0])

    async def event(self, stream: StreamFacts) -> tuple[int, int]:
        """One more event of the stream; its position and time."""
        sent = Entry(stream.tenant, stream.sid, str(uuid.uuid4()), "message", "user:amy", b"{}", privileged=True)
        [verdict] = await self.log.append([sent])
        return verdict.pos, verdict.at_ms

    async def stream(self, name: str, tenant: str = "demo") -> StreamFacts:
        return await self.log.create_stream(tenant, name, open=True, members=[], by="user:amy")


@asynccontextmanager
async def open_bench(kind: str, database: Callable[[], Database]) -> AsyncIterator[Bench]:
    clock = [START]
    if kind == "memory":
        log = MemoryLog(now_ms=lambda: clock[0], new_key=lambda: str(uuid.uuid4()), partitions=TEST_PARTITIONS)
        work = MemoryWork(log, lambda: clock[0])
        yield Bench(log, work, work, None, clock)
    else:
        base = database()
        async with open_postgres_log(base.url) as one, open_postgres_log(base.url) as two:
            limits = StoreLimits(readers=1)
            admin = Links(Connector(base.admin_url, limits), limits)
            try:
                yield Bench(one, one.work, two.work, admin, clock)
            finally:
                admin.close()


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with open_bench(request.param, lambda: request.getfixturevalue("database")) as opened:
        yield opened


@pytest.fixture
def work(bench: Bench) -> Work:
    return bench.one


# Words that tests use


def partitions(leases: Sequence[Lease], consumer: str = "views") -> list[int]:
    return [lease.partition for lease in leases if lease.consumer == consumer]


async def lease(work: Work, partition: int = 0, *, consumer: str = "views", holder: str = "w1") -> Lease:
    """One partition's, for the only worker that there is."""
    return next(each for each in await work.beat(holder, [consumer], TTL) if each.partition == partition)


def row(key: str = "QX12", doc: dict[str, Any] | None = None, **fields: Any) -> Row:
    given: dict[str, Any] = {
        "model": "flight_board",
        "tenant": "demo",
        "key": key,
        "partition": 0,
        "pos": 1,
        "seq": 1,
        "at_ms": START,
        "doc": doc,
    }
    return Row(**given | fields)


def task(key: str = "k", *, due_ms: int = 0, kind: str = "timer", tenant: str = "demo", **fields: Any) -> NewTask:
    given: dict[str, Any] = {"body": {"of": key}} | fields
    return NewTask(kind, tenant, key, due_ms, **given)


def park(sid: int = 7, *, consumer: str = "views", tenant: str = "demo", **fields: Any) -> Parked:
    given: dict[str, Any] = {
        "stream": f"flight:f{sid}",
        "partition": 0,
        "seq": 3,
        "pos": 1,
        "reason": "it does not parse",
        "attempts": 5,
        "since_ms": 0,
        "retry": False,
    }
    return Parked(consumer, tenant, sid, **given | fields)


def firing(rule: str = "overdue", **fields: Any) -> Firing:
    given: dict[str, Any] = {
        "tenant": "demo",
        "version": "3",
        "stream": "flight:QX12",
        "seq": 4,
        "at_ms": START,
        "verdict": "fired",
        "inputs": {"eta": "2026-11-21T10:00:00.000Z"},
        "actions": [{"type": "message", "text": "where is it?"}],
    }
    return Firing(rule=rule, **given | fields)


async def write(work: Work, *rows: Row, consumer: str = "views", to_pos: int | None = None) -> Lease:
    """Commit rows of one partition under a lease on it, which is the cursor's move to their last position."""
    held = await lease(work, rows[0].partition, consumer=consumer)
    last = max(each.pos for each in rows) if to_pos is None else to_pos
    return await work.commit(held, max(last, held.pos), Effects(rows=list(rows)))


def keys(found: Sequence[Row] | Sequence[Task]) -> list[str]:
    return [each.key for each in found]


async def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each answered, or the error that it raised, in the order of ``calls``."""
    answers: list[Any] = [None] * len(calls)

    async def call(number: int) -> None:
        try:
            answers[number] = await calls[number]()
        except Exception as error:
            answers[number] = error

    async with trio.open_nursery() as nursery:
        for number in range(len(calls)):
            nursery.start_soon(call, number)
    return answers
