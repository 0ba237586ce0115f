"""Somebody else writes on our channels, with an ordinary client: noise, forgeries, and an echo of all we ever said."""

from __future__ import annotations

import re
from collections import deque

import pytest
import redis as redis_py
import trio

from core import batches
from core.seal import Seals
from store.embedded_redis import EmbeddedRedis
from tests.faults.crowd import PATIENCE_S, crowd_on
from tests.faults.inside import cluster_of, nodes_over, operator, present_everywhere, reopenings, urls_of
from tests.nodes import TestNode, until
from tests.servers import Database

pytestmark = pytest.mark.slow

OPS = "chat:ops"
ROOMS = [OPS, "chat:crew"]


def rejected(node: TestNode) -> int:
    """As its metrics say."""
    found = re.findall(rb"^readback_bus_rejected_total\{[^}]*\} (\d+)$", node.desk.metrics_text(), re.MULTILINE)
    assert len(found) == 2
    return sum(map(int, found))


async def test_noise_and_forgeries_on_every_channel(database: Database, redis_server: EmbeddedRedis) -> None:
    """Each is counted at each node that listens there, none is believed, nobody's link is given up for it."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
        operator(redis_server.url) as ask,
    ):
        channels: list[bytes] = [
            name for name in await ask("PUBSUB", "CHANNELS", "readback:*") if b"canary" not in name
        ]
        kinds = {re.sub(rb":\d+$", b"", name.strip(b"}").partition(b":{")[2].partition(b":")[2]) for name in channels}
        assert kinds == {b"events", b"signals", b"nodes", b"sessions", b"trims", b"revocations", b"rows"}
        stream = nodes[0].node.hub.by_name["demo", OPS]
        lie = batches.encode(stream.partition, 10**6, 10**6, [(stream.sid, 10**6, b"\x81\x02{}")])
        another_key = Seals({"k": b"k" * 32})
        noise = [b"", b"\x00", b"x" * 1_000_000, b"{}", b"\x01" * 80, lie, another_key.seal(channels[0].decode(), lie)]
        for name in channels:
            # Of another node's canary nobody takes notice; what comes on one's own is compared with what was sent.
            for message in noise:
                before = [rejected(node) for node in nodes]
                heard = await ask("PUBLISH", name, message)
                assert heard == len(nodes)
                for node, was in zip(nodes, before, strict=True):
                    await until(lambda node=node, was=was: rejected(node) == was + 1, PATIENCE_S)  # type: ignore[misc]
        for canary in await ask("PUBSUB", "CHANNELS", "*canary*"):
            for message in noise:
                await ask("PUBLISH", canary, message)
        await crowd.delivered(60)
        await present_everywhere(crowd, OPS, crowd.people)
        assert all(person.welcomed == 1 for person in crowd.people)
        assert [reopenings(node) for node in nodes] == [0, 0, 0]
        assert [cluster_of(node).malformed for node in nodes] == [0, 0, 0]


async def test_everything_is_said_again_by_a_parrot(database: Database, redis_server: EmbeddedRedis) -> None:
    """Somebody records all that nodes tell each other and says it again, twice, late and backwards: the seals are good,
    and nothing changes, neither what is delivered nor who is present nor who speaks for a session."""
    async with (
        nodes_over(database, redis_server.url) as nodes,
        crowd_on(urls_of(nodes), database, ROOMS) as crowd,
        trio.open_nursery() as nursery,
    ):
        recorded: deque[tuple[bytes, bytes]] = deque(maxlen=500)
        repeated = 0

        def listen_and_repeat(stop: trio.Event) -> None:
            nonlocal repeated
            client = redis_py.Redis.from_url(redis_server.url, socket_timeout=PATIENCE_S)
            ears = client.pubsub()  # type: ignore[no-untyped-call]
            ears.psubscribe("readback:*")
            said: set[bytes] = set()
            while not stop.is_set():
                message = ears.get_message(timeout=0.05)
                if message is not None and message["type"] == "pmessage" and message["data"] not in said:
                    recorded.append((message["channel"], message["data"]))
                if len(recorded) >= 50:
                    for _ in range(2):
                        for channel, data in reversed(recorded):
                            said.add(data)
                            client.publish(channel, data)
                            repeated += 1
                    recorded.clear()
            ears.close()
            client.close()

        stop = trio.Event()
        nursery.start_soon(trio.to_thread.run_sync, listen_and_repeat, stop)
        try:
            await crowd.delivered(100)
            moving = crowd.people[0]
            here = moving.node
            for node in nodes:
                if node._name == here:
                    await node.restart()  # sessions move, and what was said of them before is repeated afterwards
            await crowd.until(lambda: moving.resumed > 0)
            before = repeated
            await until(lambda: repeated >= before + 300, PATIENCE_S)
            await crowd.delivered(30)
            await present_everywhere(crowd, OPS, crowd.people)
        finally:
            stop.set()
        assert sum(person.resumed for person in crowd.people) == 3
        assert not any(person.superseded for person in crowd.people)
