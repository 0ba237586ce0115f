"""One session and two who resume it at once, on two nodes: one speaks for it, whoever it is.

The bus decides, and where it is away, the signature does; then two may speak for a while, and one stays when it is back.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from store.embedded_redis import EmbeddedRedis
from tests.faults.crowd import PATIENCE_S, Frame, eventually, make_streams
from tests.faults.inside import away, nodes_over, operator, whole
from tests.nodes import TestNode
from tests.servers import Database
from tests.wire_client import WireClient, hello, wire_client

pytestmark = pytest.mark.slow

OPS = "chat:ops"


async def resume_at_once(nodes: list[TestNode], stack: AsyncExitStack, frame: Frame) -> dict[str, WireClient]:
    """A client at each node resumes with the same token in the same moment; those who were welcomed, by node."""
    clients = {node._name: await stack.enter_async_context(wire_client(node.url)) for node in nodes}
    welcomed = {}
    for client in clients.values():
        await client.say("resume", resume=frame["resume"], log=frame["log"], streams={OPS: 0})
    for name, client in clients.items():
        answer = await client.next(id=1)
        if answer["op"] == "welcome":
            assert answer["resumed"]
            assert answer["session"] == frame["session"]
            welcomed[name] = client
        else:
            assert answer["code"] == "resume_rejected"
    return welcomed


async def ended(client: WireClient) -> int:
    with trio.fail_after(PATIENCE_S):
        try:
            while True:
                await client.websocket.get_message()
        except ConnectionClosed as closed:
            return 1006 if closed.reason is None else int(closed.reason.code)


async def alive(client: WireClient) -> bool:
    try:
        return bool((await client.ask("ping"))["op"] == "pong")
    except ConnectionClosed:
        return False


async def test_two_resume_with_one_token_at_once(database: Database, redis_server: EmbeddedRedis) -> None:
    """Twenty times over: exactly one is welcomed, the connection on the third node is ended at once with 4504."""
    await make_streams(database, [OPS])
    async with nodes_over(database, redis_server.url) as nodes, AsyncExitStack() as stack:
        winners: set[str] = set()
        client: Any = await stack.enter_async_context(hello(nodes[0].url, "user:amy", {OPS: {}}))
        at, frame = "a", client.seen[0]
        for _ in range(20):
            others = [node for node in nodes if node._name != at]
            welcomed = await resume_at_once(others, stack, frame)
            assert len(welcomed) == 1, (at, list(welcomed))
            assert await ended(client) == 4504
            ((at, client),) = welcomed.items()
            frame = next(f for f in client.seen if f["op"] == "welcome")
            winners.add(at)
            assert await alive(client)
        assert len(winners) > 1


async def test_two_resume_while_redis_is_away(database: Database, redis_server: EmbeddedRedis) -> None:
    """Both are welcomed, for no node can ask another; when Redis is back the one on the higher node stays."""
    await make_streams(database, [OPS])
    async with nodes_over(database, redis_server.url) as nodes, AsyncExitStack() as stack:
        amy = await stack.enter_async_context(hello(nodes[0].url, "user:amy", {OPS: {}}))
        redis_server.kill()
        for node in nodes:
            await away(node)
        welcomed = await resume_at_once(nodes[1:], stack, amy.seen[0])
        assert sorted(welcomed) == ["b", "c"]
        redis_server.start()
        await whole(nodes)
        assert await ended(welcomed["b"]) == 4504
        assert await ended(amy) == 4504
        assert await alive(welcomed["c"])


async def test_a_used_token_stays_used_when_redis_forgets(database: Database, redis_server: EmbeddedRedis) -> None:
    """Redis comes back empty: nodes that speak for sessions tell it again what was used."""
    await make_streams(database, [OPS])
    async with nodes_over(database, redis_server.url) as nodes, AsyncExitStack() as stack:
        amy = await stack.enter_async_context(hello(nodes[0].url, "user:amy", {OPS: {}}))
        welcomed = await resume_at_once(nodes[1:2], stack, amy.seen[0])
        redis_server.kill()
        await away(nodes[2])
        redis_server.start()
        await whole(nodes)
        async with operator(redis_server.url) as ask:
            await eventually(lambda: ask("KEYS", "*:n:s:*"))
        assert await resume_at_once(nodes[2:], stack, amy.seen[0]) == {}
        assert await alive(welcomed["b"])
