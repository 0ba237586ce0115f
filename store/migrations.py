"""The schema's versions: SQL files in order, each applied once, by number, with its checksum kept.

`migrate` brings a database up in one transaction, under a lock that makes two nodes starting at once take turns; a
failure leaves the database as it was. `check_schema` is what a gateway asks at start. Both refuse, in one sentence, a
database newer than this code, and one whose applied files are not the ones this code has.

There is no way down: an older version of the code is served by restoring a backup.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from core.ports import StoreError
from store.layout import PARTITIONS_DEFAULT, PARTITIONS_MAX

LOCK_KEY = 0x7265_6164_6261_636B  # "readback": one lock for the whole server, because roles are the whole server's


class SchemaError(StoreError):
    """The database's schema and this code do not fit; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """All of store/sql, ascending. Numbers start at 1 and have no gaps."""
    found = []
    for file in files("store").joinpath("sql").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    assert [migration.version for migration in found] == list(range(1, len(found) + 1)), "a migration is missing"
    return found


async def migrate(link: asyncpg.Connection, *, partitions: int | None = None) -> list[str]:
    """Apply what is missing; returns the names applied. ``partitions`` counts only where the log is new.

    The link's user needs the right to create roles and a schema: a superuser, or CREATEROLE and CREATE on the database.
    """
    wanted = PARTITIONS_DEFAULT if partitions is None else partitions
    if not 1 <= wanted <= PARTITIONS_MAX:
        raise SchemaError(f"partitions must be 1 to {PARTITIONS_MAX}")
    version = link.get_server_version()
    if version.major < 14:
        raise SchemaError(f"Readback needs Postgres 14 or newer, and this is {version.major}")
    async with link.transaction():
        await link.execute("select pg_advisory_xact_lock($1)", LOCK_KEY)
        await link.execute("create schema if not exists readback")
        await link.execute(
            "create table if not exists readback.migrations (version integer primary key, name text not null, "
            "checksum text not null, applied_at timestamptz not null default clock_timestamp())"
        )
        missing = _missing(await _applied(link), load_migrations())
        for migration in missing:
            await link.execute(migration.sql)
            await link.execute(
                "insert into readback.migrations (version, name, checksum) values ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
        await link.execute("set local role readback_log")
        await link.fetchval("select readback.install($1)", wanted)
    return [f"{migration.version:04}_{migration.name}" for migration in missing]


async def check_schema(link: asyncpg.Connection) -> None:
    """`SchemaError` unless exactly this code's migrations were applied."""
    try:
        applied = await _applied(link)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise SchemaError("this database has no log yet: run `readback migrate`") from None
    except asyncpg.InsufficientPrivilegeError:
        raise SchemaError(
            "this user may not see the log: connect as readback_gateway, or run `readback migrate`"
        ) from None
    missing = _missing(applied, load_migrations())
    if missing:
        raise SchemaError(f"the database is {len(missing)} migrations behind this code: run `readback migrate`")


async def _applied(link: asyncpg.Connection) -> dict[int, tuple[str, str]]:
    rows = await link.fetch("select version, name, checksum from readback.migrations")
    return {row["version"]: (row["name"], row["checksum"]) for row in rows}


def _missing(applied: dict[int, tuple[str, str]], known: list[Migration]) -> list[Migration]:
    newest = max(applied, default=0)
    if newest > len(known):
        raise SchemaError(
            f"the database has migration {newest}, this code knows {len(known)}: "
            "run the newer version of Readback, or restore a backup"
        )
    for migration in known[:newest]:
        name, checksum = applied.get(migration.version, ("nothing", ""))
        if checksum != migration.checksum:
            raise SchemaError(
                f"migration {migration.version:04} was applied as {name!r} with another content than this code has: "
                "run the version of Readback that made this database, or restore a backup"
            )
    return known[newest:]
