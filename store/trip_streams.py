"""The names of a tenant's trips, read out of Postgres page by page. Works with the gateway's own login.

For: `readback eta export`. Promises: reads only, and of this tenant alone; those made meanwhile may be among them or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import asyncpg

from store.links import Links

PAGE: Final = 1_000
_FROM: Final = "trip:"
_BEFORE: Final = "trip;"
"""The character after the colon: names compare by bytes."""


class TripStream(NamedTuple):
    sid: int
    name: str


async def _in_tenant(link: asyncpg.Connection, sql: str, tenant: str, *args: object) -> list[asyncpg.Record]:
    async with link.transaction(readonly=True):
        await link.execute("select set_config('readback.tenant', $1, true)", tenant)
        rows: list[asyncpg.Record] = await link.fetch(sql, tenant, *args)
        return rows


async def count_trips(links: Links, tenant: str) -> int:
    sql = "select count(*) from readback.streams where tenant = $1 and stream >= $2 and stream < $3"
    rows = await links.run(_in_tenant, sql, tenant, _FROM, _BEFORE)
    return int(rows[0][0])


async def trips_of(links: Links, tenant: str) -> AsyncIterator[TripStream]:
    """By name."""
    sql = (
        "select sid, stream from readback.streams where tenant = $1 and stream > $2 and stream < $3 "
        "order by stream limit $4"
    )
    after = _FROM
    while True:
        rows = await links.run(_in_tenant, sql, tenant, after, _BEFORE, PAGE)
        for row in rows:
            yield TripStream(row["sid"], row["stream"])
        if len(rows) < PAGE:
            return
        after = rows[-1]["stream"]
