"""The servers that tests run against: one Postgres a session, a fresh database a test.

The Postgres is the embedded one with fsync off, in a temporary folder, stopped by its own pid when the session ends (and
by the kernel, should the session be killed). Import the fixtures where they are wanted::

    from tests.servers import database, postgres_server  # noqa: F401
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count

import pytest
import trio

from store.embedded import SUPERUSER, UNSAFE_SETTINGS, EmbeddedPostgres
from store.postgres import migrate_database

GATEWAY_USER = "readback_gateway"
TEST_PARTITIONS = 4  # fewer than the default, so that streams of one test meet in a partition
_names = count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated, empty log of one test's own."""

    server: EmbeddedPostgres
    name: str

    @property
    def url(self) -> str:
        """As the gateway logs in."""
        return self.server.url(user=GATEWAY_USER, database=self.name)

    @property
    def admin_url(self) -> str:
        return self.server.url(user=SUPERUSER, database=self.name)

    def sql(self, script: str, *, user: str = SUPERUSER) -> str:
        """What psql prints for a script, unaligned; raises with psql's words where it fails."""
        return run_sql(self.server.url(user=user, database=self.name), script, self.server)


def run_sql(url: str, script: str, server: EmbeddedPostgres) -> str:
    done = subprocess.run(
        [server.bin_dir / "psql", url, "-XqAt", "-v", "ON_ERROR_STOP=1"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode != 0:
        raise AssertionError(done.stderr.strip())
    return done.stdout.strip()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A running server with a migrated template; a session's first use takes about two seconds."""
    with tempfile.TemporaryDirectory(prefix="readback-test-") as folder:
        server = EmbeddedPostgres(f"{folder}/postgres", settings=UNSAFE_SETTINGS)
        server.start()
        try:
            run_sql(server.url(database="postgres"), "create database template_log", server)
            migration = partial(migrate_database, server.url(database="template_log"), partitions=TEST_PARTITIONS)
            # In a thread, because the first test to ask may be inside trio.run already.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(trio.run, migration).result()
            yield server
        finally:
            server.stop()


@contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[Database]:
    """A copy of the template (about 50 ms), dropped afterwards whoever is still connected."""
    name = f"test_{next(_names)}"
    admin = server.url(database="postgres")
    run_sql(admin, f"create database {name} template template_log", server)
    fresh = Database(server, name)
    fresh.sql("update readback.meta set epoch = gen_random_uuid()")  # not the template's: one life of the log each
    try:
        yield fresh
    finally:
        run_sql(admin, f"drop database {name} with (force)", server)


@pytest.fixture
def database(postgres_server: EmbeddedPostgres) -> Iterator[Database]:
    """A fresh log of this test's own."""
    with fresh_database(postgres_server) as fresh:
        yield fresh
