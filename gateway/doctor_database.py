"""The doctor's look at the database: does it answer, does it keep what it commits, and is it closed to other tenants?

For: `gateway.doctor`. Promises: reads catalogues and settings only, as the very user the gateway connects as, within a
few seconds. Does not: check events (`readback check` does), or start a database that is stopped.

Three of these findings guard promises of the wire contract: ``ok`` means committed (fsync, synchronous_commit), nothing
crosses a tenant (row-level security, forced; a user that it binds), and the log is written by its functions alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

import asyncpg

from gateway.config import Config
from gateway.doctor import Finding, Level
from store.embedded import running_url
from store.migrations import SchemaError, check_schema

if TYPE_CHECKING:
    from asyncpg import Connection

TIMEOUT_S = 5.0
ROUND_TRIPS = 5
ROUND_TRIP_WARN_MS = 5.0  # every commit waits for one; a database in another building shows here
CLOCK_WARN_S = 2.0
CLOCK_FAIL_S = 30.0  # the leeway of a token's times
LINKS_SPARE = 20  # a node takes up to sixteen, and somebody must get in beside it

MUST_BE_ON = {
    "fsync": "a power cut may lose what was acknowledged, or the whole database",
    "full_page_writes": "a power cut may leave half-written pages",
    "synchronous_commit": "a crash may lose the last acknowledged events",
}


def look_at_database(config: Config) -> Iterator[Finding]:
    url = config.database_url or running_url(config.postgres_dir, user="readback_gateway")
    if url is None:
        where = f"its own, in {config.postgres_dir}"
        seen = f"{where}, is not running" if config.postgres_dir.exists() else f"{where}, will be made"
        yield Finding("database", "ok", f"{seen}; for another, give --database-url")
        return
    yield from asyncio.run(_examine(url, config))


async def _examine(url: str, config: Config) -> list[Finding]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            link: Connection = await asyncpg.connect(url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no answer"
        return [Finding("database", "fail", f"cannot connect: {reason}", _advice_for(error))]
    try:
        findings: list[Finding] = []
        for look in (_server, _durability, _user, _schema, _walls, _links, _clock):
            try:
                findings += await look(link)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                findings.append(Finding("database", "fail", f"{look.__name__[1:]}: {error}", "see the server's log"))
        return findings
    finally:
        link.terminate()


def _advice_for(error: Exception) -> str:
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):  # wrong password, unknown user
        return "check user and password of the URL, and the server's pg_hba.conf"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "create the database, then run readback migrate"
    if isinstance(error, ValueError):
        return "the URL is malformed: postgresql://user:password@host:5432/database"
    return "is Postgres running, and reachable from here?"


async def _server(link: Connection) -> list[Finding]:
    version = link.get_server_version()
    waits_ms = []
    for _ in range(ROUND_TRIPS):
        begin = time.perf_counter()
        await link.fetchval("select 1")
        waits_ms.append((time.perf_counter() - begin) * 1e3)
    seen = f"Postgres {version.major}.{version.minor}, {median(waits_ms):.1f} ms a round trip"
    findings = []
    if version.major < 14:
        findings.append(Finding("database", "fail", seen, "Readback needs Postgres 14 or newer"))
    elif median(waits_ms) > ROUND_TRIP_WARN_MS:
        findings.append(
            Finding("database", "warn", seen, "bring gateway and database closer: every send waits for one")
        )
    else:
        findings.append(Finding("database", "ok", seen))
    if await link.fetchval("select pg_is_in_recovery()"):
        findings.append(Finding("database", "fail", "this server is a read-only standby", "connect to the primary"))
    elif await link.fetchval("show default_transaction_read_only") == "on":
        findings.append(
            Finding("database", "fail", "transactions are read-only here", "alter the user or the database")
        )
    return findings


async def _durability(link: Connection) -> list[Finding]:
    findings = []
    for name, danger in MUST_BE_ON.items():
        value = await link.fetchval("select current_setting($1)", name)
        if value not in ("on", "remote_apply", "remote_write", "local") or (
            name != "synchronous_commit" and value != "on"
        ):
            findings.append(Finding("durability", "fail", f"{name} is {value}: {danger}", f"set {name} = on"))
    if not findings:
        findings.append(Finding("durability", "ok", f"{', '.join(MUST_BE_ON)} are on: acknowledged means on disk"))
    return findings


async def _user(link: Connection) -> list[Finding]:
    row = await link.fetchrow(
        "select current_user as name, rolsuper, rolbypassrls, "
        "exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = 'readback' and c.relkind = 'r' and pg_has_role(current_user, c.relowner, 'member')) as owner "
        "from pg_roles where rolname = current_user"
    )
    assert row is not None, "current_user is a role"
    too_much = [
        what
        for what, true in (
            ("is a superuser", row["rolsuper"]),
            ("bypasses row-level security", row["rolbypassrls"]),
            ("may act as the tables' owner", row["owner"]),
        )
        if true
    ]
    if too_much:
        advice = "let the gateway connect as readback_gateway, which migrate makes"
        return [Finding("database user", "fail", f"{row['name']} {' and '.join(too_much)}", advice)]
    return [Finding("database user", "ok", f"{row['name']} owns nothing and is bound by row-level security")]


async def _schema(link: Connection) -> list[Finding]:
    try:
        await check_schema(link)
    except SchemaError as error:
        seen, _, advice = str(error).partition(": ")
        return [Finding("schema", "fail", seen, advice)]
    return [Finding("schema", "ok", "is this version's")]


async def _walls(link: Connection) -> list[Finding]:
    """Row-level security, enabled and forced, on every table that holds a tenant's rows."""
    rows = await link.fetch(
        "select c.relname, c.relrowsecurity and c.relforcerowsecurity as closed "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = 'readback' and c.relkind in ('r', 'p') and exists "
        "(select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant') order by 1"
    )
    open_tables = [row["relname"] for row in rows if not row["closed"]]
    if open_tables:
        advice = "alter table readback.<name> enable row level security; … force row level security"
        return [Finding("tenant walls", "fail", f"not forced on {', '.join(open_tables)}", advice)]
    if not rows:
        return []  # no schema, which was said
    return [
        Finding("tenant walls", "ok", f"row-level security is forced on {', '.join(row['relname'] for row in rows)}")
    ]


async def _links(link: Connection) -> list[Finding]:
    most = int(await link.fetchval("show max_connections"))
    used = await link.fetchval("select count(*) from pg_stat_activity where backend_type = 'client backend'")
    seen = f"{used} of {most} connections are in use"
    if most - used < LINKS_SPARE:
        return [
            Finding("links", "warn", seen, "raise max_connections, or stop what holds them: a node takes up to sixteen")
        ]
    return [Finding("links", "ok", seen)]


async def _clock(link: Connection) -> list[Finding]:
    before = time.time()
    theirs = float(await link.fetchval("select extract(epoch from clock_timestamp())"))
    apart_s = abs(theirs - (before + time.time()) / 2)
    seen = f"{apart_s:.1f} s apart from the database's"
    if apart_s > CLOCK_WARN_S:
        level: Level = "fail" if apart_s > CLOCK_FAIL_S else "warn"
        return [Finding("clock", level, seen, "synchronise both machines (NTP): tokens and times depend on it")]
    return [Finding("clock", "ok", seen)]
