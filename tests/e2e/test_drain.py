"""Deploys: nodes leave one after the other while people talk, with the Python client; nothing is lost or seen twice."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, MutableSequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import trio
from trio.testing import MockClock

from core.limits import Limits
from readback_client import Client, connect
from tests.nodes import TestNode, serving_cluster, serving_node, token, until
from tests.wire_client import hello

ROOMS = 4
PEOPLE = 12
LIMITS = replace(Limits(), drain_per_second_min=1.0)  # so that a handful of clients has slots over seconds


class InOrder(random.Random):
    """Draws as any other, and shuffles nothing."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        pass


async def talk(
    nodes: list[TestNode], sends: int, pause_s: float, meanwhile: Callable[[], Awaitable[None]]
) -> list[Client]:
    """Twelve people in four rooms, each following all and sending into one, while ``meanwhile`` goes on.

    Every send lands once, everybody sees every room whole and in one order, and no node sent anything twice.
    """
    rooms = [f"chat:room-{n}" for n in range(ROOMS)]
    for room in rooms:
        await nodes[0].stream(room)
    total = PEOPLE // ROOMS * sends
    sent: dict[str, list[int]] = {room: [] for room in rooms}
    seen: dict[tuple[int, str], list[tuple[int, str]]] = {}
    clients: list[Client] = []

    async def person(n: int, *, task_status: trio.TaskStatus[None]) -> None:
        rng = random.Random(n)
        urls = [node.url for node in nodes]
        async with connect(urls, token(f"user:p{n}"), rng=rng) as rb, trio.open_nursery() as nursery:
            await rb.ready()
            clients.append(rb)
            for room in rooms:
                nursery.start_soon(follow, n, rb, room)
            room = rooms[n % ROOMS]
            task_status.started()
            for count in range(sends):
                await trio.sleep(rng.uniform(0.5, 1.5) * pause_s)
                sent[room].append((await rb.send(room, {"text": f"{n}.{count}"}, timeout_s=60)).seq)

    async def follow(n: int, rb: Client, room: str) -> None:
        mine = seen[n, room] = []
        with rb.subscribe(room, after=0) as events:
            async for event in events:
                mine.append((event.seq, event.text))
                if len(mine) == total:
                    return

    with trio.fail_after(600):  # by the mock clock
        async with trio.open_nursery() as nursery:
            for n in range(PEOPLE):
                await nursery.start(person, n)
            await meanwhile()
    for room in rooms:
        assert sorted(sent[room]) == list(range(1, total + 1))
        orders = [seen[n, room] for n in range(PEOPLE)]
        assert [seq for seq, _ in orders[0]] == list(range(1, total + 1))
        assert len({text for _, text in orders[0]}) == total
        assert all(order == orders[0] for order in orders)
    assert sum(rb.stats.duplicates + rb.stats.gaps for rb in clients) == 0
    return clients


async def test_a_rolling_restart_is_no_event(autojump_clock: MockClock) -> None:
    """Three nodes, each drained and started again in its turn: everybody moves at the slot given and resumes."""
    async with serving_cluster(3, limits=LIMITS) as nodes:
        told = 0

        async def deploy() -> None:
            nonlocal told
            for node in nodes:
                await trio.sleep(2)
                drained = await node.node.drain()
                assert (drained.ended, drained.unanswered) == (0, 0)
                assert drained.left == drained.told
                assert drained.seconds <= 10
                told += drained.told
                await node.restart()

        clients = await talk(nodes, 40, 1.0, deploy)
        assert told >= PEOPLE  # the later nodes had those of the earlier ones as well
        assert sum(rb.stats.resumes for rb in clients) == told
        assert sum(rb.stats.resumes_rejected for rb in clients) == 0


async def test_everybody_comes_back_at_the_planned_rate(autojump_clock: MockClock) -> None:
    """The other node sees the clients one by one over the spread, not as a herd."""
    async with serving_cluster(2, limits=LIMITS) as (a, b):
        arrivals: list[float] = []
        enter = b.node.enter

        def note(*arguments: object) -> None:
            arrivals.append(trio.current_time())
            enter(*arguments)  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:

            async def stay(n: int, *, task_status: trio.TaskStatus[None]) -> None:
                async with connect([a.url, b.url], token(f"user:p{n}"), rng=InOrder()) as rb:
                    await rb.ready()
                    task_status.started()
                    await trio.sleep_forever()

            for n in range(PEOPLE):
                await nursery.start(stay, n)
            b.node.enter = note  # type: ignore[method-assign]
            drained = await a.node.drain()
            assert (drained.told, drained.left) == (PEOPLE, PEOPLE)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(arrivals) == PEOPLE
        gaps = [late - early for early, late in pairwise(arrivals)]
        assert 0.5 < min(gaps) <= max(gaps) < 0.9  # eight seconds for twelve, by the mock clock


async def test_a_client_alone_waits_for_its_only_node(autojump_clock: MockClock) -> None:
    """One url, one node, restarted: the client is refused with a time until the node is back, and then goes on."""
    async with serving_node(limits=LIMITS) as node:

        async def deploy() -> None:
            await trio.sleep(5)
            drained = await node.node.drain()
            assert drained.unanswered == 0
            await trio.sleep(3)
            await node.restart()

        clients = await talk([node], 20, 1.0, deploy)
        assert sum(rb.stats.resumes for rb in clients) == PEOPLE


async def test_a_node_that_left_is_not_waited_for(autojump_clock: MockClock) -> None:
    """The others know at once that it is gone, not a lease later, and its stragglers are offline."""
    async with serving_cluster(2) as (a, b):
        assert b.node.cluster is not None
        await a.stream("chat:ops")
        async with hello(b.url, "user:bob", {"chat:ops": {}}) as bob, hello(a.url, "user:amy", {"chat:ops": {}}):
            online = {"op": "signal", "kind": "presence", "by": "user:amy", "value": "online"}
            assert (await bob.next(**online))["stream"] == "chat:ops"
            drained = await a.node.drain(1.0)
            assert drained.ended == 1
            await until(lambda: not b.node.cluster.gossip.nodes)  # type: ignore[union-attr]
            assert trio.current_time() < b.node.limits.lease_s
            online["value"] = "offline"
            assert (await bob.next(**online))["stream"] == "chat:ops"
