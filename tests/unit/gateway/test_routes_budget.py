"""gateway.routes.budget: a tenant's calls a day are never more, whatever nodes and restarts there are."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from core.ports import Unavailable
from gateway.routes import budget as budget_module
from gateway.routes.budget import DAY_S, LEASE_MAX, Budget
from tests.purses import MemoryPurse

NOON_S = 20_000.5 * DAY_S


class Wall:
    def __init__(self) -> None:
        self.s = NOON_S

    def __call__(self) -> float:
        return self.s


class Counted(MemoryPurse):
    """Tells how often it was asked; waits a turn, as a real one does; is away when told to be."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.away = False

    async def grant(self, tenant: str, day: int, wanted: int, most: int) -> int:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("gone fishing")
        return await super().grant(tenant, day, wanted, most)


async def drained(budget: Budget, tenant: str = "demo", tries: int = 2_000) -> int:
    return sum([await budget.take(tenant) for _ in range(tries)])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=300), st.integers(0, 40))
def test_never_more_than_a_day_s_calls(steps: list[tuple[str, int, bool]], most: int) -> None:
    """Three nodes take as they please and restart as they please, over days."""

    async def live() -> None:
        purse, wall = MemoryPurse(), Wall()
        nodes = {name: Budget(purse, lambda _: most, wall) for name in "abc"}
        made: dict[int, int] = {}
        for name, wait, restarts in steps:
            wall.s += wait * DAY_S / 40
            if restarts:
                nodes[name] = Budget(purse, lambda _: most, wall)
            day = int(wall.s // DAY_S)
            made[day] = made.get(day, 0) + await nodes[name].take("demo")
        assert all(count <= most for count in made.values())

    trio.run(live)


async def test_a_lease_is_not_carried_into_the_next_day() -> None:
    """What was left of yesterday's is gone; today's is whole."""
    purse, wall = MemoryPurse(), Wall()
    budget = Budget(purse, lambda _: 10_000, wall)
    await budget.take("demo")
    wall.s += DAY_S
    assert await drained(budget, tries=12_000) == 10_000
    wall.s += 2 * DAY_S
    await budget.take("demo")
    assert {day for _, day in purse.spent} == {int(wall.s // DAY_S)}


async def test_few_questions_for_many_calls() -> None:
    """Twenty calls a question, of a large budget; of a small one each is asked for, so that none is lost."""
    purse = Counted()
    budget = Budget(purse, lambda tenant: 10_000 if tenant == "large" else 300, Wall())
    assert await drained(budget, "large", 100) == 100
    assert purse.asked == 100 / LEASE_MAX
    assert await drained(budget, "small", 100) == 100
    assert purse.asked == 105


async def test_who_has_used_up_his_asks_no_more() -> None:
    """Until the day ends, or the bound is another."""
    purse, wall, most = Counted(), Wall(), {"demo": 3}
    budget = Budget(purse, lambda tenant: most[tenant], wall)
    assert await drained(budget, tries=100) == 3
    assert purse.asked == 4
    most["demo"] = 5
    assert await drained(budget, tries=100) == 2
    most["demo"] = 0
    assert await drained(budget, tries=100) == 0
    assert purse.asked == 7
    most["demo"] = 5
    wall.s += DAY_S
    assert await budget.take("demo")


async def test_calls_at_once_take_no_more_than_there_is() -> None:
    """While the purse is asked, others ask it too."""
    taken: list[bool] = []
    budget = Budget(Counted(), lambda _: 7, Wall())

    async def take() -> None:
        taken.append(await budget.take("demo"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(take)
    assert sum(taken) == 7


async def test_a_purse_that_is_away_grants_nothing() -> None:
    """And is not asked by each: nothing waits for a database that is gone. Then it goes on."""
    purse, wall = Counted(), Wall()
    budget = Budget(purse, lambda _: 1_000, wall)
    purse.away = True
    assert await drained(budget, tries=100) == 0
    assert purse.asked == 1
    purse.away = False
    wall.s += 5.5
    assert await budget.take("demo")
    wall.s -= 86_400.0 * 3
    assert await budget.take("demo")


async def test_tenants_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was not heard of longest loses his lease, and asks anew; never more than his."""
    monkeypatch.setattr(budget_module, "TENANTS_MAX", 2)
    purse = MemoryPurse()
    budget = Budget(purse, lambda _: 1_000, Wall())
    for _ in range(4):
        for tenant in ("a", "b", "c"):
            assert await budget.take(tenant)
    assert len(budget._leases) == 2
    assert set(purse.spent.values()) == {8}
