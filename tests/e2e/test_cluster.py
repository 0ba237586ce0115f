"""Many nodes, one log: what a client of one sees of clients of the others, with the bus well, lying and away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from core import batches
from core.limits import Limits
from core.seal import Seals
from core.tokens import Identity
from store.memory_bus import MemoryBroker, MemoryBus
from tests.nodes import SECRETS, TestNode, bus_away, bus_back, memory_log, serving_cluster, token, until
from tests.wire_client import WireClient, hello

QUIET = replace(Limits(), heads_interval_s=3600.0)
"""Nobody compares heads: what arrives has come by the bus."""


@asynccontextmanager
async def everywhere(nodes: list[TestNode], stream: str = "chat:ops") -> AsyncIterator[list[WireClient]]:
    """One client a node, each following the stream."""
    clients: list[WireClient] = []

    async def one(node: TestNode, name: str, task_status: trio.TaskStatus[None]) -> None:
        async with hello(node.url, name, {stream: {}}) as client:
            clients.append(client)
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number, node in enumerate(nodes):
            await nursery.start(one, node, f"user:u{number}")
        for node in nodes:  # what is sent from now on comes by the bus
            cluster = node.node.cluster
            assert cluster is not None
            held = [f"events:{partition}" for partition in node.node.follower.held]
            await until(lambda cluster=cluster, held=held: cluster.listens_to(held))  # type: ignore[misc]
        yield clients
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def stranger_on(broker: MemoryBroker) -> AsyncIterator[MemoryBus]:
    """Somebody on the bus that is no node."""
    async with trio.open_nursery() as nursery:
        bus = MemoryBus(broker)
        nursery.start_soon(bus.run)
        await until(lambda: bus.trouble is None)
        yield bus
        nursery.cancel_scope.cancel()


def bus_counts(node: TestNode) -> tuple[int, int]:
    """(batches taken from the bus, events read from the log)"""
    assert node.node.cluster is not None
    return node.node.cluster.batches_in, node.node.follower.tailed


async def test_what_is_sent_at_one_node_is_delivered_at_all() -> None:
    """By the bus, without a read of the log: every client sees one order, gap-free."""
    async with serving_cluster(3, limits=QUIET) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as clients:
            for n in range(30):
                assert (await clients[n % 3].send("chat:ops", f"{n}"))["seq"] == n + 1
            for client in clients:
                assert [e["body"]["text"] for e in await client.events("chat:ops", 30)] == [str(n) for n in range(30)]
            for node in nodes:
                taken, tailed = bus_counts(node)
                assert taken >= 20
                assert tailed == 0


async def test_senders_at_every_node_at_once_make_one_order() -> None:
    """Nodes commit to one partition at the same time; batches that come before their turn wait for the others."""
    async with serving_cluster(3, limits=QUIET) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as clients, trio.open_nursery() as nursery:

            async def talk(client: WireClient) -> None:
                for n in range(40):
                    await client.say(
                        "send", stream="chat:ops", key=f"{id(client) % 16**8:08x}-0000-4000-8000-{n:012x}", body=n
                    )
                    await trio.lowlevel.checkpoint()

            for client in clients:
                nursery.start_soon(talk, client)
            orders = [[e["key"] for e in await client.events("chat:ops", 120)] for client in clients]
            assert orders[0] == orders[1] == orders[2]
            assert len(set(orders[0])) == 120


async def test_a_lost_batch_is_read_from_the_log_when_the_next_one_comes() -> None:
    """A jump of positions is a read of what is missing, not a wait for the next look at the heads."""
    broker = MemoryBroker()
    async with serving_cluster(2, limits=QUIET, broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob):
            broker.lose = lambda channel, payload: channel.startswith("events:")
            await amy.send("chat:ops", "lost")
            await amy.send("chat:ops", "lost too")
            broker.lose = lambda channel, payload: False
            await amy.send("chat:ops", "arrives")
            assert [e["seq"] for e in await bob.events("chat:ops", 3)] == [1, 2, 3]
            assert bus_counts(nodes[1])[1] >= 2


async def test_silence_is_noticed_by_position() -> None:
    """Every batch is lost and no other follows: the look at the heads finds it."""
    broker = MemoryBroker()
    async with serving_cluster(2, limits=replace(Limits(), heads_interval_s=0.05), broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob):
            broker.lose = lambda channel, payload: channel.startswith("events:")
            await amy.send("chat:ops", "lost")
            assert (await bob.next("event"))["seq"] == 1


async def test_without_the_bus_sends_and_delivery_go_on() -> None:
    """The bus goes away: said in readiness and metrics, nothing lost, delivered by reading the log; back: by the bus again."""
    broker = MemoryBroker()
    async with serving_cluster(2, limits=QUIET, broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob):
            await bus_away(broker, nodes)
            for n in range(1, 6):
                assert (await amy.send("chat:ops", "on we go"))["seq"] == n
                assert (await bob.next("event"))["seq"] == n
            health = nodes[1].desk.health()
            assert health.ready
            assert "away" in str(health.facts["bus"])
            assert b"readback_bus_up 0" in nodes[1].desk.metrics_text()
            await bus_back(broker, nodes)
            assert nodes[1].desk.health().facts["bus"] == "ok"
            assert b"readback_bus_up 1" in nodes[1].desk.metrics_text()
            await amy.send("chat:ops", "and again")
            assert (await bob.next("event"))["seq"] == 6


async def test_what_came_while_the_bus_was_away_is_there_when_it_is_back() -> None:
    """The return of the bus makes every partition be looked at, whatever the clock says."""
    broker = MemoryBroker()
    never = replace(QUIET, tail_interval_s=3600.0)
    async with serving_cluster(2, limits=never, broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob):
            await bus_away(broker, nodes)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await amy.send("chat:ops", "unheard")
            broker.down = False
            assert (await bob.next("event"))["seq"] == 1


async def test_who_finds_the_bus_back_last_is_heard_meanwhile() -> None:
    """A node that has the bus again reads the log as often as without, for a while: others may commit and not tell."""
    broker = MemoryBroker()
    async with serving_cluster(2, limits=QUIET, broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob):
            await bus_away(broker, nodes)
            broker.lose = lambda channel, payload: channel.startswith("events:")  # as if the sender were away still
            await bus_back(broker, nodes)
            await trio.lowlevel.checkpoint()
            await amy.send("chat:ops", "unheard")
            assert (await bob.next("event"))["seq"] == 1


async def test_a_stranger_on_the_bus_is_counted_and_not_believed() -> None:
    """Noise, batches sealed with another key, and good seals around nonsense change nothing for anybody."""
    broker = MemoryBroker()
    async with serving_cluster(2, limits=QUIET, broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob), stranger_on(broker) as stranger:
            stream = nodes[1].node.hub.by_name["demo", "chat:ops"]
            channel = f"events:{stream.partition}"
            forged = batches.encode(stream.partition, 1, 1, [(stream.sid, 1, b"\x81\x02{}")])
            cluster = nodes[1].node.cluster
            assert cluster is not None
            other_key, ours = Seals({"k": b"k" * 32}), Seals(SECRETS.resume_keys)
            for where in (channel, "nodes", "sessions", "trims", f"signals:{stream.partition}"):
                for noise in (b"", b"\x00" * 64, b"{}", other_key.seal(where, forged), forged):
                    stranger.publish(where, noise)
            foreign = 5 * 5
            await until(lambda: cluster.foreign == foreign)
            for where in (channel, "nodes", "sessions", "trims", f"signals:{stream.partition}"):
                for nonsense in (b"", b"[]", b"\xff" * 40, b'{"a":1}', b"[1,2,3]", b'["s",true,{}]'):
                    stranger.publish(where, ours.seal(where, nonsense))
            wrong_partition = batches.encode((stream.partition + 1) % 16, 1, 1, [(stream.sid, 1, b"\x81\x02{}")])
            stranger.publish(channel, ours.seal(channel, wrong_partition))
            await until(lambda: cluster.malformed == 5 * 6 + 1)
            assert (await amy.send("chat:ops", "the truth"))["seq"] == 1
            assert (await bob.next("event"))["body"] == {"text": "the truth"}
            assert cluster.foreign == foreign


async def test_a_batch_that_the_log_does_not_know_is_undone() -> None:
    """Somebody with the key tells of events that were never committed: the log wins, and clients start from it again."""
    broker = MemoryBroker()
    async with serving_cluster(2, limits=replace(Limits(), heads_interval_s=0.05), broker=broker) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob), stranger_on(broker) as stranger:
            stream = nodes[1].node.hub.by_name["demo", "chat:ops"]
            channel = f"events:{stream.partition}"
            lie = batches.encode(stream.partition, 1, 3, [(stream.sid, seq, b"\x81\x02{}") for seq in (1, 2, 3)])
            stranger.publish(channel, Seals(SECRETS.resume_keys).seal(channel, lie))
            assert (await bob.closed())[0] == 4000
            await until(lambda: nodes[1].node.follower.restored > 0)
            assert (await amy.closed())[0] == 4000
        async with everywhere(nodes) as (amy, bob):
            assert (await amy.send("chat:ops", "the truth"))["seq"] == 1
            assert (await bob.next("event"))["body"] == {"text": "the truth"}


async def test_a_removal_takes_effect_on_every_node() -> None:
    """A member is removed at one node: at another it gets what came before and nothing after."""
    async with serving_cluster(2, limits=QUIET) as nodes:
        await nodes[0].stream("chat:crew", open=False, members={"user:u0": "owner", "user:u1": "member"})
        async with everywhere(nodes, "chat:crew") as (amy, bob):
            await amy.send("chat:crew", "before")
            owner = nodes[0].node.proving.verify(token("user:u0"))
            assert isinstance(owner, Identity)
            await nodes[0].desk.remove_member(owner, "chat:crew", "user:u1")
            await amy.send("chat:crew", "after")
            assert (await bob.next("unsub"))["seq"] == 2
            assert [f["seq"] for f in bob.seen if f["op"] == "event"] == [1, 2]
            assert (await bob.ask("send", stream="chat:crew", key="0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11", body=1))[
                "code"
            ] == "forbidden"


async def test_what_was_trimmed_is_forgotten_by_every_node() -> None:
    """Rings of other nodes give out no more of it than the log does."""
    async with serving_cluster(2, limits=QUIET) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as (amy, bob):
            for n in range(1, 5):
                await amy.send("chat:ops", f"{n}")
            await bob.events("chat:ops", 4)
            admin = nodes[0].node.proving.verify(token("user:admin", roles=["admin"]))
            assert isinstance(admin, Identity)
            assert await nodes[0].desk.trim(admin, "chat:ops", 4) == 4
            await until(lambda: nodes[1].node.hub.by_name["demo", "chat:ops"].first == 4)
            async with hello(nodes[1].url, "user:carl", {"chat:ops": {"after": 0}}) as carl:
                assert (await carl.next("reset"))["first"] == 4
                assert [e["seq"] for e in await carl.events("chat:ops", 4)] == [4]


async def test_a_node_that_holds_nothing_reads_nothing() -> None:
    """Partitions without local streams are neither listened to nor read; a stream opened later starts at its head."""
    log = memory_log()
    async with serving_cluster(2, log=log, limits=replace(Limits(), heads_interval_s=0.02)) as nodes:
        await nodes[0].stream("chat:ops")
        async with hello(nodes[0].url, "user:amy", {"chat:ops": {}}) as amy:
            for n in range(5):
                await amy.send("chat:ops", f"{n}")
            heads = await log.heads()
            await until(lambda: nodes[1].node.hub.pos == heads)
            assert bus_counts(nodes[1]) == (0, 0)
            async with hello(nodes[1].url, "user:bob", {"chat:ops": {"after": 3}}) as bob:
                assert [e["seq"] for e in await bob.events("chat:ops", 5)] == [4, 5]
                await amy.send("chat:ops", "live")
                assert (await bob.next("event"))["seq"] == 6


async def test_a_node_that_dies_takes_nothing_along() -> None:
    """Its clients come back elsewhere with their cursors and miss nothing; the others never notice."""
    async with serving_cluster(3) as nodes:
        await nodes[0].stream("chat:ops")
        async with everywhere(nodes) as clients:
            for client in clients:
                await client.send("chat:ops", "hello")
            await clients[2].events("chat:ops", 3)
            await nodes[2].stop()
            await clients[0].send("chat:ops", "while you were away")
            await clients[1].events("chat:ops", 4)
            async with hello(nodes[0].url, "user:u2", {"chat:ops": {"after": 3}}) as back:
                assert [e["body"]["text"] for e in await back.events("chat:ops", 4)] == ["while you were away"]
