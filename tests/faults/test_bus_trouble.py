"""Redis misbehaves in every way that it knows, under people who talk on three nodes: they notice nothing.

The nodes are of the test's own process here, so that each case can look at what they count; `test_processes` has the
coarse faults on real processes. What everybody saw is judged at the end of each `crowd_on`.
"""

from __future__ import annotations

import pytest

from store.embedded_redis import EmbeddedRedis
from tests.faults.crowd import crowd_on
from tests.faults.inside import away, cluster_of, nodes_over, operator, reopenings, urls_of, used_again
from tests.nodes import until
from tests.servers import Database

pytestmark = pytest.mark.slow

ROOMS = ["chat:ops", "chat:crew"]


async def test_redis_is_killed_and_comes_back_empty(database: Database, redis_server: EmbeddedRedis) -> None:
    """SIGKILL, twice: while it is away the log is tailed; when it is back the bus is used again."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
    ):
        for _ in range(2):
            redis_server.kill()
            for node in nodes:
                assert "Redis" in await away(node)
            tailed = [node.node.follower.tailed for node in nodes]
            await crowd.delivered(60)
            assert all(node.node.follower.tailed > before for node, before in zip(nodes, tailed, strict=True))
            redis_server.start()
            await used_again(nodes, crowd)
        assert all(person.welcomed == 1 for person in crowd.people)


async def test_redis_is_frozen_and_thaws(database: Database, redis_server: EmbeddedRedis) -> None:
    """SIGSTOP: no link ends, nothing answers. The canary finds it; what was under way comes late and does no harm."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
    ):
        redis_server.freeze()
        try:
            for node in nodes:
                await away(node)
            await crowd.delivered(60)
        finally:
            redis_server.thaw()
        await used_again(nodes, crowd)
        assert all(person.welcomed == 1 for person in crowd.people)


async def test_the_subscribing_links_alone_are_ended(database: Database, redis_server: EmbeddedRedis) -> None:
    """What is published still arrives at Redis; who went deaf listens again, and reads what it missed."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
        operator(redis_server.url) as ask,
    ):
        for _ in range(3):
            reopened = [reopenings(node) for node in nodes]
            assert await ask("CLIENT", "KILL", "TYPE", "pubsub") == len(nodes)
            for node, before in zip(nodes, reopened, strict=True):
                await until(lambda node=node, before=before: reopenings(node) > before)  # type: ignore[misc]
            await used_again(nodes, crowd)
        assert all(person.welcomed == 1 for person in crowd.people)


async def test_redis_ends_listeners_that_are_flooded(database: Database, redis_server: EmbeddedRedis) -> None:
    """A message beyond the output buffer that Redis allows a subscriber: it cuts them all off, each time."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
        operator(redis_server.url) as ask,
    ):
        await ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 32768 1")
        (channel,) = [name for name in await ask("PUBSUB", "CHANNELS", "readback:*") if name.endswith(b":nodes}")]
        for _ in range(3):
            reopened = [reopenings(node) for node in nodes]
            await ask("PUBLISH", channel, b"x" * 4_000_000)
            for node, before in zip(nodes, reopened, strict=True):
                await until(lambda node=node, before=before: reopenings(node) > before)  # type: ignore[misc]
            await used_again(nodes, crowd)
        assert all(person.welcomed == 1 for person in crowd.people)


async def test_the_password_is_changed(database: Database, redis_server: EmbeddedRedis) -> None:
    """Links that are made anew are refused: said in words without the password, and over when it fits again."""
    password = redis_server.password
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
        operator(redis_server.url) as ask,
    ):
        await ask("CONFIG", "SET", "requirepass", "another one")
        await ask("CLIENT", "KILL", "TYPE", "pubsub")
        for node in nodes:
            await until(lambda node=node: "password" in (cluster_of(node).bus.trouble or ""))  # type: ignore[misc]
            reason = await away(node)
            assert password not in reason
        await crowd.delivered(60)
        await ask("CONFIG", "SET", "requirepass", password)
        await used_again(nodes, crowd)
        assert all(person.welcomed == 1 for person in crowd.people)


async def test_redis_is_full(database: Database, redis_server: EmbeddedRedis) -> None:
    """It takes no writes any more: publishing needs none and goes on; a resume is decided without its number."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
        operator(redis_server.url) as ask,
    ):
        await ask("CONFIG", "SET", "maxmemory", "1")
        await used_again(nodes, crowd)
        reopened = [reopenings(node) for node in nodes[:2]]
        await nodes[2].restart()
        moved = [person for person in crowd.people if person.name.startswith("c")]
        await crowd.until(lambda: all(person.resumed for person in moved))
        await crowd.delivered(30)
        assert [reopenings(node) for node in nodes[:2]] == reopened  # one answer refused is not the bus away
        await ask("CONFIG", "SET", "maxmemory", "0")
        await used_again(nodes, crowd)
