"""Fair turns: what tenants put in line is taken so that each gets its share, however much another has put there.

Deficit round robin (Shreedhar and Varghese, 1996). The tenants that wait stand in a round; whose turn it is takes from its
own line, first come first, while its credit covers the next item. When it does not, the tenant gets a quantum times its
weight and the turn goes on, so that over any time in which two tenants wait what they take differs from their weights'
proportion by no more than a quantum, an item and a debt of each.

What an item costs may be known only afterwards (a page of a replay): `charge` puts it on its tenant's account, which may go
below zero, and its next turns pay for it.

Promises: a tenant's items keep their order. A tenant that does not wait has no credit, no debt, and costs nothing. Who comes
new has a quantum at once, at the end of the round. Putting and taking are O(1), amortised, where the weighted quantum is no
smaller than what items cost; else an item takes as many steps as quanta fit into it. Does not: bound itself. Whoever puts
asks `len` and `len_of` before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

WEIGHT_MAX: Final = 100

T = TypeVar("T")


def even(tenant: str) -> int:
    """The weight of every tenant where nobody gave them others."""
    return 1


def bounded(weight: int) -> int:
    """A weight as it is used: from 1, so that nobody is left out, to `WEIGHT_MAX`."""
    return min(max(weight, 1), WEIGHT_MAX)


class _Line(Generic[T]):
    """What one tenant has waiting, with costs. ``held``: what it has in all."""

    __slots__ = ("credit", "held", "items")

    def __init__(self, credit: int) -> None:
        self.items: deque[tuple[int, T]] = deque()
        self.credit = credit
        self.held = 0


class Fair(Generic[T]):
    """``quantum`` is in the unit of the costs. ``weight`` is asked at every turn of a tenant, so that it can be changed."""

    def __init__(self, quantum: int, weight: Callable[[str], int] = even) -> None:
        assert quantum > 0, "a turn must bring something"
        self._quantum = quantum
        self._weight = weight
        self._lines: dict[str, _Line[T]] = {}
        self._round: deque[str] = deque()
        """Who has a turn, the first one now."""
        self._aside: list[str] = []
        self._count = 0
        self.cost = 0
        """Of everything that waits."""

    def __len__(self) -> int:
        return self._count

    def len_of(self, tenant: str) -> int:
        line = self._lines.get(tenant)
        return 0 if line is None else len(line.items)

    def cost_of(self, tenant: str) -> int:
        """Of what this tenant has waiting."""
        line = self._lines.get(tenant)
        return 0 if line is None else line.held

    def put(self, tenant: str, cost: int, item: T) -> None:
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(self._share(tenant))
            self._round.append(tenant)
        line.items.append((cost, item))
        line.held += cost
        self._count += 1
        self.cost += cost

    def peek(self) -> T | None:
        """What `take` takes; ``None`` when nothing waits but what was set aside."""
        return self._turn().items[0][1] if self._round else None

    def take(self) -> T:
        """The next item in fair order. Something must wait that was not set aside."""
        line = self._turn()
        cost, item = line.items.popleft()
        line.credit -= cost
        line.held -= cost
        self._count -= 1
        self.cost -= cost
        if not line.items:
            del self._lines[self._round.popleft()]
        return item

    def charge(self, tenant: str, cost: int) -> None:
        """A tenant has used so much more. One that has nothing waiting owes nothing."""
        line = self._lines.get(tenant)
        if line is not None:
            line.credit -= cost

    def set_aside(self) -> None:
        """What `peek` shows cannot be taken now: its tenant has no turn until `bring_back`, and keeps its place."""
        self._aside.append(self._round.popleft())

    def bring_back(self) -> None:
        """Who was set aside has turns again, before all others."""
        while self._aside:
            self._round.appendleft(self._aside.pop())

    def clear(self) -> None:
        self._lines.clear()
        self._round.clear()
        self._aside.clear()
        self._count = self.cost = 0

    def _share(self, tenant: str) -> int:
        return self._quantum * bounded(self._weight(tenant))

    def _turn(self) -> _Line[T]:
        """The line of the tenant whose turn it is, once turns were passed on to one that can pay."""
        turns = self._round
        while True:
            tenant = turns[0]
            line = self._lines[tenant]
            cost = line.items[0][0]
            if cost <= line.credit:
                return line
            if len(turns) == 1:
                line.credit = cost  # nobody else waits: there is nothing to be fair to, and nothing to pay back later
                return line
            line.credit += self._share(tenant)
            turns.rotate(-1)
