"""What tenants spent on providers of routes, in Postgres: `core.geo.routing.Purse` over store/sql/0013_route_calls.sql.

Promises what the port does. A call whose answer was lost may have granted: repeating loses calls and never adds any.
"""

from __future__ import annotations

from store.links import Links


class PostgresPurse:
    def __init__(self, links: Links) -> None:
        self._links = links

    async def grant(self, tenant: str, day: int, wanted: int, most: int) -> int:
        rows = await self._links.fetch("select readback.grant_route_calls($1, $2, $3, $4)", tenant, day, wanted, most)
        granted: int = rows[0][0]
        assert 0 <= granted <= wanted
        return granted
