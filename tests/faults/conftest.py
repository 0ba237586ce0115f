"""What the cases share: one Postgres (tests.servers), one fleet of node processes on a Redis of its own."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from store.embedded import EmbeddedPostgres
from store.embedded_redis import EmbeddedRedis, embedded_redis
from tests.faults.processes import Fleet
from tests.servers import Database, database, fresh_database, postgres_server  # noqa: F401


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Redis of this case's own, to be killed, frozen, filled."""
    with embedded_redis() as server:
        yield server


@dataclass(frozen=True, slots=True)
class Cell:
    fleet: Fleet
    redis: EmbeddedRedis
    database: Database


@pytest.fixture(scope="session")
def shared_cell(postgres_server: EmbeddedPostgres) -> Iterator[Cell]:  # noqa: F811
    with (
        tempfile.TemporaryDirectory(prefix="readback-faults-") as folder,
        fresh_database(postgres_server) as fresh,
        embedded_redis() as redis,
    ):
        fleet = Fleet(Path(folder), fresh.url, redis.url)
        try:
            yield Cell(fleet, redis, fresh)
        finally:
            fleet.end()
        for node in fleet.nodes:
            assert "Traceback" not in node.words(), node.words()[-4000:]


@pytest.fixture
async def cell(shared_cell: Cell) -> Cell:
    """Three node processes, their Redis and their Postgres, all up; what a case breaks, the next one finds mended."""
    if shared_cell.redis.pid is None:
        shared_cell.redis.start()
    shared_cell.redis.thaw()
    await shared_cell.fleet.up()
    return shared_cell


@pytest.fixture(autouse=True)
def quiet_peers() -> None:
    """Their debug lines, formatted and kept for each frame, would be most of what these cases cost."""
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
    logging.getLogger("wsproto").setLevel(logging.WARNING)
