"""One node is cut off from Redis and from nothing else: the log carries the talk both ways, presence heals afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from store.embedded_redis import EmbeddedRedis
from tests.faults.crowd import Crowd, crowd_on, eventually
from tests.faults.inside import away, cluster_of, nodes_over, present_everywhere, urls_of, used_again
from tests.faults.proxy import Proxy, proxy_to
from tests.nodes import TestNode
from tests.servers import Database

pytestmark = pytest.mark.slow

OPS = "chat:ops"


@asynccontextmanager
async def lonely_c(database: Database, server: EmbeddedRedis) -> AsyncIterator[tuple[list[TestNode], Proxy, Crowd]]:
    """Three nodes; c's way to Redis is the proxy."""
    async with proxy_to(server.port) as proxy:

        def url(name: str) -> str:
            port = proxy.port if name == "c" else server.port
            login = urlsplit(server.url).netloc.rpartition("@")[0]
            return f"redis://{login}@127.0.0.1:{port}/0"

        async with (
            nodes_over(database, url) as nodes,
            crowd_on(urls_of(nodes), database, [OPS], a_node=2) as crowd,
        ):
            await present_everywhere(crowd, OPS, crowd.people)
            yield nodes, proxy, crowd


@pytest.mark.parametrize("how", ["stall", "cut"])
async def test_one_node_is_cut_off_from_redis(database: Database, redis_server: EmbeddedRedis, how: str) -> None:
    """The others see its people leave with its lease, it keeps what it knew; when the link is back, everybody is right
    about everybody, those who came meanwhile too."""
    async with lonely_c(database, redis_server) as (nodes, proxy, crowd):
        proxy.stall() if how == "stall" else proxy.cut()
        await away(nodes[2])
        assert cluster_of(nodes[0]).bus.trouble is None
        await crowd.delivered(60)  # to and from c, by the log
        late = await crowd.join("late", "a", [OPS])
        of_c = [person.principal for person in crowd.on("c")]
        (watcher, asker) = (crowd.on("c")[0], crowd.on("a")[0])

        async def c_is_gone() -> bool:
            return not set(of_c) & set(await asker.roster(OPS))

        await eventually(c_is_gone)
        there = await watcher.roster(OPS)
        assert "user:a0" in there
        assert late.principal not in there
        proxy.mend()
        await used_again(nodes, crowd)
        await present_everywhere(crowd, OPS, crowd.people)
        assert watcher.present[OPS, late.principal] == "online"
        assert all(person.welcomed == 1 for person in crowd.people)
