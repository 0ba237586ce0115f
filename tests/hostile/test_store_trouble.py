"""A real Postgres is killed, stopped, frozen, filled up and crowded out under twenty publishers, who lose nothing.

While it is away sends answer ``unavailable`` with ``retry_after`` and connections stay; when it is back everything goes
on by itself, without a restart and without a duplicate (`tests.hostile.publishers` keeps the account). These cases have
a server of their own, because they do to it what no other test could bear.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from gateway.config import Config
from gateway.doctor import look_at_data
from store.embedded import EmbeddedPostgres
from store.links import StoreLimits
from store.postgres import migrate_database, open_postgres_log
from tests.disks import fill, folder_on_small_disk
from tests.hostile.publishers import PATIENCE_S, Crowd, publishers
from tests.hostile.scene import ROOM, watched_log
from tests.nodes import TestNode, serving_node
from tests.servers import Database, fresh_database, run_sql

SETTINGS = {
    "fsync": "off",  # a killed process loses nothing that the kernel has; only a lost machine would
    "full_page_writes": "off",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "max_connections": "24",
    "superuser_reserved_connections": "3",
    "shared_buffers": "16MB",
    "wal_buffers": "1MB",
}
IMPATIENT = StoreLimits(query_timeout_s=1.0, connect_timeout_s=1.0)

pytestmark = pytest.mark.slow


@contextmanager
def server_in(folder: str) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(f"{folder}/postgres", settings=SETTINGS)
    server.start()
    try:
        run_sql(server.url(database="postgres"), "create database template_log", server)
        trio.run(partial(migrate_database, server.url(database="template_log"), partitions=4))
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="readback-trouble-") as folder, server_in(folder) as server:
        yield server


@pytest.fixture
def trouble(own_server: EmbeddedPostgres) -> Iterator[Database]:
    with fresh_database(own_server) as fresh:
        yield fresh


@asynccontextmanager
async def crowd_on(database: Database, *, pad: int = 50) -> AsyncIterator[tuple[TestNode, Crowd]]:
    """A node on the database, and its publishers, well under way. At the end the log is checked row by row."""
    async with open_postgres_log(database.url, limits=IMPATIENT) as log:
        # A session that is ended right behind its last reply leaves a goodbye there, which the link calls nonsense.
        with watched_log(expected="append: the database's reply makes no sense: more than the reply"):
            async with serving_node(log) as node:
                await node.stream(ROOM)
                async with publishers(node, pad=pad) as crowd:
                    await crowd.acknowledged(100)
                    yield node, crowd
                    await crowd.until(lambda: node.desk.health().ready)
    async with open_postgres_log(database.admin_url) as log:
        findings = [finding async for _done, _all, finding in log.check() if finding is not None]
        assert findings == []
        total = len(crowd.said)
        assert database.sql("select count(*), count(distinct key), max(seq) from readback.events") == "|".join(
            [str(total)] * 3
        )


def processes(server: EmbeddedPostgres) -> list[int]:
    """The postmaster and its children, the postmaster first."""
    assert server.pid is not None
    tasks = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, tasks)]


def send_signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


async def bring_back(server: EmbeddedPostgres) -> None:
    await trio.to_thread.run_sync(server.stop)
    server.launch()  # on the main thread, whose end is the server's
    await trio.to_thread.run_sync(server.wait_ready)


async def test_all_of_postgres_is_killed_amid_commits(trouble: Database) -> None:
    """SIGKILL of every process, three times over: commits whose answer was lost are found again by their keys."""
    async with crowd_on(trouble) as (node, crowd):
        for _ in range(3):
            send_signal(processes(trouble.server), signal.SIGKILL)
            await crowd.refusals(20)
            health = node.desk.health()
            assert health.live
            assert not health.ready
            assert health.reasons[0].startswith("the log cannot be reached: the database ")
            await bring_back(trouble.server)
            await crowd.acknowledged(100)


async def test_one_backend_is_killed_and_postgres_recovers_by_itself(trouble: Database) -> None:
    """The postmaster ends every session and replays its log; nobody but us brings the links back."""
    async with crowd_on(trouble) as (_, crowd):
        for _ in range(3):
            pids = trouble.sql(
                "select string_agg(pid::text, ' ') from pg_stat_activity where usename = 'readback_gateway'"
            )
            send_signal([int(pids.split()[0])], signal.SIGKILL)
            await crowd.refusals()
            await crowd.acknowledged(100)


async def test_postgres_is_stopped_for_a_while(trouble: Database) -> None:
    """A clean stop and a start by the operator: refused meanwhile, again and again, and then not."""
    async with crowd_on(trouble) as (node, crowd):
        await trio.to_thread.run_sync(trouble.server.stop)
        await crowd.refusals(200)
        assert not node.desk.health().ready
        await bring_back(trouble.server)
        await crowd.acknowledged(200)


async def test_every_session_is_ended_by_the_operator(trouble: Database) -> None:
    """``pg_terminate_backend`` on all our links at once: new ones are made without anyone's help."""
    async with crowd_on(trouble) as (_, crowd):
        for _ in range(3):
            trouble.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'readback_gateway'")
            await crowd.acknowledged(100)


