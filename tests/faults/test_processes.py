"""Node processes and their Redis are killed, stopped and drained under people who talk: nothing is lost, nothing doubled.

Everything is looked at from outside: what clients see, ``/readyz``, ``/metrics``, exit statuses, and Postgres at the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.faults.conftest import Cell
from tests.faults.crowd import PATIENCE_S, Crowd, Person, crowd_on, make_streams, read_log
from tests.faults.histories import History, findings
from tests.faults.inside import present_everywhere
from tests.faults.library import LibraryUser
from tests.faults.processes import NodeProcess, on_all
from tests.nodes import until
from tests.wire_client import hello

pytestmark = pytest.mark.slow


async def bus_is_used(nodes: list[NodeProcess], crowd: Crowd) -> None:
    """Readiness and metrics say that the bus is well, and every node takes batches from it."""

    async def look(node: NodeProcess) -> None:
        await node.bus_is(True)
        before = await node.metric("readback_bus_batches_in_total")
        await crowd.delivered(10)
        await node.rises("readback_bus_batches_in_total", before)

    await on_all(nodes, look)


async def log_is_tailed(nodes: list[NodeProcess], crowd: Crowd) -> None:
    """They say that it is not, stay ready, and everything goes on by the log."""

    async def look(node: NodeProcess) -> None:
        await node.bus_is(False)
        before = await node.metric("readback_tailed_total")
        await crowd.delivered(20)
        await node.rises("readback_tailed_total", before)

    await on_all(nodes, look)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_redis_goes_away_and_comes_back(cell: Cell, how: str) -> None:
    """Said by every node while it lasts; then the bus is used again, without anybody's help."""
    nodes, redis = cell.fleet.nodes, cell.redis
    async with crowd_on(cell.fleet.urls, cell.database, [f"chat:redis-{how}"]) as crowd:
        redis.kill() if how == "killed" else redis.freeze()
        try:
            await log_is_tailed(nodes, crowd)
        finally:
            redis.start() if how == "killed" else redis.thaw()
        await bus_is_used(nodes, crowd)
        assert all(person.welcomed == 1 for person in crowd.people)


@asynccontextmanager
async def ghost(node: NodeProcess, stream: str, crowd: Crowd) -> AsyncIterator[None]:
    """Somebody whom everybody sees on this node, and who goes nowhere else when it ends."""

    async def haunt() -> None:
        async with hello(node.url, "user:ghost", {stream: {}}) as client:
            try:
                # trio-websocket never ends a connection that broke while a message waited to be read.
                while True:
                    await client.websocket.get_message()
            except ConnectionClosed:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(haunt)
        await crowd.until(lambda: all(seen(person, stream, "online") for person in crowd.people))
        yield
        nursery.cancel_scope.cancel()


def seen(person: Person, stream: str, value: str) -> bool:
    """Whether the ghost is that, as far as this person was told."""
    return person.present.get((stream, "user:ghost"), "offline") == value


async def test_a_node_is_killed(cell: Cell) -> None:
    """kill -9: its people resume elsewhere with the dead node's tokens; who does not come back is offline to all one
    lease later."""
    room = "chat:node-killed"
    victim = cell.fleet.nodes[2]
    async with crowd_on(cell.fleet.urls, cell.database, [room]) as crowd:
        people = crowd.on("c")
        async with ghost(victim, room, crowd):
            victim.kill()
        await crowd.until(lambda: all(person.resumed == 1 for person in people))
        assert sum(person.rejected for person in people) == 0
        await crowd.delivered(60)
        await crowd.until(lambda: all(seen(person, room, "offline") for person in crowd.people))
        await present_everywhere(crowd, room, crowd.people)
        assert all(person.welcomed == 1 for person in crowd.people if person not in people)
        await cell.fleet.up()
        await crowd.join("back", "c", [room])
        await present_everywhere(crowd, room, crowd.people)


async def test_a_node_is_killed_while_redis_is_away(cell: Cell) -> None:
    """No node can ask whether a token was used, so each decides alone: its people are whole all the same; presence is
    as last known until Redis is back, and right one lease later."""
    room = "chat:both-gone"
    victim = cell.fleet.nodes[2]
    async with crowd_on(cell.fleet.urls, cell.database, [room]) as crowd:
        people = crowd.on("c")
        async with ghost(victim, room, crowd):
            cell.redis.kill()
            await on_all(cell.fleet.nodes, lambda node: node.bus_is(False))
            victim.kill()
        await crowd.until(lambda: all(person.resumed == 1 for person in people))
        await crowd.delivered(60)
        assert all(seen(person, room, "online") for person in crowd.people if person not in people)
        cell.redis.start()
        await bus_is_used(cell.fleet.nodes[:2], crowd)
        await crowd.until(lambda: all(seen(person, room, "offline") for person in crowd.people))
        await present_everywhere(crowd, room, crowd.people)
        assert all(person.welcomed == 1 for person in crowd.people if person not in people)


async def test_a_node_stands_still(cell: Cell) -> None:
    """SIGSTOP for longer than its lease: to the others its people leave; it goes on as if nothing had been, reads what
    it missed by position, and its people are back."""
    room = "chat:node-stopped"
    sleeper = cell.fleet.nodes[2]
    async with crowd_on(cell.fleet.urls, cell.database, [room]) as crowd:
        awake = crowd.on("a") + crowd.on("b")
        async with ghost(sleeper, room, crowd):
            sleeper.pause()
            try:
                await crowd.acknowledged(60)
                await crowd.until(lambda: all(seen(person, room, "offline") for person in awake))
            finally:
                sleeper.go_on()
            await crowd.delivered(30)
            await crowd.until(lambda: all(seen(person, room, "online") for person in crowd.people))
        await crowd.until(lambda: all(seen(person, room, "offline") for person in crowd.people))
        await present_everywhere(crowd, room, crowd.people)
        assert all(person.welcomed == 1 for person in crowd.people)


async def test_a_node_is_drained(cell: Cell) -> None:
    """SIGTERM: each client of the Python library moves at its own time, and its program notices nothing; the node
    commits what it took, says what became of everybody, and ends with status 0 inside its window."""
    room = "chat:node-drained"
    await make_streams(cell.database, [room])
    history = History()
    people = [LibraryUser(f"t{number}", history, room) for number in range(12)]
    leaving = cell.fleet.nodes[2]
    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(person.run, list(cell.fleet.urls.values()))
        await until(lambda: min(person.sent for person in people) >= 10, PATIENCE_S)
        here = int((await leaving.health())["facts"]["open"])
        leaving.drain()
        assert await leaving.ended() == 0
        assert f"drained: {here} clients told, {here} left by themselves, 0 sent away" in leaving.words()
        goal = max(person.sent for person in people) + 10
        await until(lambda: min(person.sent for person in people) >= goal, PATIENCE_S)
        await cell.fleet.up()
        for person in people:
            person.quiet = True
        await until(lambda: all(person.silent for person in people), PATIENCE_S)
        head = sum(person.sent for person in people)
        await until(lambda: all(person.cursor >= head for person in people), PATIENCE_S)
        for person in people:
            assert (person.client.stats.duplicates, person.client.stats.gaps) == (0, 0)
            person.done.set()
    assert findings(history, await read_log(cell.database, [room])) == []
