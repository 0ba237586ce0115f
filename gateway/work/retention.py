"""The standing job ``retain``: samples of positions go when their tenant no longer keeps them, and the days to come get room.

Once a day, by whichever worker claims it, however many there are; how long each tenant keeps is what the tenants file says by
then. Promises: a run that is ended half-way is done again whole, which changes nothing that it had done. Does not: touch last
positions, which stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from core.tenants import Tenants
from core.tracks import Tracks
from core.work import Task
from gateway.work.long import Step

RETAIN: Final = "retain"
RETAIN_EVERY_S: Final = 86_400.0


class Retain:
    """Counts, as its cursor, the partitions and rows that went since it was made."""

    def __init__(self, tracks: Tracks, tenants: Callable[[], Tenants], wall: Callable[[], float]) -> None:
        self._tracks = tracks
        self._tenants = tenants
        self._wall = wall

    async def step(self, task: Task, at: Any) -> Step:
        tenants = self._tenants()
        days = {name: tenant.arrivals.retention_days for name, tenant in tenants.named.items()}
        gone = await self._tracks.retain(days, tenants.arrivals.retention_days, int(1000 * self._wall()))
        total = (at or 0) + gone
        return Step(total, {"gone": total}, False, RETAIN_EVERY_S)
