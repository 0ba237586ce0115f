"""The Postgres of a cluster ends and comes back under people on three nodes: refused meanwhile, nobody cut, all whole after."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from store.embedded import EmbeddedPostgres
from store.embedded_redis import EmbeddedRedis
from store.postgres import migrate_database
from tests.faults.crowd import PATIENCE_S, crowd_on
from tests.faults.inside import nodes_over, present_everywhere, urls_of, used_again
from tests.nodes import until
from tests.servers import TEST_PARTITIONS, Database, fresh_database, run_sql

pytestmark = pytest.mark.slow

OPS = "chat:ops"
GOODBYE = "append: the database's reply makes no sense: more than the reply"
"""So the link calls what a session that is ended right behind its last reply says there."""
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "64MB", "min_wal_size": "32MB"}
"""A killed process loses nothing that the kernel has."""


@pytest.fixture
def own_database() -> Iterator[Database]:
    """On a server that nobody else uses."""
    with tempfile.TemporaryDirectory(prefix="readback-faults-") as folder:
        server = EmbeddedPostgres(f"{folder}/postgres", settings=SETTINGS)
        server.start()
        try:
            run_sql(server.url(database="postgres"), "create database template_log", server)
            trio.run(partial(migrate_database, server.url(database="template_log"), partitions=TEST_PARTITIONS))
            with fresh_database(server) as fresh:
                yield fresh
        finally:
            server.stop()


def kill_all(server: EmbeddedPostgres) -> None:
    """The postmaster first, so that it restarts nobody."""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for pid in (server.pid, *map(int, children)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_postgres_restarts(own_database: Database, redis_server: EmbeddedRedis, how: str) -> None:
    """Every node says so and sends answer unavailable; the bus alone delivers nothing that is not in the log."""
    server = own_database.server
    async with (
        nodes_over(own_database, redis_server.url, expected=GOODBYE) as nodes,
        crowd_on(urls_of(nodes), own_database, [OPS]) as crowd,
    ):
        if how == "killed":
            kill_all(server)
        else:
            await trio.to_thread.run_sync(server.stop)
        for node in nodes:
            await until(lambda node=node: not node.desk.health().ready, PATIENCE_S)  # type: ignore[misc]
            assert node.desk.health().reasons[0].startswith("the log cannot be reached: ")
        goal = crowd.refusals + 30
        await crowd.until(lambda: crowd.refusals >= goal)
        if how == "killed":
            await trio.to_thread.run_sync(server.stop)
        server.launch()  # on the main thread, whose end is the server's
        await trio.to_thread.run_sync(server.wait_ready)
        for node in nodes:
            await until(lambda node=node: node.desk.health().ready, PATIENCE_S)  # type: ignore[misc]
        await used_again(nodes, crowd)
        await present_everywhere(crowd, OPS, crowd.people)
        assert all(person.welcomed == 1 for person in crowd.people)
