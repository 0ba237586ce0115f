"""Nodes of the test's own process on a real Redis and a real Postgres, for cases that look into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import redis as redis_py
import trio

from core.limits import Limits
from gateway.cluster import Cluster
from store.bus import RedisBus
from store.links import StoreLimits
from store.postgres import open_postgres_log
from tests.faults.crowd import PATIENCE_S, Crowd, Person, eventually
from tests.hostile.scene import watched_log
from tests.nodes import TestNode, serving_cluster, until
from tests.servers import Database

IMPATIENT = StoreLimits(query_timeout_s=1.0, connect_timeout_s=1.0)
LIMITS = replace(Limits(), lease_s=2.0, node_beat_s=0.4, presence_grace_s=0.5)


def cluster_of(node: TestNode) -> Cluster:
    cluster = node.node.cluster
    assert cluster is not None
    return cluster


def reopenings(node: TestNode) -> int:
    """How often its bus was well again."""
    bus = node.bus
    assert isinstance(bus, RedisBus)
    return bus.reconnects


def urls_of(nodes: Sequence[TestNode]) -> dict[str, str]:
    return {node._name: node.url for node in nodes}


@asynccontextmanager
async def nodes_over(
    database: Database, redis_url: Callable[[str], str] | str, *, count: int = 3, expected: str | None = None
) -> AsyncIterator[list[TestNode]]:
    """``redis_url``: one for all, or by the node's name. No line of their log may be an error but the ``expected``."""

    def url_of(name: str) -> str:
        return redis_url if isinstance(redis_url, str) else redis_url(name)

    with watched_log(expected=expected):
        async with open_postgres_log(database.url, limits=IMPATIENT) as log:
            cell = str((await log.epoch()).log)
            async with serving_cluster(
                count,
                log=log,
                limits=LIMITS,
                make_bus=lambda node_id: RedisBus(url_of(node_id[0]), cell=cell, node=node_id),
            ) as nodes:
                await whole(nodes)
                yield nodes


async def whole(nodes: Sequence[TestNode]) -> None:
    """Until every node hears every other by the bus."""
    for node in nodes:
        await until(
            lambda node=node: (
                cluster_of(node).bus.trouble is None  # type: ignore[misc]
                and len(cluster_of(node).gossip.nodes) == len(nodes) - 1
            ),
            PATIENCE_S,
        )


async def away(node: TestNode) -> str:
    """Until the node says that its bus is away, as readiness and the metric do; returns why."""
    await until(lambda: cluster_of(node).bus.trouble is not None, PATIENCE_S)
    health = node.desk.health()
    assert health.ready  # Redis is only speed
    assert str(health.facts["bus"]).startswith("away, the log is tailed meanwhile: ")
    assert b"\nreadback_bus_up 0\n" in node.desk.metrics_text()
    return cluster_of(node).bus.trouble or ""


async def used_again(nodes: Sequence[TestNode], crowd: Crowd) -> None:
    """The bus is whole, readiness and metrics say so, and every node that has people takes batches from it."""
    await whole(nodes)
    nodes = [node for node in nodes if crowd.on(node._name)]
    before = [cluster_of(node).batches_in for node in nodes]
    await crowd.delivered(30)
    for node, taken in zip(nodes, before, strict=True):
        await until(lambda node=node, taken=taken: cluster_of(node).batches_in > taken, PATIENCE_S)  # type: ignore[misc]
        assert node.desk.health().facts["bus"] == "ok"
        assert b"\nreadback_bus_up 1\n" in node.desk.metrics_text()


async def present_everywhere(crowd: Crowd, stream: str, people: Sequence[Person]) -> None:
    """Until a client of each node that has any is told that these, and nobody else, are online."""
    expected = sorted(person.principal for person in people)
    askers = {person.node: person for person in crowd.people if person.online}
    assert askers
    for asker in askers.values():

        async def right(asker: Person = asker) -> bool:
            return await asker.roster(stream) == expected

        await eventually(right)


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[Callable[..., Any]]:
    """What somebody at redis-cli can do: ``await ask("CLIENT", "KILL", "TYPE", "pubsub")``."""
    client = redis_py.Redis.from_url(url, socket_timeout=PATIENCE_S)

    async def ask(*command: str | bytes | int) -> Any:
        return await trio.to_thread.run_sync(client.execute_command, *command)

    try:
        yield ask
    finally:
        client.close()
