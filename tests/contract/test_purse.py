"""The port of purses, in memory and in Postgres: calls that tenants may make of a day, whichever nodes ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from core.geo.routing import Purse
from store.postgres import open_postgres_log
from tests.purses import MemoryPurse
from tests.servers import Database

TODAY = 20_000


@asynccontextmanager
async def purses(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Purse, Purse]]:
    """As two nodes have it."""
    if kind == "memory":
        purse = MemoryPurse()
        yield purse, purse
        return
    database: Database = request.getfixturevalue("database")
    async with open_postgres_log(database.url) as one, open_postgres_log(database.url) as two:
        yield one.purse, two.purse


both = pytest.mark.parametrize("kind", ["memory", "postgres"])


@both
async def test_what_is_left_is_granted_and_no_more(kind: str, request: pytest.FixtureRequest) -> None:
    """To the last call, by either node; then none, until the day's bound is raised, and none where it is lowered."""
    async with purses(kind, request) as (one, two):
        assert [await one.grant("demo", TODAY, 4, 10), await two.grant("demo", TODAY, 4, 10)] == [4, 4]
        assert [await one.grant("demo", TODAY, 4, 10), await two.grant("demo", TODAY, 4, 10)] == [2, 0]
        assert await one.grant("demo", TODAY, 4, 13) == 3
        assert [await two.grant("demo", TODAY, 4, 5), await two.grant("demo", TODAY, 4, 0)] == [0, 0]
        assert await two.grant("demo", TODAY, 4, 14) == 1


@both
async def test_tenants_and_days_are_apart(kind: str, request: pytest.FixtureRequest) -> None:
    """What one has spent takes nothing from another, nor from tomorrow; yesterday's is still known, for a node whose clock is
    behind, and what is older is forgotten."""
    async with purses(kind, request) as (one, two):
        assert await one.grant("demo", TODAY, 9, 9) == 9
        assert await two.grant("other", TODAY, 9, 9) == 9
        assert await two.grant("demo", TODAY + 1, 9, 9) == 9
        assert await one.grant("demo", TODAY, 1, 9) == 0
        assert await one.grant("demo", TODAY + 2, 1, 9) == 1
        assert await one.grant("demo", TODAY + 1, 1, 9) == 0
        assert await one.grant("demo", TODAY, 1, 9) == 1


@both
async def test_who_ask_at_once_are_not_granted_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    """Of forty asks of two nodes the day's calls are granted once."""
    granted: list[int] = []
    rng = Random(7)

    async def ask(purse: Purse, wanted: int) -> None:
        granted.append(await purse.grant("demo", TODAY, wanted, 50))

    async with purses(kind, request) as nodes, trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(ask, nodes[n % 2], rng.randint(1, 5))
    assert (len(granted), sum(granted)) == (40, 50)
