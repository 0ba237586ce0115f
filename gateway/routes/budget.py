"""What tenants may spend on providers of routes: so many calls a UTC day, all nodes and restarts together.

Hard means that it is never more. So a node does not count on its own: it takes leave for a few calls at once of a `Purse`
that all nodes share (a row a tenant and day in Postgres), and what it took and did not use when it ends, or when the day
does, is lost to that tenant: a percent of the day's calls at most, a node. A purse that cannot be asked grants nothing:
arrival times go on without.

An Nth part for each node, as quotas are (docs/decisions/0048), would be forgotten by each restart, and a tenant whose trips
are all on one node would have an Nth of what it pays for.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from core.geo.routing import Purse
from core.ports import Unavailable

DAY_S: Final = 86_400
LEASE_PART: Final = 500
"""A lease is this part of a day's calls at most, so that few are lost with it."""
LEASE_MAX: Final = 20
"""Calls taken at once: one question to the purse in so many calls."""
TENANTS_MAX: Final = 10_000
"""Remembered here; who was not heard of longest loses what is left of a lease."""
AWAY_S: Final = 5.0
"""How long a purse that could not be asked is not asked again, by anybody: it is the database."""

log = logging.getLogger("readback.routes")


class _Lease:
    __slots__ = ("day", "left", "none_of")

    def __init__(self, day: int) -> None:
        self.day = day
        self.left = 0
        self.none_of: int | None = None
        """The day's bound of which nothing is left; another bound (the tenants file was read anew) is asked for again."""


class Budget:
    """``most_of`` says how many calls a day a tenant may make; ``wall`` is Unix time in seconds."""

    def __init__(self, purse: Purse, most_of: Callable[[str], int], wall: Callable[[], float]) -> None:
        self._purse = purse
        self._most_of = most_of
        self._wall = wall
        self._leases: OrderedDict[str, _Lease] = OrderedDict()
        self._away_until_s = 0.0

    async def take(self, tenant: str) -> bool:
        """Whether one call may be made; it is spent then."""
        now_s = self._wall()
        day, most = int(now_s // DAY_S), self._most_of(tenant)
        lease = self._leases.get(tenant)
        if lease is None or lease.day != day:
            lease = self._leases[tenant] = _Lease(day)
        self._leases.move_to_end(tenant)
        if len(self._leases) > TENANTS_MAX:
            self._leases.popitem(last=False)
        if most <= 0 or lease.none_of == most:
            return False
        if not lease.left:
            if 0.0 <= self._away_until_s - now_s <= AWAY_S:
                return False
            wanted = min(max(most // LEASE_PART, 1), LEASE_MAX)
            try:
                granted = await self._purse.grant(tenant, day, wanted, most)
            except Unavailable as error:
                log.warning("calls for routes cannot be accounted for, so none is made: %s", error)
                self._away_until_s = now_s + AWAY_S
                return False
            lease.left += granted
            if not granted:
                lease.none_of = most
                log.info("tenant %s has used up its %d calls for routes of today", tenant, most)
        # Another of the tenant's calls may have used the lease up while the purse was asked.
        if not lease.left:
            return False
        lease.left -= 1
        return True
