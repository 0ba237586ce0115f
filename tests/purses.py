"""A purse of one process: what tenants spent on routes, as `store.postgres_purse` has it for all nodes."""

from __future__ import annotations


class MemoryPurse:
    """`core.geo.routing.Purse`; days that are over are forgotten."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, int], int] = {}

    async def grant(self, tenant: str, day: int, wanted: int, most: int) -> int:
        for key in [key for key in self.spent if key[1] < day - 1]:
            del self.spent[key]
        spent = self.spent.get((tenant, day), 0)
        granted = max(0, min(wanted, most - spent))
        self.spent[tenant, day] = spent + granted
        return granted
