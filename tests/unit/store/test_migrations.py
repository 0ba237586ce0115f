"""Migrations: once each, in order, one at a time, and never on a database that this code does not know."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
import trio

from core.ports import Unavailable
from store import migrations
from store.embedded import UNSAFE_SETTINGS, EmbeddedPostgres, running_postgres
from store.migrations import Migration, SchemaError, load_migrations
from store.postgres import migrate_database, open_postgres_log
from tests.servers import GATEWAY_USER, Database, database, postgres_server, run_sql  # noqa: F401


@pytest.fixture
def empty(postgres_server: EmbeddedPostgres) -> Iterator[Database]:  # noqa: F811
    """A database without a log."""
    admin = postgres_server.url(database="postgres")
    run_sql(admin, "create database empty_log", postgres_server)
    yield Database(postgres_server, "empty_log")
    run_sql(admin, "drop database empty_log with (force)", postgres_server)


async def open_and_close(url: str) -> None:
    async with open_postgres_log(url):
        pass


async def test_migrating_twice_does_nothing_the_second_time(empty: Database) -> None:
    """The names of what was applied come back, in order; then none. The log's life and size stay."""
    applied = await migrate_database(empty.admin_url, partitions=7)
    assert applied == [f"{each.version:04}_{each.name}" for each in load_migrations()]
    epoch = empty.sql("select epoch, partitions from readback.meta")
    assert await migrate_database(empty.admin_url, partitions=9) == []
    assert empty.sql("select epoch, partitions from readback.meta") == epoch
    assert epoch.endswith("|7")
    assert empty.sql("select count(*) from readback.partitions") == "7"


async def test_two_nodes_migrating_at_once_take_turns(empty: Database) -> None:
    """One applies everything, the other nothing; neither fails."""
    applied: list[list[str]] = []

    async def migrate() -> None:
        applied.append(await migrate_database(empty.admin_url))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(migrate)
    assert sorted(map(len, applied)) == [0, 0, len(load_migrations())]


async def test_no_superuser_is_needed() -> None:
    """The right to create roles, and a schema in the database, is enough; the gateway then logs in as its own role."""
    with tempfile.TemporaryDirectory(prefix="readback-test-") as folder:
        async with running_postgres(f"{folder}/postgres", settings=UNSAFE_SETTINGS) as server:
            script = "create role boss login createrole; grant create on database readback to boss"
            await trio.to_thread.run_sync(run_sql, server.url(), script, server)
            assert len(await migrate_database(server.url(user="boss"))) == len(load_migrations())
            assert await migrate_database(server.url(user="boss")) == []
            async with open_postgres_log(server.url(user=GATEWAY_USER)) as log:
                assert sum(await log.heads()) == 0


async def test_a_failure_leaves_the_database_as_it_was(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing, also over several files."""
    known = load_migrations()
    broken = [*known, Migration(len(known) + 1, "broken", "select no_such_function()")]
    monkeypatch.setattr(migrations, "load_migrations", lambda: broken)
    with pytest.raises(Exception, match="no_such_function"):
        await migrate_database(empty.admin_url)
    assert empty.sql("select count(*) from pg_namespace where nspname = 'readback'") == "0"


@pytest.mark.parametrize("partitions", [0, -1, 1025])
async def test_a_number_of_partitions_that_makes_no_sense(empty: Database, partitions: int) -> None:
    """Said in words, before anything is made."""
    with pytest.raises(SchemaError, match="partitions must be 1 to 1024"):
        await migrate_database(empty.admin_url, partitions=partitions)


async def test_a_database_without_a_log(empty: Database) -> None:
    """The gateway says which command is missing."""
    with pytest.raises(SchemaError, match="run `readback migrate`"):
        await open_and_close(empty.admin_url)


async def test_a_newer_database_is_refused(database: Database) -> None:  # noqa: F811
    """By the gateway and by migrate, with what to do."""
    database.sql("insert into readback.migrations (version, name, checksum) values (99, 'future', 'x')")
    with pytest.raises(SchemaError, match=r"has migration 99, this code knows \d+: run the newer version"):
        await open_and_close(database.url)
    with pytest.raises(SchemaError, match="run the newer version"):
        await migrate_database(database.admin_url)


async def test_an_older_database_is_refused_by_the_gateway(database: Database) -> None:  # noqa: F811
    """Which names the command that helps."""
    database.sql("delete from readback.migrations where version = (select max(version) from readback.migrations)")
    with pytest.raises(SchemaError, match="1 migrations behind this code: run `readback migrate`"):
        await open_and_close(database.url)


async def test_a_file_that_was_edited_after_it_was_applied(database: Database) -> None:  # noqa: F811
    """Is noticed by its checksum."""
    database.sql("update readback.migrations set checksum = 'other' where version = 1")
    with pytest.raises(SchemaError, match="0001 was applied as 'tables' with another content"):
        await open_and_close(database.url)


async def test_an_address_that_leads_nowhere(database: Database) -> None:  # noqa: F811
    """Unavailable, with a reason that names no address."""
    with pytest.raises(Unavailable, match="the database does not exist"):
        await open_and_close(database.server.url(user=GATEWAY_USER, database="nowhere"))
    with pytest.raises(Unavailable, match="the database refuses our login"):
        await open_and_close(database.server.url(user="stranger", database=database.name))
    with pytest.raises(Unavailable, match="the database cannot be reached"):
        await open_and_close("postgresql://readback_gateway@/readback?host=/nonexistent&port=1")


def test_migrations_are_numbered_without_gaps() -> None:
    """And checked against what was applied by their content."""
    known = load_migrations()
    assert [each.version for each in known] == list(range(1, len(known) + 1))
    assert len({each.checksum for each in known}) == len(known)