async def test_postgres_is_frozen_and_goes_on(trouble: Database) -> None:
    """SIGSTOP: no answer is no answer, after the time a commit may take. What was frozen amid a commit commits when it
    goes on, long after its senders were told to repeat; each message lands once all the same."""
    async with crowd_on(trouble) as (node, crowd):
        pids = processes(trouble.server)
        send_signal(pids, signal.SIGSTOP)
        try:
            await crowd.refusals(40)
            assert "took too long" in node.desk.health().reasons[0]
        finally:
            send_signal(pids, signal.SIGCONT)
        await crowd.acknowledged(200)


async def test_a_lock_held_by_someone_else(trouble: Database) -> None:
    """Somebody's forgotten transaction holds a partition: its sends wait, are refused in time, and land once."""
    script = "begin; lock table readback.events in exclusive mode; select 'held'; select pg_sleep(600);"
    async with crowd_on(trouble) as (_, crowd):
        holder = await trio.lowlevel.open_process(
            [str(trouble.server.bin_dir / "psql"), trouble.admin_url, "-XqAtc", script], stdout=subprocess.PIPE
        )
        try:
            await crowd.refusals(20)
        finally:
            trouble.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where query like '%pg_sleep%' and pid <> pg_backend_pid()"
            )
            holder.kill()
            await holder.wait()
        await crowd.acknowledged(100)


_HOG = """
import asyncio, sys, asyncpg
async def main():
    held, full = [], False
    while True:
        try:
            held.append(await asyncpg.connect(sys.argv[1]))
        except asyncpg.TooManyConnectionsError:
            if not full:
                print("full", flush=True)
            full = True
            await asyncio.sleep(0.002)
asyncio.run(main())
"""


async def test_others_take_all_connections(trouble: Database) -> None:
    """Too many connections: our links are ended and somebody else takes their places. Said in plain words, and over
    when there is room again."""
    async with crowd_on(trouble) as (node, crowd):
        url = trouble.server.url(user="readback_gateway", database="template_log")
        hog = await trio.lowlevel.open_process([sys.executable, "-c", _HOG, url], stdout=subprocess.PIPE)
        assert hog.stdout is not None
        try:
            with trio.fail_after(PATIENCE_S):
                assert await hog.stdout.receive_some() == b"full\n"
                reasons: set[str] = set()
                while not any("no connection left" in reason for reason in reasons):
                    trouble.sql(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where usename = 'readback_gateway' and datname = current_database()"
                    )
                    await trio.sleep(0.02)  # for the hog to be there first
                    reasons.update(node.desk.health().reasons)
            await crowd.refusals(20)
        finally:
            hog.kill()
            await hog.wait()
        await crowd.acknowledged(100)


@pytest.fixture
def full_disk() -> Iterator[tuple[str, Database]]:
    with folder_on_small_disk("400m") as (folder, why_not):
        if why_not:
            pytest.skip(why_not)
        with server_in(str(folder)) as server, fresh_database(server) as fresh:
            yield str(folder), fresh


async def test_the_disk_is_full(full_disk: tuple[str, Database]) -> None:
    """Sends are refused, health says why in plain words, `doctor` finds it, and space is all that it takes to go on."""
    folder, database = full_disk
    filler = Path(folder) / "filler"
    async with crowd_on(database, pad=2_000) as (node, crowd):
        fill(filler)
        await crowd.refusals(40)
        assert node.desk.health().reasons == ["the log cannot be reached: the database's disk is full"]
        finding = next(f for f in look_at_data(Config(data=Path(folder))) if f.check == "disk")
        assert finding.level == "fail"
        assert "Postgres stops committing" in finding.advice
        await crowd.refusals(40)
        filler.unlink()
        await crowd.acknowledged(200)
